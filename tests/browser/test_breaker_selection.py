"""The list in a real browser: found by filter, ticked, acted on, by mouse and keyboard."""

import json

import pytest
from playwright.sync_api import expect

LIST = "/admin/analytics_admin/circuitbreaker/"
STATES = """
import json
from analytics_admin.services import list_breakers
print(json.dumps({status.name: status.state for status in list_breakers()}))
"""


def states(site):
    return json.loads(site.run(STATES))


def test_a_breaker_is_found_by_the_filter_ticked_and_reset(site, sign_in):
    page = sign_in(java_script_enabled=False, at=LIST)
    page.get_by_label("Name contains").fill("cat")
    page.get_by_label("State").select_option("open")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(1)
    expect(page.get_by_label("Name contains")).to_have_value("cat")
    page.get_by_label("Select catalog.search").check()
    page.get_by_role("button", name="Reset selected").click()
    page.get_by_role("button", name="Reset 1 circuit breaker").click()
    expect(page.locator("#aa-none")).to_have_text("No circuit breaker matches.")
    assert page.url.endswith("?search=cat&state=open")
    expect(page.locator("#aa-verdict")).to_have_text("0 of 2 breakers open")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(2)


@pytest.mark.parametrize("javascript", [True, False])
def test_where_a_ticked_breaker_has_moved_nothing_is_done_until_it_was_seen(
    site, sign_in, javascript
):
    page = sign_in(java_script_enabled=javascript, at=LIST)
    for name in ("catalog.search", "payment:provider"):
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Disable selected").click()
    site.run(
        "from analytics_admin.services import Actor, reset_circuit_breakers\n"
        "reset_circuit_breakers(names=['catalog.search'], actor=Actor.system('root'))"
    )
    page.get_by_role("button", name="Disable 2 circuit breakers").click()
    expect(page.locator(".messagelist .error")).to_contain_text("nothing was done")
    assert set(states(site).values()) == {"closed"}
    page.get_by_role("button", name="Disable 2 circuit breakers").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert set(states(site).values()) == {"disabled"}


def test_nothing_ticked_is_told(site, sign_in):
    page = sign_in(at=LIST)
    page.get_by_role("button", name="Disable selected").click()
    expect(page.locator(".messagelist .error")).to_contain_text("Select at least one")
