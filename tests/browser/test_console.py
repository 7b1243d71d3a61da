"""The console in a real browser: from login to message, by mouse and keyboard, with and without
JavaScript, under a strict content policy, on a phone and in the dark."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST, NEWEST_ROW


def ask(site, code):
    return json.loads(site.run(code))


def test_going_back_changes_nothing(site, sign_in):
    page = sign_in(at="/admin/analytics_admin/searchcache/")
    page.get_by_role("button", name="Clear search cache").click()
    page.get_by_role("link", name="No, go back").click()
    expect(page.locator("#aa-keys")).to_have_text("5")
    assert ask(site, NEWEST_ROW) is None


def test_the_operations_are_found_and_read(site, sign_in):
    site.run(
        "from analytics_admin.services import Actor, clear_search_cache\n"
        "clear_search_cache(actor=Actor.system('nightly'), reason='ticket 4711')"
    )
    page = sign_in()
    page.get_by_role("link", name="Operations").first.click()
    page.locator("#searchbar").fill("4711")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.wait_for_load_state()  # the viewer's own time moves what stands beside it
    page.locator("#result_list tbody a").first.click()
    expect(page.locator("#aa-outcome")).to_contain_text("Keys removed")
    page.get_by_text("Raw targets and outcome").click()
    expect(page.locator("#aa-record pre")).to_contain_text('"keys": 5')
    expect(page.get_by_role("button", name="Save")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_pages_fit_the_screen_and_can_be_read(sign_in, scheme, width):
    page = sign_in(color_scheme=scheme, viewport={"width": width, "height": 700})
    for path, button in [
        ("searchcache/", "Clear search cache"),
        ("circuitbreaker/", "Reset all circuit breakers"),
    ]:
        page.goto(f"/admin/analytics_admin/{path}")
        for _ in range(2):  # the page, then its confirm page
            page.wait_for_load_state()  # before that, a narrow page can be as wide as any
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5, path
            if page.get_by_role("button", name=button).count():
                page.get_by_role("button", name=button).click()
                expect(page.locator("#aa-preview")).to_be_visible()


@pytest.mark.parametrize("width", [320, 1024, 1100, 1200, 1280, 1600])
def test_the_operations_show_every_column_beside_their_filter(site, sign_in, width):
    reason = "prices were imported again, see ticket 4711; then both of us looked. " + "x" * 400
    site.run(
        "from analytics_admin.services import Actor, clear_search_cache\n"
        "clear_search_cache("
        f"actor=Actor.system('nightly-import@shop.example.com'), reason={reason!r})"
    )
    page = sign_in(viewport={"width": width, "height": 700}, at="/admin/analytics_admin/operation/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate(
        "(it => it.scrollWidth - it.clientWidth)(document.querySelector('.results'))"
    )
    assert cut == 0
    expect(page.locator("td.field-reason_column")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("javascript", [True, False])
def test_very_many_breakers_are_leafed_through(site, sign_in, javascript):
    site.run(  # again where a busy machine takes the store for lost: it then registers nothing
        "import time\n"
        "from analytics_admin.breakers import circuit_breaker\n"
        "from analytics_admin.services import list_breakers\n"
        "for attempt in range(5):\n"
        "    for number in range(130):\n"
        "        with circuit_breaker(f'many-{number:03}'):\n"
        "            pass\n"
        "    if len(list_breakers()) >= 130:\n"
        "        break\n"
        "    time.sleep(6)\n"
    )
    page = sign_in(java_script_enabled=javascript, at="/admin/analytics_admin/circuitbreaker/")
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(100)
    expect(page.locator("#aa-breakers tbody tr").first).to_contain_text("catalog.search")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="2").click()
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(32)
    expect(page.locator("#aa-verdict")).to_have_text("1 of 132 breakers open")
