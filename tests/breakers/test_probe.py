"""An operator allows a probe: what becomes of the open breaker, and who is refused."""

import re

import pytest

from analytics_admin.breakers import CircuitOpenError, runtime
from analytics_admin.breakers import control as breaker_control
from analytics_admin.breakers.control import BreakerChanged, BreakerNotOpen
from analytics_admin.breakers.runtime import UnknownBreakers, operator_store
from analytics_admin.breakers.state import Control, Counts
from analytics_admin.breakers.stores.base import StoreUnavailable
from analytics_admin.signals import breaker_state_changed
from tests.support.breakers import another, snapshot_of, state_now

LOCAL_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
POLICY = {"failure_threshold": 1, "wait_duration_in_open_state": 600}


@pytest.fixture(params=["redis", "memory"])
def name(request, settings):
    if request.param == "memory":
        location = {"LOCATION": request.node.name}
        settings.CACHES = {**settings.CACHES, "breakers": {**LOCAL_MEMORY, **location}}
    return re.sub(r"\W", "-", request.node.name)  # the memory outlives its test


@pytest.fixture
def waiting(name):
    """A breaker that is open for ten minutes."""
    breaker = another(name, **POLICY)
    breaker.acquire().fail()
    assert breaker.state == "open"
    return breaker


def allow(breaker, **options):
    return breaker_control.allow_probe(breaker.name, actor="sam", **options)


def moves_of(breaker):
    return [
        (move.from_state, move.to_state, move.cause, move.actor)
        for move in operator_store().transitions(breaker.name)
    ]


def test_one_call_passes_at_once_and_its_success_closes_the_breaker(waiting):
    other = another(waiting.name, **POLICY)
    assert other.state == "open"
    change = allow(waiting)
    assert (change.from_state, change.to_state) == ("open", "half_open")
    other.engine.expire(other.name)
    permit = other.acquire()
    with pytest.raises(CircuitOpenError):
        other.acquire()
    permit.succeed()
    assert state_now(waiting) == "closed"
    assert moves_of(waiting) == [
        ("half_open", "closed", "probes_succeeded", ""),
        ("open", "half_open", "probe_allowed", "sam"),
        ("closed", "open", "consecutive_failures", ""),
    ]


def test_a_failed_probe_opens_it_again_as_one_of_its_own_time_would(waiting):
    allow(waiting)
    assert state_now(waiting) == "half_open"
    waiting.acquire().fail()
    snapshot = snapshot_of(waiting)
    assert (snapshot.state, snapshot.attempts, snapshot.wait) == ("open", 2, 600)


def test_as_many_probes_pass_as_the_policy_permits(name):
    breaker = another(name, **POLICY, permitted_number_of_calls_in_half_open_state=3)
    breaker.acquire().fail()
    allow(breaker)
    assert state_now(breaker) == "half_open"
    permits = [breaker.acquire() for _ in range(3)]
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert len(permits) == 3


def test_a_call_that_began_before_it_opened_counts_for_nothing(name):
    breaker = another(name, **POLICY)
    late, failed = breaker.acquire(), breaker.acquire()
    failed.fail()
    before = snapshot_of(breaker)
    allow(breaker)
    late.succeed()
    after = snapshot_of(breaker)
    assert after.generation != before.generation
    assert (after.state, after.counts, after.permits) == ("half_open", Counts(), 0)


def test_a_breaker_that_is_not_open_is_left_as_it_is(waiting):
    closed = another(f"{waiting.name}.closed")
    closed.acquire().succeed()
    probes = another(f"{waiting.name}.probes", **POLICY)
    probes.acquire().fail()
    allow(probes)
    for breaker, state in [(closed, "closed"), (probes, "half_open")]:
        before = snapshot_of(breaker)
        for act in (allow, lambda breaker: breaker_control.plan_probe(breaker.name)):
            with pytest.raises(BreakerNotOpen, match=f"it is {state}, not open"):
                act(breaker)
        assert snapshot_of(breaker) == before


@pytest.mark.parametrize("control", ["forced_open", "disabled", "metrics_only"])
def test_a_held_breaker_is_released_and_not_probed(waiting, control):
    breaker_control.set_control(
        [waiting.name], Control(control), for_seconds=None, actor="sam", reason=""
    )
    with pytest.raises(BreakerNotOpen, match=f"it is {control}, not open"):
        allow(waiting)
    assert state_now(waiting) == control


def test_one_that_nobody_has_used_yet_is_not_open(name, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": {name: {}}}
    with pytest.raises(BreakerNotOpen, match="it is closed, not open"):
        breaker_control.allow_probe(name, actor="sam")


def test_an_unknown_name_is_no_breaker_and_becomes_none(name):
    with pytest.raises(UnknownBreakers):
        breaker_control.allow_probe(name, actor="sam")
    assert name not in runtime.registered_names()


def test_a_stale_view_of_the_breaker_changes_nothing(waiting):
    seen = snapshot_of(waiting).generation
    breaker_control.reset([waiting.name], only_open=False)
    with pytest.raises(BreakerChanged):
        allow(waiting, expected={waiting.name: seen})
    assert state_now(waiting) == "closed"


def test_it_is_announced_once(waiting):
    seen = []

    def note(name, from_state, to_state, cause, **_):
        seen.append((name, from_state, to_state, cause))

    breaker_state_changed.connect(note)
    try:
        allow(waiting)
    finally:
        breaker_state_changed.disconnect(note)
    assert seen == [(waiting.name, "open", "half_open", "probe_allowed")]


def test_a_reply_that_was_lost_is_settled_by_reading(waiting, monkeypatch):
    store = operator_store()
    answer = store.compare_and_set

    def lose_the_reply(moves):
        answer(moves)
        monkeypatch.undo()
        waiting.engine.expire(waiting.name)
        waiting.acquire().succeed()  # before anybody reads
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(store, "compare_and_set", lose_the_reply)
    assert allow(waiting).to_state == "half_open"
    assert state_now(waiting) == "closed"


def test_a_probe_that_was_not_allowed_is_not_claimed(waiting, monkeypatch):
    def refuse(moves):
        raise StoreUnavailable("the store did not answer in time")

    monkeypatch.setattr(operator_store(), "compare_and_set", refuse)
    with pytest.raises(StoreUnavailable):
        allow(waiting)


def test_a_breaker_that_moves_in_the_very_moment_is_judged_anew(waiting, monkeypatch):
    store = operator_store()
    answer = store.compare_and_set

    def reset_first(moves):
        monkeypatch.undo()
        breaker_control.reset([waiting.name], only_open=False)
        return answer(moves)

    monkeypatch.setattr(store, "compare_and_set", reset_first)
    with pytest.raises(BreakerNotOpen, match="it is closed"):
        allow(waiting)
