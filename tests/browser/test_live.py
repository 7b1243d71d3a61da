"""Open pages of the console: kept up to date by themselves, and honest about their age if not."""

import re
import signal
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import log_in

LIST = "/admin/analytics_admin/circuitbreaker/"
FACTS = {
    LIST: "#aa-verdict",
    f"{LIST}catalog.search/": "#aa-verdict, #aa-state",
    "/admin/analytics_admin/searchcache/": "#aa-store",
}
RESET = """
from analytics_admin.services import Actor, reset_circuit_breakers
reset_circuit_breakers(actor=Actor.system("somebody else"))
"""
TRIP_ANOTHER = """
from analytics_admin.breakers import circuit_breaker
try:
    with circuit_breaker("payment:provider", failure_threshold=1, wait_duration_in_open_state=600):
        raise ConnectionError
except ConnectionError:
    pass
"""
SIGN_OUT_EVERYBODY = (
    "from django.contrib.sessions.models import Session; Session.objects.all().delete()"
)
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def watched(sign_in):
    """Open a page, and keep what it has asked the server since."""

    def watched(path=LIST, **options):
        page = sign_in(at=path, **options)
        page.answers = []
        page.on("response", lambda response: page.answers.append(response.status))
        return page

    return watched


def row(page, name):
    return page.locator("#aa-breakers tbody tr").filter(has_text=name)


def some_time(page, *, seconds=2.5):
    """Let the page look several times what is new."""
    page.wait_for_timeout(1000 * seconds)


def test_a_breaker_that_another_process_trips_shows_by_itself(site, watched):
    page = watched()
    expect(row(page, "payment:provider")).to_contain_text("Closed")
    site.run(TRIP_ANOTHER)
    expect(row(page, "payment:provider")).to_contain_text("Open")
    expect(page.locator("#aa-verdict")).to_have_text("2 of 2 breakers open")
    site.run(RESET)
    expect(page.locator("#aa-verdict")).to_have_text("0 of 2 breakers open")


def test_a_breakers_own_page_follows_it(site, watched):
    page = watched(f"{LIST}catalog.search/")
    expect(page.locator("#aa-state")).to_contain_text("Open")
    seen = page.locator("#aa-control [name=expected_generation]").input_value()
    site.run(RESET)
    expect(page.locator("#aa-state")).to_contain_text("Closed")
    assert page.locator("#aa-control [name=expected_generation]").input_value() != seen


def test_focus_ticks_selected_text_and_scroll_stay_while_the_page_changes(site, watched):
    page = watched(viewport={"width": 900, "height": 300})
    page.get_by_label("Select payment:provider").check()
    page.get_by_label("Name contains").fill("half a na")
    page.get_by_label("Name contains").evaluate("node => node.setSelectionRange(2, 6)")
    page.evaluate("scrollTo(0, 120)")
    site.run(TRIP_ANOTHER)
    expect(page.locator("#aa-verdict")).to_have_text("2 of 2 breakers open")
    assert page.get_by_label("Select payment:provider").is_checked()
    assert page.evaluate(
        "() => [document.activeElement.name, document.activeElement.value, "
        "document.activeElement.selectionStart, document.activeElement.selectionEnd, scrollY]"
    ) == ["search", "half a na", 2, 6, 120]


def test_a_page_in_which_nothing_is_new_is_answered_with_304(watched):
    pages = [watched(path) for path in FACTS]
    some_time(pages[-1], seconds=4.5)
    for page in pages:
        assert len(page.answers) >= 2
        assert page.answers.count(304) >= len(page.answers) - 1, (page.url, page.answers)


def test_a_hidden_tab_asks_nothing_and_is_up_to_date_when_it_is_seen_again(site, watched):
    page = watched()
    page.evaluate(HIDE, True)
    asked = len(page.answers)
    site.run(TRIP_ANOTHER)
    some_time(page)
    assert len(page.answers) <= asked + 1  # one may have been on its way
    with page.expect_request("**/circuitbreaker/", timeout=900):  # and not after a second
        page.evaluate(HIDE, False)
    expect(page.locator("#aa-verdict")).to_have_text("2 of 2 breakers open")


def test_updates_can_be_paused(site, watched):
    page = watched()
    page.get_by_role("button", name="Pause updates").click()
    site.run(TRIP_ANOTHER)
    some_time(page)
    expect(page.locator("#aa-verdict")).to_have_text("1 of 2 breakers open")
    page.get_by_role("button", name="Pause updates").click()
    expect(page.locator("#aa-verdict")).to_have_text("2 of 2 breakers open")


def test_a_page_tells_its_age_and_that_the_server_has_stopped_answering(site, watched):
    page = watched()
    expect(page.locator("#aa-live-age")).to_have_text(re.compile(r"Updated \d+ seconds? ago\."))
    site.server.send_signal(signal.SIGSTOP)
    try:
        trouble = page.get_by_role("alert")
        expect(trouble).to_contain_text("No answer from the server since", timeout=9_000)
        expect(page.locator("#content-main")).to_have_class("aa-stale")
    finally:
        site.server.send_signal(signal.SIGCONT)
    expect(trouble).to_be_hidden()
    expect(page.locator("#content-main")).not_to_have_class("aa-stale")


@pytest.mark.parametrize("path", FACTS)
def test_a_frozen_store_reads_unknown_within_a_second_or_so_and_ends_by_itself(site, watched, path):
    page = watched(path)
    site.store.freeze()
    try:
        expect(page.locator(FACTS[path])).to_contain_text("Unknown")
        began = time.monotonic()
        page.goto(path)
        expect(page.locator(FACTS[path])).to_contain_text("Unknown")
        assert time.monotonic() - began < 1.5
    finally:
        site.store.thaw()
    expect(page.locator(FACTS[path])).not_to_contain_text("Unknown")


def test_who_is_signed_out_meanwhile_is_told_and_comes_back_to_the_page(site, watched):
    page = watched()
    site.run(SIGN_OUT_EVERYBODY)
    expect(page.get_by_role("alert")).to_contain_text("You are signed out")
    page.get_by_role("link", name="Reload the page").click()
    log_in(page)
    expect(page.locator("#aa-verdict")).to_have_text("1 of 2 breakers open")


def test_a_page_whose_breaker_is_gone_says_so(site, watched, expected_complaints):
    expected_complaints.append("the server responded with a status of 404")
    page = watched(f"{LIST}payment:provider/")
    site.run(
        "from analytics_admin.services import Actor, forget_breaker\n"
        "forget_breaker(name='payment:provider', actor=Actor.system('somebody else'))"
    )
    expect(page.get_by_role("alert")).to_contain_text("This page is no longer available")


def test_times_are_the_viewers_own_and_exact_on_hover(watched):
    page = watched(f"{LIST}catalog.search/", timezone_id="Asia/Tokyo", locale="en-US")
    told = page.locator("time[data-aa-as=moment]").first
    expect(told).to_contain_text("GMT+9")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC", told.get_attribute("title"))


def test_without_javascript_a_page_says_of_when_it_is(watched):
    page = watched(java_script_enabled=False)
    expect(page.locator("#aa-live-age")).to_have_text(re.compile(r"As of .+ UTC\."))
    expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()
