"""What happens between a page, its confirm page and the operation: nothing that nobody has seen."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HOSTILE_USER, log_in

SECTION = "/admin/analytics_admin/"
BREAKERS = f"{SECTION}circuitbreaker/"
BREAKER = f"{BREAKERS}catalog.search/"
SIGN_OUT_EVERYBODY = (
    "from django.contrib.sessions.models import Session; Session.objects.all().delete()"
)
SEEN = """
import json
from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker
acts = list(Operation.objects.values_list("actor", "status").order_by("started_at"))
print(json.dumps([describe_breaker("catalog.search").status.state, *acts]))
"""


def test_of_two_operators_the_later_one_is_told_and_sees_what_the_other_did(site, sign_in):
    ada, eve = sign_in(at=BREAKER), sign_in(HOSTILE_USER, at=BREAKER)
    watching = sign_in(HOSTILE_USER, at=BREAKERS)
    for page in (ada, eve):
        page.get_by_label("Control").select_option("disabled")
        page.get_by_role("button", name="Set control").click()
        expect(page.get_by_role("button", name="Yes, hold it")).to_be_visible()
    ada.get_by_role("button", name="Yes, hold it").click()
    expect(ada.locator(".messagelist .success")).to_be_visible()
    expect(watching.locator("#aa-breakers")).to_contain_text("by ada")
    eve.get_by_role("button", name="Yes, hold it").click()
    expect(eve.locator(".messagelist .error")).to_contain_text("nothing was done")
    expect(eve.locator("#aa-preview")).to_be_visible()  # the question again, as things are now
    eve.get_by_role("link", name="No, go back").click()
    expect(eve.locator("#aa-hold")).to_contain_text("by ada")
    expect(eve.locator("#aa-timeline")).to_contain_text("ada")
    state, *acts = json.loads(site.run(SEEN))
    assert (state, acts[0]) == ("disabled", ["ada", "done"])
    assert [HOSTILE_USER, "done"] not in acts
    eve.get_by_label("Control").select_option("automatic")
    eve.get_by_role("button", name="Set control").click()
    eve.get_by_role("button", name="Yes, release it").click()
    expect(eve.locator(".messagelist .success")).to_be_visible()
    expect(ada.locator("#aa-state")).to_contain_text("Closed")  # without a reload
    expect(ada.locator("#aa-timeline")).to_contain_text(HOSTILE_USER)


@pytest.mark.parametrize("javascript", [True, False])
def test_who_was_signed_out_before_an_operation_signs_in_and_begins_anew(site, sign_in, javascript):
    page = sign_in(at=BREAKER, java_script_enabled=javascript)
    reset = page.get_by_role("button", name="Reset this circuit breaker")
    confirm = page.get_by_role("button", name="Yes, reset it")
    site.run(SIGN_OUT_EVERYBODY)
    reset.click()
    log_in(page)
    expect(page.locator("#aa-state")).to_contain_text("Open")
    reset.click()
    expect(confirm).to_be_visible()
    site.run(SIGN_OUT_EVERYBODY)
    confirm.click()
    log_in(page)
    expect(page.locator("#aa-state")).to_contain_text("Open")
    assert json.loads(site.run(SEEN)) == ["open"]
    reset.click()
    confirm.click()
    expect(page.locator("#aa-state")).to_contain_text("Closed")
    assert json.loads(site.run(SEEN)) == ["closed", ["ada", "done"]]


@pytest.mark.parametrize(
    ("path", "button", "failure"),
    [
        (f"{SECTION}searchcache/", "Clear search cache", "Failed to clear cache: "),
        (BREAKERS, "Reset all circuit breakers", "Failed to reset circuit breakers: "),
    ],
)
def test_with_a_frozen_store_the_operation_says_why_and_the_page_is_unknown(
    site, sign_in, path, button, failure
):
    page = sign_in(at=path)
    begin, confirm = (
        page.get_by_role("button", name=button),
        page.locator("form:has([name=confirmed]) .aa-danger"),
    )
    error = page.locator(".messagelist .error")
    begin.click()
    expect(confirm).to_be_visible()
    site.store.freeze()
    try:
        confirm.click()
        expect(error).to_contain_text(failure)
        expect(page.locator("#content-main")).to_contain_text("Unknown")
        expect(page.locator("#content-main .aa-good")).to_have_count(0)
        begin.click()
        expect(page.locator("#aa-preview")).to_contain_text("The effect is unknown")
        confirm.click()
        expect(error).to_contain_text(failure)
    finally:
        site.store.thaw()
    state, *acts = json.loads(site.run(SEEN))
    assert state == "open"
    assert len(acts) == 2
    assert {status for _, status in acts} <= {"failed", "unknown"}
