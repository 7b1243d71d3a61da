"""What became of an act on breakers, on the operation's own page: opened again, and how soon."""

import re
from html import unescape

import pytest

from analytics_admin.breakers.history import MAX_TRANSITIONS
from analytics_admin.models import Operation
from analytics_admin.services import Actor, allow_probe, reset_circuit_breakers, set_breaker_control
from tests.console.followup_pages import (
    SAM,
    let_pass,
    reset,
    section,
    verdict,
    watched,
)
from tests.support.audit import page_of, record
from tests.support.breakers import another, round_trips, state_now, trip
from tests.support.console_pages import told

ADA = Actor.system("ada" * 30, channel="api")  # longer than what a transition keeps of it
CLOSED, OPEN, HALF_OPEN = "✓ Closed", "✕ Open", "◐ Half open"

pytestmark = pytest.mark.django_db


def hold(control="forced_open", **told):
    return set_breaker_control(name="shop:a", control=control, actor=ADA, **told)


def recover(name):
    """Have an open breaker's probes succeed."""
    allow_probe(name=name, actor=ADA)
    breaker = another(name)
    while state_now(breaker) != "closed":
        breaker.acquire().succeed()


def test_one_that_opens_again_is_told_with_how_soon_and_why(look):
    for name in ("shop:a", "shop:b", "shop:c"):
        trip(name)
    act = reset_circuit_breakers(actor=SAM)
    let_pass(14)
    trip("shop:b")
    let_pass(3600)
    words, tone = verdict(look(act))
    assert re.fullmatch(
        r"1 of 3 circuit breakers opened again, after 1[45] s\."
        r" 2 of 3 circuit breakers are closed\.",
        words,
    )
    assert tone == "bad"
    gravest, *others = watched(look(act))
    assert others == [["shop:a", "Closed", CLOSED], ["shop:c", "Closed", CLOSED]]
    assert (gravest[0], gravest[2]) == ("shop:b", OPEN)
    assert re.fullmatch(r"Opened again after 1[45] s: Consecutive failures", gravest[1])
    assert 'href="/admin/analytics_admin/circuitbreaker/shop:b/"' in section(look(act))
    assert section(look(act)).count('data-aa-as="moment"') == 1


def test_of_several_that_open_again_the_first_is_told(look):
    for name in ("shop:a", "shop:b"):
        trip(name)
    act = reset("shop:a", "shop:b")
    let_pass(30)
    trip("shop:b")
    let_pass(4 * 60)
    trip("shop:a")
    words, _ = verdict(look(act))
    assert re.fullmatch(r"All 2 circuit breakers opened again, the first after 3[01] s\.", words)
    assert "Opened again after 4\N{NO-BREAK SPACE}minutes" in section(look(act))


def test_one_that_opened_and_closed_since_has_opened_again_all_the_same(look):
    trip("shop:a")
    act = reset("shop:a")
    trip("shop:a")
    recover("shop:a")
    ((_, became, now),) = watched(look(act))
    assert became.startswith("Opened again after 0.")
    assert now == CLOSED


def test_all_that_stay_closed_are_good_news(look):
    for name in ("shop:a", "shop:b"):
        trip(name)
    act = reset_circuit_breakers(actor=SAM, only_open=True)
    let_pass(86_400)
    another("shop:a").acquire().succeed()
    assert verdict(look(act)) == ("All 2 circuit breakers are closed.", "good")


def test_a_probe_that_decides_is_told_either_way(look):
    breaker = another("shop:a", failure_threshold=1, permitted_number_of_calls_in_half_open_state=1)
    breaker.acquire().fail()
    act = allow_probe(name="shop:a", actor=ADA)
    assert verdict(look(act)) == ("The circuit breaker is still open.", "bad")
    assert watched(look(act)) == [["shop:a", "Still open", HALF_OPEN]]
    breaker.engine.expire("shop:a")
    breaker.acquire().fail()
    ((_, became, now),) = watched(look(act))
    assert re.fullmatch(r"Opened again after [\d.]+ s: Probe failed", became)
    assert now == OPEN
    second = allow_probe(name="shop:a", actor=ADA)
    assert watched(look(act))[0][1] == became
    breaker.engine.expire("shop:a")
    breaker.acquire().succeed()
    assert state_now(breaker) == "closed"
    assert verdict(look(second)) == ("The circuit breaker is closed.", "good")


def test_a_hold_is_told_until_it_ends_by_itself(look):
    trip("shop:a")
    act = hold(for_seconds=900)
    assert verdict(look(act)) == ("The circuit breaker is held.", "quiet")
    ((name, became, now),) = watched(look(act))
    assert (name, became) == ("shop:a", "Held")
    assert re.fullmatch(r"⊗ Forced open (15:00|14:5\d) left", now)
    let_pass(950)
    assert watched(look(act)) == [["shop:a", "Still open", HALF_OPEN]]
    another("shop:a").acquire().release()  # writes the hold's end
    assert verdict(look(act)) == ("The circuit breaker is still open.", "bad")


@pytest.mark.parametrize(
    ("control", "release", "became"),
    [
        ("disabled", lambda: reset("shop:a"), "Closed"),
        ("disabled", lambda: hold("automatic"), "Closed"),
        ("forced_open", lambda: hold("automatic"), "Still open"),
    ],
)
def test_an_operation_that_ends_a_hold_which_was_over_already_is_no_other_operation(
    look, control, release, became
):
    another("shop:a").acquire().succeed()
    hold(control, for_seconds=900)
    let_pass(950)
    act = release()
    assert [row[1] for row in watched(look(act))] == [became]
    hold("disabled")
    assert watched(look(act))[0][1] == "Held"


def test_a_hold_without_an_end_counts_nothing_down(look):
    trip("shop:a")
    act = hold(for_seconds=float("inf"))
    assert watched(look(act)) == [["shop:a", "Held", "⊗ Forced open"]]


def test_a_release_by_another_operation_leaves_it_still_open(look):
    trip("shop:a")
    act = hold()
    let_pass(30)
    set_breaker_control(name="shop:a", control="automatic", actor=SAM)
    assert watched(look(act)) == [["shop:a", "Still open", HALF_OPEN]]


def test_metrics_only_is_held_although_it_would_have_opened(look):
    another("shop:a", failure_threshold=1).acquire().succeed()
    act = hold("metrics_only")
    breaker = another("shop:a", failure_threshold=1)
    breaker.acquire().fail()
    state_now(breaker)
    ((_, became, now),) = watched(look(act))
    assert became == "Held"
    assert now.startswith("○ Metrics only")


def test_of_two_acts_within_a_moment_each_has_its_own_outcome(look):
    trip("shop:a")
    first = reset("shop:a")
    trip("shop:a")
    second = reset("shop:a")
    assert watched(look(first))[0][1].startswith("Opened again after 0.")
    assert watched(look(second)) == [["shop:a", "Closed", CLOSED]]


def test_a_named_one_that_was_closed_already_is_watched_too(look):
    for name in ("shop:a", "shop:b"):
        another(name).acquire().succeed()
    trip("shop:c")
    act = reset("shop:a", "shop:b", "shop:c")
    assert [row[0] for row in watched(look(act))] == ["shop:c", "shop:a", "shop:b"]
    assert verdict(look(act)) == ("All 3 circuit breakers are closed.", "good")
    let_pass(20)
    trip("shop:a")
    assert re.fullmatch(r"Opened again after 2[01] s: .+", watched(look(act))[0][1])


def test_what_happened_shortly_before_an_operation_that_moved_nothing_is_not_told(look):
    trip("shop:a")
    reset("shop:a")
    trip("shop:a")
    recover("shop:a")
    assert watched(look(reset("shop:a"))) == [["shop:a", "Closed", CLOSED]]


def test_a_past_that_reaches_back_before_the_operation_is_whole_however_long_it_is(look):
    for _ in range(MAX_TRANSITIONS):
        trip("shop:a")
        reset("shop:a")
    let_pass(60)
    act = reset("shop:a")
    let_pass(20)
    trip("shop:a")
    assert re.fullmatch(r"Opened again after 2[01] s: .+", watched(look(act))[0][1])


def test_a_release_of_what_was_not_held_leaves_it_open(look):
    trip("shop:a")
    act = set_breaker_control(name="shop:a", control="automatic", actor=SAM)
    assert verdict(look(act)) == ("The circuit breaker is still open.", "bad")


def test_a_reset_that_moved_none_says_so_and_asks_no_store(look):
    another("shop:a").acquire().succeed()
    act = reset_circuit_breakers(actor=SAM)
    look(act)
    with round_trips() as sent:
        words, tone = verdict(look(act))
    assert words == "It changed no circuit breaker."
    assert (tone, sent["trips"]) == ("quiet", 0)


def test_an_operation_that_failed_is_watched_as_far_as_it_came(look):
    trip("shop:a")
    reset("shop:a")
    row = Operation.objects.get()
    row.status, row.targets = "failed", {"names": ["shop:a", "shop:b"]}
    row.outcome = {"count": 1, "names": ["shop:a"]}
    row.save()
    assert watched(look(row)) == [["shop:a", "Closed", CLOSED]]
    row.outcome = {}
    row.save()
    assert section(look(row)) == ""


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "clear_search_cache"},
        {"kind": "forget_circuit_breaker", "targets": {"names": ["shop:a"]}},
        {"kind": "of_tomorrow", "targets": {"names": ["shop:a"]}},
        {"kind": "allow_probe", "status": "denied", "outcome": {"names": ["shop:a"]}},
        {"kind": "allow_probe", "status": "unknown", "outcome": {"names": ["shop:a"]}},
        {"kind": "allow_probe", "status": "started", "outcome": {"names": ["shop:a"]}},
        {"kind": "reset_circuit_breakers", "targets": {"names": "all"}},
    ],
    ids=str,
)
def test_other_operations_have_no_such_section_and_ask_no_store(look, row):
    row = record(**row)
    look(row)
    with round_trips() as sent:
        assert section(look(row)) == ""
    assert sent["trips"] == 0


def test_an_operation_done_on_a_page_leads_to_its_own_and_its_message_stays_as_it_is(
    client, superuser
):
    client.force_login(superuser)
    trip("shop:a")
    confirmed = {"confirmed": "yes", "reason": "they say"}
    answer = client.post("/admin/analytics_admin/circuitbreaker/reset/", confirmed, follow=True)
    assert told(answer) == [("success", "All circuit breakers reset successfully")]
    link = f'<a href="{page_of(Operation.objects.get())}">View result</a>'
    assert answer.text.count(link) == 1
    assert verdict(client.get(page_of(Operation.objects.get())))[1] == "good"
    stale = {**confirmed, "expected_generation": "1"}
    refused = client.post("/admin/analytics_admin/circuitbreaker/shop:a/reset/", stale, follow=True)
    assert "has changed meanwhile" in unescape(refused.text)
    assert "View result" not in refused.text
