"""A site whose name is typed before an operation: by keyboard, without JavaScript, on a phone.

It is a site of its own: the other tests' operators are not asked.
"""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.conftest import Site
from tests.browser.operator import Operator
from tests.support.servers import StoreServer

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
FIELD = "Environment name"
RESET = "Yes, reset 2 circuit breakers"
SEEN = """
import json
from analytics_admin.models import Operation
from analytics_admin.services import list_breakers
states = sorted({status.state for status in list_breakers()})
print(json.dumps([states, list(Operation.objects.values_list("reason", flat=True))]))
"""


@pytest.fixture(scope="module")
def running_site(tmp_path_factory):
    with StoreServer() as store:
        site = Site(tmp_path_factory.mktemp("typed"), store)
        site.environment["DJANGO_SETTINGS_MODULE"] = "tests.browser.typed_settings"
        with site.serving():
            yield site


@pytest.mark.parametrize(
    ("javascript", "how"), [(False, "keyboard"), (False, "click"), (True, "keyboard")]
)
def test_nothing_is_done_until_the_name_on_the_badge_was_typed(site, sign_in, javascript, how):
    page = sign_in(at=BREAKERS, java_script_enabled=javascript)
    operator = Operator(page=page, how=how)
    operator.press("Reset all circuit breakers")
    operator.write("Reason", "ticket 7")
    operator.write(FIELD, "Production")
    operator.press(RESET)
    field = page.get_by_label(FIELD)
    expect(field).to_have_accessible_description(
        "Type “Rehearsal”. Case-sensitive. That is not the name of this environment."
        " Nothing was done."
    )
    expect(field).to_have_value("")
    expect(page.get_by_label("Reason")).to_have_value("ticket 7")
    assert json.loads(site.run(SEEN)) == [["closed", "open"], []]
    badge = page.locator("#aa-environment").inner_text().removeprefix("Environment:")
    operator.write(FIELD, badge.strip())
    operator.press(RESET)
    expect(page.locator(".messagelist .success")).to_contain_text("reset successfully")
    assert json.loads(site.run(SEEN)) == [["closed"], ["ticket 7"]]


def test_a_browser_sends_no_page_on_which_nothing_was_typed(site, sign_in):
    page = sign_in(at=BREAKERS)
    page.get_by_role("button", name="Reset all circuit breakers").click()
    page.get_by_role("button", name=RESET).click()
    expect(page.get_by_label(FIELD)).to_be_focused()
    assert json.loads(site.run(SEEN)) == [["closed", "open"], []]


def test_the_page_that_asks_bars_nobody_in_either_theme_or_on_a_phone(site, sign_in):
    page = sign_in(  # axe-core measures with inline styles
        at=BREAKERS, bypass_csp=True, viewport={"width": 320, "height": 640}, is_mobile=True
    )
    page.get_by_role("button", name="Reset all circuit breakers").click()
    found = {}
    for when in ("asked", "with another name"):
        page.locator("#aa-preview").wait_for()
        page.wait_for_load_state()
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_timeout(200)  # the admin's links change their color slowly
            found[f"{when}, {theme}"] = violations("confirm", page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, when
        page.get_by_label(FIELD).fill("Production")
        page.get_by_role("button", name=RESET).click()
        page.locator(".errorlist").wait_for()
    assert not any(found.values()), found
