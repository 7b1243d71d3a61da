"""Holding, releasing and resetting single breakers in a real browser, and that others obey."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST, NEWEST_ROW

LIST = "/admin/analytics_admin/circuitbreaker/"
# What calls meet in another process of the site, and who holds the breaker.
MET = """
import json
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.services import describe_breaker
try:
    with circuit_breaker("payment:provider", wait_duration_in_open_state=600, failure_threshold=1):
        met = "passes"
except CircuitOpenError as error:
    met = error.state
print(json.dumps([met, describe_breaker("payment:provider").status.held_by]))
"""


def test_a_breaker_held_open_by_clicks_is_open_in_other_processes(site, sign_in):
    page = sign_in(at=LIST)
    page.get_by_role("link", name="payment:provider").click()
    expect(page.locator("#aa-state")).to_contain_text("Closed")
    page.get_by_label("Control").select_option("forced_open")
    page.get_by_label("Duration").select_option(label="8 hours")
    page.get_by_label("Reason").fill("provider asked for quiet")
    page.get_by_role("button", name="Set control").click()
    expect(page.locator("#aa-preview")).to_contain_text("Every call is rejected")
    expect(page.locator("#aa-duration")).to_have_text("8 hours")
    expect(page.get_by_label("Reason")).to_have_value("provider asked for quiet")
    assert json.loads(site.run(MET)) == ["passes", ""]
    page.get_by_role("button", name="Yes, hold it").click()
    expect(page.locator(".messagelist .success")).to_have_text(
        "Circuit breaker payment:provider set to forced_open"
    )
    expect(page.locator("#aa-hold")).to_contain_text("by ada")
    expect(page.locator("#aa-hold")).to_contain_text("provider asked for quiet")
    assert json.loads(site.run(MET)) == ["forced_open", "ada"]
    assert json.loads(site.run(NEWEST_ROW))["reason"] == "provider asked for quiet"
    page.get_by_label("Control").select_option("automatic")
    page.get_by_role("button", name="Set control").click()
    page.get_by_role("button", name="Yes, release it").click()
    expect(page.locator("#aa-state")).to_contain_text("Half open")
    assert json.loads(site.run(MET)) == ["passes", ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_a_held_breakers_pages_fit_the_screen_and_can_be_read(site, sign_in, scheme, width):
    site.run(
        "from analytics_admin.services import Actor, set_breaker_control\n"
        "set_breaker_control(name='catalog.search', control='forced_open', reason='r' * 500,\n"
        "    actor=Actor.system('nightly-import-of-prices@shop.example.com'))"
    )
    page = sign_in(color_scheme=scheme, viewport={"width": width, "height": 700}, at=LIST)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5
    for button in ["Set control", "Reset this circuit breaker"]:
        page.goto(f"{LIST}catalog.search/")
        for _ in range(2):  # the page, then its confirm page
            page.wait_for_load_state()  # before that, a narrow page can be as wide as any
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5
            if page.get_by_role("button", name=button).count():
                page.get_by_label("Control").select_option("disabled")
                page.get_by_role("button", name=button).click()
                expect(page.locator("#aa-preview")).to_be_visible()
