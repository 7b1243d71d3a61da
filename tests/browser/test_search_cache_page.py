"""The search cache's page in a browser: charts, tags; live, by keyboard, on a phone."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

PAGE = "/admin/analytics_admin/searchcache/"

# Two hours of calls, with a quarter of an hour without any.
CALLS = """
import time
from analytics_admin.caching.statistics.store import Batch, open_statistics_store
from analytics_admin.caching.statistics.counters import Counts

now = int(time.time() // 60)
counts = Counts(hits=90, misses=20, stale_served=5, bypassed=3, saved_seconds=30.0)
minutes = [ago for ago in range(1, 120) if not 40 < ago < 55]
open_statistics_store("breakers", "search", timeout=5).add(
    "seed", [Batch(str(ago), now - ago, counts) for ago in minutes]
)
"""

LEFTOVERS = """
from django.core.cache import caches
from analytics_admin.caching import search_cache

search_cache.set("fresh", 1)
step = caches["search"].client.get_client(write=True).pipeline(transaction=False)
for n in range(5000):
    step.set(caches["search"].make_key(f"2:value:k:{n}"), "1 gone-by 1 0 1\\n1")
step.execute()
"""

TAGGED = """
from analytics_admin.caching import search_cache
search_cache.set("q", 1, tags=["shop:oslo"])
search_cache.set("r", 1, tags=["shop:<b/id=hostile>bergen</b>"])
"""


def no_sideways_scrolling(page):
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return widths[0] <= widths[1]


@pytest.mark.parametrize("javascript", [True, False])
def test_the_charts_are_drawn_and_said_in_words_and_a_period_is_one_click_away(
    sign_in, site, javascript
):
    site.run(CALLS)
    page = sign_in(java_script_enabled=javascript, at=PAGE)
    calls = page.get_by_role("img", name=re.compile("calls in the last 3 hours, at most 118"))
    expect(calls).to_be_visible()
    expect(calls.locator(".aa-area")).to_have_count(4)
    expect(page.get_by_role("img", name="Hit ratio in the last 3 hours: 78.3 %.")).to_be_visible()
    page.get_by_text("Show as a table").click()
    expect(page.locator("#aa-chart-table tbody tr").first).to_be_visible()
    page.get_by_role("link", name="the last 24 hours").click()
    expect(page).to_have_url(re.compile(r"\?hours=24$"))
    expect(page.get_by_role("link", name="the last 24 hours")).to_have_attribute(
        "aria-current", "true"
    )
    expect(page.get_by_role("img", name=re.compile("calls in the last 24 hours"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_fills_stand_out_from_the_page_by_three_to_one(sign_in, site, scheme):
    site.run(CALLS)
    page = sign_in(color_scheme=scheme, at=PAGE)
    drawn = {
        ".aa-area-hits": "fill",
        ".aa-area-misses": "stroke",
        ".aa-hatch-misses": "stroke",
        ".aa-area-stale_served": "stroke",
        ".aa-dots-stale_served": "fill",
        ".aa-area-bypassed": "stroke",
        ".aa-hatch-bypassed": "stroke",
        ".aa-line": "stroke",
        ".aa-mark": "stroke",
    }
    behind = luminance(page, "body", "backgroundColor")
    for selector, color in drawn.items():
        lighter, darker = sorted([luminance(page, selector, color), behind], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, selector


def luminance(page, selector, color):
    """WCAG's relative luminance of an element's computed color."""
    text = page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e)[name]", color)
    parts = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("javascript", [True, False])
def test_a_tag_of_the_list_is_cleared_with_two_more_clicks(sign_in, site, javascript):
    site.run(TAGGED)
    page = sign_in(java_script_enabled=javascript, at=PAGE)
    expect(page.locator("#aa-tags li")).to_have_text(["shop:<b/id=hostile>bergen</b>", "shop:oslo"])
    expect(page.locator("#hostile")).to_have_count(0)
    page.get_by_role("link", name="shop:oslo").click()
    expect(page.get_by_label("Tags")).to_have_value("shop:oslo")
    expect(page.get_by_role("radio", name="By tag")).to_be_checked()
    page.get_by_role("button", name="Clear search cache").click()
    expect(page.locator("#aa-preview")).to_contain_text("1 of 1 tag is in use")
    page.get_by_role("button", name="Yes, clear the search cache").click()
    expect(page.locator(".messagelist .success")).to_have_text("Search cache cleared for 1 tag")


@pytest.mark.parametrize("javascript", [True, False])
def test_tags_with_another_way_are_complained_of_in_place(sign_in, javascript):
    page = sign_in(java_script_enabled=javascript, at=PAGE)
    page.get_by_role("radio", name="Soft:").check()
    page.get_by_label("Tags").fill("products")
    page.get_by_role("button", name="Clear search cache").click()
    field = page.get_by_label("Tags")
    expect(field).to_have_value("products")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(re.compile("This mode clears all results"))
    expect(page.get_by_role("radio", name="Soft:")).to_be_checked()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done yet.")
    field.fill("")
    page.get_by_role("button", name="Clear search cache").click()
    expect(page.locator("#aa-preview")).to_contain_text("for at most 60 s")


def test_the_page_fits_a_phone_with_all_that_it_can_show(sign_in, site):
    site.run(CALLS + LEFTOVERS + TAGGED)
    page = sign_in(viewport={"width": 320, "height": 640}, at=PAGE)
    page.get_by_text("Show as a table").click()
    assert no_sideways_scrolling(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_and_on_what_its_forms_lead_to(sign_in, site, scheme):
    site.run(CALLS + LEFTOVERS + TAGGED)
    page = sign_in(color_scheme=scheme, at=PAGE)
    page.get_by_text("Show as a table").click()
    assert violations(page) == []
    page.get_by_role("radio", name="Soft:").check()
    page.get_by_label("Tags").fill("products")
    page.get_by_role("button", name="Clear search cache").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == []


def violations(page):
    found = Axe().run(page, context="#content-main").response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
