"""An operator's hold: who obeys it, how it ends, and what it leaves as it was."""

import time
from contextlib import suppress

import pytest
from django.core.cache import caches

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.breakers import control as breaker_control
from analytics_admin.breakers.control import BreakerChanged
from analytics_admin.breakers.runtime import UnknownBreakers, operator_store, registered_names
from analytics_admin.breakers.state import Control, Counts
from analytics_admin.breakers.stores.base import StoreUnavailable
from analytics_admin.services import list_breakers
from analytics_admin.signals import breaker_state_changed
from tests.support.breakers import another, rest_engines, snapshot_of, state_now, trip
from tests.support.sites import eventually


def hold(name, control, seconds=60.0, **options):
    return breaker_control.set_control(
        [name], Control(control), for_seconds=seconds, actor="sam", reason="deploy", **options
    )


def shown_control(name):
    with suppress(StoreUnavailable):  # a busy machine's operators may have to ask again
        return {status.name: status.control for status in list_breakers()}.get(name)


def build_status(name):
    return next(status for status in list_breakers() if status.name == name)


@pytest.fixture
def name(request):
    breaker = another(request.node.name[:60].partition("[")[0])
    breaker.call(lambda: None)
    return breaker.name


def test_forced_open_rejects_every_call_and_says_until_when(name):
    hold(name, "forced_open", 60)
    breaker = another(name)
    assert breaker.state == "forced_open"
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(pytest.fail, "the call passed")
    assert caught.value.state == "forced_open"
    assert 58 < caught.value.retry_after <= 60


@pytest.mark.parametrize("control", ["disabled", "metrics_only"])
def test_disabled_and_metrics_only_let_calls_pass_also_through_an_open_breaker(name, control):
    tripped = trip(name)
    hold(name, control)
    breaker = another(name)
    assert (breaker.state, breaker.call(lambda: "passed")) == (control, "passed")
    assert state_now(tripped) == control


def test_a_disabled_breaker_counts_nothing(name):
    hold(name, "disabled")
    breaker = another(name, failure_threshold=2)
    for _ in range(5):
        breaker.acquire().fail()
        breaker.acquire().succeed()
    assert snapshot_of(breaker).counts == Counts()


def test_a_metrics_only_breaker_counts_and_never_opens(name):
    hold(name, "metrics_only")
    breaker = another(name, failure_threshold=2)
    for _ in range(5):
        breaker.acquire().fail()
    assert snapshot_of(breaker).counts == Counts(calls=5, failures=5)
    assert state_now(breaker) == "metrics_only"


@pytest.mark.parametrize(
    ("control", "ends_in"),
    [("forced_open", "half_open"), ("disabled", "closed"), ("metrics_only", "closed")],
)
def test_a_hold_ends_by_itself_by_the_stores_clock(name, control, ends_in):
    hold(name, control, 1)
    breaker = another(name)
    assert breaker.state == control
    time.sleep(1.05)
    assert breaker.state == ends_in
    assert build_status(name).state == ends_in
    breaker.call(lambda: None)
    assert state_now(breaker) == "closed"
    assert operator_store().transitions(name)[0].to_state in ("closed", ends_in)


def test_the_probe_that_finds_a_hold_over_records_its_end_as_such(name):
    hold(name, "forced_open", 0.5)
    breaker = another(name)
    assert breaker.state == "forced_open"
    time.sleep(0.51)  # and not a synchronisation: the call itself writes the end
    breaker.call(lambda: None)
    ended = next(it for it in operator_store().transitions(name) if it.from_state == "forced_open")
    assert (ended.to_state, ended.cause) == ("half_open", "hold_over")


@pytest.mark.parametrize(
    ("control", "ends_in"),
    [("forced_open", "half_open"), ("disabled", "closed"), ("metrics_only", "closed")],
)
def test_a_release_ends_it_alike(name, control, ends_in):
    hold(name, control, None)
    (change,) = hold(name, "automatic")
    assert (change.from_state, change.to_state) == (control, ends_in)
    after = build_status(name)
    assert (after.state, after.control, after.held_by, after.held_until) == (
        ends_in,
        "automatic",
        "",
        None,
    )


def test_the_status_tells_who_holds_it_why_and_until_when(name):
    assert build_status(name).control == "automatic"
    hold(name, "forced_open", 900)
    held = build_status(name)
    assert (held.control, held.held_by, held.hold_reason) == ("forced_open", "sam", "deploy")
    assert 890 < held.held_until.timestamp() - time.time() <= 901


def test_the_state_beneath_and_its_attempts_stay(name):
    tripped = trip(name)
    hold(name, "metrics_only")
    snapshot = snapshot_of(tripped)
    assert (snapshot.state, snapshot.attempts, snapshot.counts) == ("open", 1, Counts())


def test_a_call_that_began_before_the_hold_changes_nothing_under_it(name):
    breaker = another(name, failure_threshold=1)
    permit = breaker.acquire()
    hold(name, "metrics_only")
    permit.fail()
    assert snapshot_of(breaker).counts == Counts()


def test_reset_returns_a_held_breaker_to_closed_and_automatic(name):
    hold(name, "forced_open", None)
    (reset,) = breaker_control.reset([name], only_open=True)
    assert (reset.from_state, reset.to_state) == ("forced_open", "closed")
    assert (build_status(name).state, build_status(name).control) == ("closed", "automatic")


def test_only_open_passes_over_what_lets_calls_pass(name):
    hold(name, "disabled")
    assert breaker_control.reset(None, only_open=True) == []


def test_a_stale_view_of_the_breaker_changes_nothing(name):
    seen = build_status(name).generation
    hold(name, "disabled", expected={name: seen})
    with pytest.raises(BreakerChanged) as caught:
        hold(name, "forced_open", expected={name: seen})
    assert caught.value.status.control == "disabled"
    assert build_status(name).control == "disabled"


def test_an_unknown_name_is_held_nowhere(name):
    with pytest.raises(UnknownBreakers):
        hold("mistyped", "forced_open")
    assert "mistyped" not in registered_names()


def test_a_hold_is_recorded_with_its_actor_and_announced(name):
    seen = []

    def note(name, from_state, to_state, cause, **_):
        seen.append((from_state, to_state, cause))

    breaker_state_changed.connect(note)
    try:
        hold(name, "forced_open")
    finally:
        breaker_state_changed.disconnect(note)
    assert seen == [("closed", "forced_open", "control")]
    record = operator_store().transitions(name)[0]
    assert (record.from_state, record.to_state, record.actor) == ("closed", "forced_open", "sam")


def test_an_emptied_store_gets_an_unexpired_hold_back_from_who_saw_it_last(name):
    rest_engines()  # the name's first process has not seen the hold yet
    hold(name, "forced_open", 60)
    breaker = another(name)
    assert breaker.state == "forced_open"
    caches["breakers"].client.get_client().flushall()
    assert eventually(lambda: breaker.state and shown_control(name) == "forced_open")
    assert breaker.state == "forced_open"


@pytest.mark.parametrize("control", ["forced_open", "metrics_only", "automatic"])
def test_a_hold_whose_reply_was_lost_is_settled_by_reading(name, control, monkeypatch):
    hold(name, "disabled")
    store = operator_store()
    answer = store.compare_and_set

    def lose_the_reply(moves):
        answer(moves)
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(store, "compare_and_set", lose_the_reply)
    (change,) = hold(name, control, None if control == "automatic" else 60.0)
    assert change.from_state == "disabled"
    assert change.to_state == state_now(another(name)) == build_status(name).state
    assert build_status(name).control == control


@pytest.mark.parametrize("control", ["disabled", "metrics_only"])
def test_a_hold_that_was_not_made_is_not_claimed(name, control, monkeypatch):
    hold(name, "disabled")
    store = operator_store()

    def refuse(moves):
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(store, "compare_and_set", refuse)
    with pytest.raises(StoreUnavailable):
        hold(name, control, 90.0)


def test_hostile_texts_come_back_as_they_were(name):
    reason = "a b\n\x01é☃ <script> {0} %s " + "x" * 400
    breaker_control.set_control(
        [name], Control.DISABLED, for_seconds=None, actor="o'neil ünï code", reason=reason
    )
    status = build_status(name)
    assert (status.held_by, status.hold_reason) == ("o'neil ünï code", reason)
    assert operator_store().transitions(name)[0].actor == "o'neil ünï code"
