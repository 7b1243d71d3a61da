"""The console in a real browser: from login to message, by mouse and keyboard, with and without
JavaScript, under a strict content policy, on a phone and in the dark."""

import json
import re

import pytest
from playwright.sync_api import expect

KEYS_LEFT = """
import json
from django.core.cache import caches
from analytics_admin.services import list_breakers
print(json.dumps({
    "searches": [n for n in range(5) if caches["search"].get(f"query-{n}") is not None],
    "breakers": {status.name: status.state for status in list_breakers()},
}))
"""
NEWEST_ROW = """
import json
from analytics_admin.models import Operation
print(json.dumps(Operation.objects.values("kind", "status", "channel", "actor", "reason").first()))
"""
UNTOUCHED = {"catalog.search": "open", "payment:provider": "closed"}
CLOSED = dict.fromkeys(UNTOUCHED, "closed")

# The lowest contrast of text against its background among the console's own parts.
LOWEST_CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const parts = document.querySelectorAll(
    '.aa-badge, .aa-verdict, .aa-facts dt, .aa-facts dd, .aa-acts .button, .aa-table th, .help');
  return Math.min(...[...parts].filter(part => part.offsetParent).map(part => {
    const [a, b] = [light(rgb(getComputedStyle(part).color)), light(background(part))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""


def ask(site, code):
    return json.loads(site.run(code))


def press(page, name, *, how):
    """Press a button as a mouse does, or as somebody does who has none."""
    button = page.get_by_role("button", name=name)
    if how == "click":
        button.click()
        return
    for _ in range(80):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name!r} is not reached by the keyboard")


WAYS = pytest.mark.parametrize(
    ("javascript", "how"), [(True, "click"), (True, "keyboard"), (False, "click")]
)


@WAYS
def test_the_search_cache_is_cleared_from_the_admin(site, sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript)
    page.get_by_role("link", name="Search cache").first.click()
    expect(page.locator("#aa-store")).to_contain_text("Reachable")
    expect(page.locator("#aa-keys")).to_have_text("5")
    press(page, "Clear search cache", how=how)
    expect(page.locator("#aa-preview")).to_contain_text("5 keys will be removed.")
    expect(page.get_by_text("done by ada")).to_be_visible()
    assert ask(site, KEYS_LEFT)["searches"] == [0, 1, 2, 3, 4]
    page.get_by_label("Reason").fill("stale prices")
    press(page, "Yes, clear the search cache", how=how)
    expect(page.locator(".messagelist .success")).to_have_text("Search cache cleared")
    expect(page.locator("#aa-keys")).to_have_text("0")
    expect(page.locator("#aa-last-clear")).to_contain_text("by ada: stale prices")
    assert ask(site, KEYS_LEFT) == {"searches": [], "breakers": UNTOUCHED}
    assert ask(site, NEWEST_ROW) == {
        "kind": "clear_search_cache",
        "status": "done",
        "channel": "admin",
        "actor": "ada",
        "reason": "stale prices",
    }


@WAYS
def test_all_breakers_are_reset_from_the_admin(site, sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript)
    page.get_by_role("link", name="Circuit breakers").first.click()
    expect(page.locator("#aa-verdict")).to_have_text("1 of 2 breakers open")
    press(page, "Reset all circuit breakers", how=how)
    expect(page.locator("#aa-preview")).to_contain_text("2 circuit breakers will be closed")
    expect(page.locator("#aa-preview tbody tr").first).to_contain_text("catalog.search")
    page.get_by_label("Reason").fill("backend is back")
    press(page, "Yes, reset 2 circuit breakers", how=how)
    expect(page.locator(".messagelist .success")).to_have_text(
        "All circuit breakers reset successfully"
    )
    expect(page.locator("#aa-verdict")).to_have_text("0 of 2 breakers open")
    assert ask(site, KEYS_LEFT) == {"searches": [0, 1, 2, 3, 4], "breakers": CLOSED}
    assert ask(site, NEWEST_ROW)["reason"] == "backend is back"


@pytest.mark.parametrize("javascript", [True, False])
def test_only_the_open_breakers_are_reset(site, sign_in, javascript):
    page = sign_in(java_script_enabled=javascript, at="/admin/analytics_admin/circuitbreaker/")
    page.get_by_role("button", name="Reset only open ones").click()
    expect(page.locator("#aa-preview tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Yes, reset 1 circuit breaker").click()
    expect(page.locator(".messagelist .success")).to_have_text(
        "1 circuit breakers reset successfully"
    )
    assert ask(site, KEYS_LEFT)["breakers"] == CLOSED


def test_going_back_changes_nothing(site, sign_in):
    page = sign_in(at="/admin/analytics_admin/searchcache/")
    page.get_by_role("button", name="Clear search cache").click()
    page.get_by_role("link", name="No, go back").click()
    expect(page.locator("#aa-keys")).to_have_text("5")
    assert ask(site, NEWEST_ROW) is None


@pytest.mark.parametrize(
    ("path", "button", "failure"),
    [
        ("searchcache/", "Clear search cache", "Failed to clear cache: "),
        (
            "circuitbreaker/",
            "Reset all circuit breakers",
            "Failed to reset circuit breakers: ",
        ),
    ],
)
def test_with_a_frozen_store_the_page_says_unknown_and_the_act_says_why(
    site, sign_in, path, button, failure
):
    page = sign_in()
    site.store.freeze()
    try:
        page.goto(f"/admin/analytics_admin/{path}")
        expect(page.locator("#content-main")).to_contain_text("Unknown")
        expect(page.locator(".aa-good")).to_have_count(0)
        page.get_by_role("button", name=button).click()
        expect(page.locator("#aa-preview")).to_contain_text("What this would change is unknown")
        page.get_by_role("button", name=re.compile("^Yes, ")).click()
        expect(page.locator(".messagelist .error")).to_contain_text(failure)
    finally:
        site.store.thaw()
    assert ask(site, NEWEST_ROW)["status"] in {"failed", "unknown"}


def test_hostile_names_and_reasons_are_shown_as_text(sign_in):
    name, reason = "<b id=hostile>eve</b>", "<img id=hostile src=x onerror=alert(1)>"
    page = sign_in(name, at="/admin/analytics_admin/searchcache/")
    page.get_by_role("button", name="Clear search cache").click()
    expect(page.get_by_text(f"done by {name}")).to_be_visible()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Yes, clear the search cache").click()
    expect(page.locator("#aa-last-clear")).to_contain_text(f"by {name}: {reason}")
    expect(page.locator("#hostile")).to_have_count(0)
    page.locator("#aa-last-clear a").click()
    expect(page.locator("#aa-reason")).to_have_text(reason)
    expect(page.locator("#hostile")).to_have_count(0)
    page.goto("/admin/analytics_admin/operation/")
    expect(page.locator("td.field-reason_shown")).to_have_text(reason)
    expect(page.locator("#hostile")).to_have_count(0)


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
    page.locator("#result_list tbody a").first.click()
    expect(page.locator("#aa-outcome")).to_contain_text("Keys removed")
    page.get_by_text("as they are on record").click()
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
    expect(page.locator("td.field-reason_shown")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("javascript", [True, False])
def test_very_many_breakers_are_leafed_through(site, sign_in, javascript):
    site.run(
        "from analytics_admin.breakers import circuit_breaker\n"
        "for number in range(130):\n"
        "    with circuit_breaker(f'many-{number:03}'):\n"
        "        pass\n"
    )
    page = sign_in(java_script_enabled=javascript, at="/admin/analytics_admin/circuitbreaker/")
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(100)
    expect(page.locator("#aa-breakers tbody tr").first).to_contain_text("catalog.search")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="2").click()
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(32)
    expect(page.locator("#aa-verdict")).to_have_text("1 of 132 breakers open")
