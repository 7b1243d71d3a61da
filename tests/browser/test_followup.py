"""An operation's page follows its breakers by itself, as long as it is open."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST

# Prints the address of the operation's page.
RESET = """
from analytics_admin.services import Actor, reset_circuit_breakers
done = reset_circuit_breakers(
    actor=Actor.system("somebody else"), names=["catalog.search", "payment:provider"]
)
print(f"/admin/analytics_admin/operation/{done.operation_id}/")
"""
TRIP = """
from analytics_admin.breakers import circuit_breaker
try:
    with circuit_breaker("catalog.search", failure_threshold=1, wait_duration_in_open_state=600):
        raise ConnectionError
except ConnectionError:
    pass
"""
VERDICT = "#aa-follow-up-verdict"


@pytest.fixture
def act_page(site):
    return site.run(RESET)


def test_a_breaker_that_opens_again_shows_by_itself_and_what_one_was_at_stays(
    site, sign_in, act_page
):
    page = sign_in(at=act_page, viewport={"width": 900, "height": 300})
    expect(page.locator(VERDICT)).to_have_text("All 2 circuit breakers are closed.")
    page.locator("#aa-follow-up-rows a").last.focus()
    page.evaluate("scrollTo(0, 200)")
    page.evaluate("document.title = 'the same page'")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#aa-id code'))")
    selected = page.evaluate("String(getSelection())")
    site.run(TRIP)
    expect(page.locator(VERDICT)).to_contain_text("1 of 2 circuit breakers opened again")
    row = page.locator("#aa-follow-up-rows tbody tr").first
    expect(row).to_contain_text(re.compile(r"Opened again after [\d.]+ s: Consecutive failures"))
    expect(row).to_contain_text("Open")
    assert page.title() == "the same page"
    assert page.evaluate("document.activeElement.textContent") == "payment:provider"
    assert page.evaluate("String(getSelection())") == selected != ""
    assert page.evaluate("scrollY") == 200
    answers = []
    page.on("response", lambda response: answers.append(response.status))
    page.wait_for_timeout(2_500)
    assert answers
    assert set(answers) == {304}


def test_a_frozen_store_reads_unknown_within_a_second_or_so_and_comes_back(site, sign_in, act_page):
    page = sign_in(at=act_page)
    site.store.freeze()
    try:
        expect(page.locator(VERDICT)).to_contain_text("Unknown: the store")
        expect(page.locator("#aa-follow-up-rows")).to_have_count(0)
        began = time.monotonic()
        page.goto(act_page)
        expect(page.locator(VERDICT)).to_contain_text("Unknown: the store")
        assert time.monotonic() - began < 1.5
    finally:
        site.store.thaw()
    expect(page.locator(VERDICT)).to_have_text("All 2 circuit breakers are closed.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("javascript", [True, False])
def test_it_fits_a_phone_and_can_be_read(site, sign_in, act_page, scheme, javascript):
    site.run(TRIP)
    options = {"viewport": {"width": 320, "height": 700}, "java_script_enabled": javascript}
    page = sign_in(at=act_page, color_scheme=scheme, **options)
    expect(page.locator(VERDICT)).to_contain_text("opened again")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5


def test_after_an_operation_a_click_leads_to_its_watch(sign_in):
    page = sign_in(at="/admin/analytics_admin/circuitbreaker/")
    page.get_by_role("button", name="Reset only open ones").click()
    page.get_by_role("button", name=re.compile("Reset 1 circuit breaker|Yes")).click()
    page.get_by_role("link", name="View result").click()
    expect(page.locator("h1")).to_have_text("Reset circuit breakers")
    expect(page.locator(VERDICT)).to_have_text("The circuit breaker is closed.")
