"""What became of an act on breakers that the store knows little of any more, or does not tell.

What is not known is said to be so, and never to be well.
"""

from datetime import timedelta

import pytest
from django.core.cache import caches

from analytics_admin.breakers.history import MAX_TRANSITIONS
from analytics_admin.models import Operation
from analytics_admin.services import forget_breaker, set_breaker_control
from tests.console.followup_pages import (
    SAM,
    let_pass,
    lose_the_past,
    reset,
    section,
    verdict,
    watched,
)
from tests.support.audit import record
from tests.support.breakers import another, trip
from tests.support.stopwatch import Stopwatch
from tests.support.stored_breakers import change_record, key_of

UNKNOWN = "Unknown"
CLOSED, OPEN, HALF_OPEN = "✓ Closed", "✕ Open", "◐ Half open"

pytestmark = pytest.mark.django_db


def test_without_its_transitions_one_is_closed_since_only_if_its_record_is_that_old(look):
    trip("shop:a")
    act = reset("shop:a")
    let_pass(8 * 86_400)
    lose_the_past("shop:a")
    assert verdict(look(act)) == ("The circuit breaker is closed.", "good")
    reset("shop:a")  # of a healthy one: a new generation, which no transition tells of
    assert watched(look(act)) == [["shop:a", UNKNOWN, CLOSED]]
    assert verdict(look(act)) == ("What became of the circuit breaker is unknown.", "quiet")
    assert "The store keeps the last twenty transitions" in section(look(act))


def test_what_came_since_its_transitions_went_may_not_have_been_the_first(look):
    trip("shop:a")
    act = reset("shop:a")
    let_pass(8 * 86_400)
    lose_the_past("shop:a")
    trip("shop:a")
    assert watched(look(act))[0][1] == "Opened again at an unknown time: Consecutive failures"


def test_an_opening_that_another_clock_puts_before_the_operation_is_not_guessed_at(look):
    another("shop:a").acquire().succeed()
    act = reset("shop:a")
    trip("shop:a")
    row = Operation.objects.get()
    row.started_at += timedelta(seconds=3)
    row.save()
    assert watched(look(act)) == [["shop:a", UNKNOWN, OPEN]]


def test_more_transitions_than_are_kept_leave_the_latest_time_at_which_it_opened(look):
    trip("shop:a")
    act = reset("shop:a")
    let_pass(60)
    for _ in range(MAX_TRANSITIONS):
        trip("shop:a")
        reset("shop:a")
    ((_, became, now),) = watched(look(act))
    assert became == "Opened again at an unknown time: Consecutive failures"
    assert now == CLOSED


def test_of_a_hold_that_far_back_the_time_of_the_opening_is_unknown(look):
    trip("shop:a")
    act = set_breaker_control(name="shop:a", control="disabled", actor=SAM)
    let_pass(60)
    for _ in range(MAX_TRANSITIONS):
        reset("shop:a")
        trip("shop:a")
    became = "Opened again at an unknown time: Consecutive failures"
    assert watched(look(act)) == [["shop:a", became, OPEN]]


def test_a_record_that_its_transitions_do_not_end_in_is_not_called_well(look):
    trip("shop:a")
    act = reset("shop:a")
    change_record("shop:a", state="half_open")
    assert watched(look(act)) == [["shop:a", UNKNOWN, HALF_OPEN]]
    change_record("shop:a", state="dreaming")
    assert watched(look(act)) == [["shop:a", UNKNOWN, "? Unknown"]]


def test_a_past_that_cannot_be_read_concerns_its_own_breaker_alone(look):
    for name in ("shop:a", "shop:b", "shop:c"):
        trip(name)
    act = reset("shop:a", "shop:b", "shop:c")
    let_pass(60)
    reset("shop:a", "shop:b", "shop:c")
    client = caches["breakers"].client.get_client(write=True)
    for name in ("shop:a", "shop:b"):
        lose_the_past(name)
    client.set(key_of("shop:a", "moves"), "no list")
    client.lpush(key_of("shop:b", "moves"), b"\xff no move")
    assert [row[1] for row in watched(look(act))] == [UNKNOWN, UNKNOWN, "Closed"]


def test_a_forgotten_one_is_gone_and_one_that_came_back_is_not_called_well(look):
    for name in ("shop:a", "shop:b"):
        trip(name)
    act = reset("shop:a", "shop:b")
    let_pass(60)
    for name in ("shop:a", "shop:b"):
        forget_breaker(name=name, actor=SAM)
    another("shop:b").acquire().succeed()
    gone, back = watched(look(act))
    assert gone == ["shop:a", UNKNOWN, "? Unknown"]
    assert back == ["shop:b", UNKNOWN, CLOSED]
    assert "circuitbreaker/shop:a/" not in section(look(act))
    assert verdict(look(act))[1] == "quiet"


def test_an_emptied_store_leaves_nothing_good(look):
    trip("shop:a")
    act = reset("shop:a")
    caches["breakers"].client.get_client(write=True).flushall()
    words, tone = verdict(look(act))
    assert words == "What became of the circuit breaker is unknown."
    assert tone == "quiet"
    assert "aa-good" not in section(look(act))


def test_one_that_an_emptied_store_was_told_of_anew_at_once_is_not_called_well(look):
    trip("shop:a")
    act = reset("shop:a")
    trip("shop:a")
    caches["breakers"].client.get_client(write=True).flushall()
    another("shop:a").acquire().succeed()
    assert watched(look(act)) == [["shop:a", UNKNOWN, CLOSED]]


def test_one_that_a_store_restored_from_before_the_operation_tells_of_is_not_called_well(look):
    trip("shop:a")
    reset("shop:a")
    let_pass(100)
    client = caches["breakers"].client.get_client(write=True)
    before = {key: client.dump(key) for key in (key_of("shop:a"), key_of("shop:a", "moves"))}
    act = set_breaker_control(name="shop:a", control="forced_open", actor=SAM)
    for key, value in before.items():
        client.restore(key, 0, value, replace=True)
    assert watched(look(act)) == [["shop:a", UNKNOWN, CLOSED]]


def test_what_a_healthy_one_came_to_after_its_transitions_went_may_not_have_been_the_first(look):
    another("shop:a").acquire().succeed()
    act = reset("shop:a")
    let_pass(10)
    trip("shop:a")
    reset("shop:a")
    let_pass(8 * 86_400)
    lose_the_past("shop:a")
    trip("shop:a")
    assert watched(look(act))[0][1] == "Opened again at an unknown time: Consecutive failures"


@pytest.mark.usefixtures("lost")
def test_with_the_store_away_nothing_is_known_and_the_page_is_there_within_a_second(look):
    row = record(
        kind="reset_circuit_breakers",
        targets={"names": ["api.open"]},
        outcome={"results": [{"name": "api.open", "from": "open", "to": "closed"}], "moved": 1},
    )
    look(record())  # whatever is loaded once
    watch = Stopwatch()
    words, tone = verdict(look(row))
    assert watch.seconds < 1
    assert words.startswith("Unknown: the store")
    assert tone == "quiet"
    assert "aa-good" not in section(look(row))
    assert watched(look(row)) == []
