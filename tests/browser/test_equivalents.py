"""Equivalent commands open by keyboard and fit a phone; a double click is one operation."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST, NEWEST_ROW

LIST = "/admin/analytics_admin/circuitbreaker/"
ROWS = """
import json
from analytics_admin.models import Operation
print(json.dumps(Operation.objects.count()))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("javascript", [True, False])
def test_the_lines_open_by_keyboard_and_fit_a_phone(sign_in, scheme, javascript):
    page = sign_in(
        at=LIST,
        color_scheme=scheme,
        viewport={"width": 320, "height": 640},
        is_mobile=True,
        java_script_enabled=javascript,
        bypass_csp=javascript,  # axe-core measures with inline styles
    )
    page.get_by_role("button", name="Reset all circuit breakers").click()
    command = page.locator("#aa-command")
    expect(command).not_to_be_visible()
    page.locator(".aa-equivalents summary").focus()
    page.keyboard.press("Enter")
    expect(command).to_have_text("python manage.py reset_circuit_breakers --no-input")
    expect(command).to_be_visible()
    expect(page.locator("#aa-curl")).to_contain_text("/api/v1/analytics/circuit-breakers/reset")
    if javascript:
        page.wait_for_load_state()  # before that a phone may still show a page 980 px wide
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate(LOWEST_CONTRAST) >= 4.5
        assert Axe().run(page, context=".aa-equivalents").response["violations"] == []


def test_a_button_pressed_twice_acts_once(site, sign_in):
    page = sign_in(at=LIST)
    page.get_by_role("button", name="Reset all circuit breakers").click()
    page.get_by_role("button", name="Yes, reset").dblclick()
    expect(page.locator(".messagelist li")).to_contain_text(
        "All circuit breakers reset successfully"
    )
    assert json.loads(site.run(ROWS)) == 1
    assert json.loads(site.run(NEWEST_ROW))["kind"] == "reset_circuit_breakers"
