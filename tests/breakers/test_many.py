"""Many names in one process: what is urgent goes first, and no turn of the reporter is long."""

import time
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError
from analytics_admin.breakers import listener as listener_module
from analytics_admin.breakers import schedule as schedule_module
from analytics_admin.breakers import sync as sync_module
from analytics_admin.breakers import turn as turn_module
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.schedule import MAX_DUE, Schedule
from analytics_admin.breakers.state import Snapshot, State, Transition
from analytics_admin.breakers.stores import redis as redis_module
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import another
from tests.support.sites import eventually

FEW = MAX_DUE // 5


def known(name: str, *, trips: bool = False) -> LocalState:
    state = LocalState(name, BreakerPolicy())
    state.read(Snapshot(generation="x:1"), time.monotonic(), time.monotonic())
    state.is_followed, state.used_at = True, time.monotonic()
    if trips:
        opened = Snapshot(generation="x:2", state=State.OPEN)
        state.ahead = Transition(old=state.snapshot, new=opened, cause="")
    return state


def scheduled(number: int, interval: float = 3600.0) -> tuple[Schedule, dict[str, LocalState]]:
    states = {f"many-{place}": known(f"many-{place}") for place in range(number)}
    schedule = Schedule(states, lambda: interval)
    schedule.take_due([])
    schedule.end_turn()
    return schedule, states


def turns(schedule: Schedule) -> list[list[str]]:
    taken = []
    while due := schedule.take_due([]):
        taken.append(list(due))
        assert schedule.end_turn() < 2 * schedule_module.REST_SECONDS or len(due) < MAX_DUE
    return taken


def test_what_is_not_urgent_is_taken_a_part_in_each_turn_and_in_order():
    schedule, states = scheduled(3 * MAX_DUE + 1)
    for state in states.values():
        schedule.begin_soon(state)
    taken = turns(schedule)
    assert [len(names) for names in taken] == [MAX_DUE, MAX_DUE, MAX_DUE, 1]
    assert {name for names in taken[:3] for name in names} < set(states)
    assert sorted(name for names in taken for name in names) == sorted(states)


def test_trips_come_first_then_failures_and_neither_waits_for_many_others():
    schedule, states = scheduled(5 * MAX_DUE)
    for state in states.values():
        schedule.begin_soon(state)
    schedule.report_soon(failing := known("failing"))
    schedule.report_soon(tripped := known("tripped", trips=True))
    first = list(schedule.take_due([]).values())
    assert first[:2] == [tripped, failing]
    assert len(first) <= 2 + FEW


def test_no_stream_of_failures_keeps_the_others_from_their_turn():
    schedule, states = scheduled(MAX_DUE)
    for state in states.values():
        schedule.begin_soon(state)
    seen: set[str] = set()
    for turn in range(10):
        for place in range(2 * MAX_DUE):
            schedule.report_soon(known(f"failing-{turn}-{place}"))
        seen |= set(schedule.take_due([]))
    assert set(states) <= seen


@pytest.mark.parametrize("gets_pushes", [False, True])
def test_those_in_use_count_as_read_once_all_have_been_taken(monkeypatch, gets_pushes):
    monkeypatch.setattr(schedule_module, "MAX_LOOKED_AT", MAX_DUE)
    monkeypatch.setattr(schedule_module, "LOOK_SECONDS", 0.0)
    schedule, states = scheduled(2 * MAX_DUE + 1)
    schedule.gets_pushes = gets_pushes
    for state in states.values():
        schedule.follow(state)
        state.followed_at = state.newest_success = time.monotonic()  # to be reported
    schedule.read_followed()
    seen: list[str] = []
    for is_last in (False, False, True):
        seen += schedule.take_due([])
        assert schedule.began_followed is (len(seen) == MAX_DUE)
        assert schedule.took_followed is is_last
        schedule.end_turn()
    assert sorted(seen) == sorted(states)
    assert not schedule.take_due([])


def test_the_reporter_is_told_of_one_more_in_use_only_if_it_sleeps_without():
    schedule, _ = scheduled(0)
    first, second, third = (known(name) for name in "abc")
    assert schedule.follow(first)
    assert not schedule.follow(first)
    schedule.take_due([])
    assert schedule.follow(second)  # in the middle of a turn
    schedule.end_turn()
    assert not schedule.follow(third)


@pytest.fixture
def _listens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "LISTEN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(listener_module, "PROOF_WAIT_SECONDS", 10.0)


def crowd(first: CircuitBreaker, number: int) -> list[CircuitBreaker]:
    policy = BreakerPolicy(failure_threshold=5)
    return [
        CircuitBreaker(f"many-{place}", first.engine, lambda: policy) for place in range(number)
    ]


@pytest.mark.hurried
@pytest.mark.hearing
@pytest.mark.present
@pytest.mark.usefixtures("_listens_at_once")
def test_a_trip_is_the_fleets_at_once_however_many_names_begin():
    good = another("good", failure_threshold=5)
    good.call(int)
    assert eventually(lambda: good.engine._turn.knows_as_closed("another"))
    for breaker in crowd(good, 3000):
        breaker.call(int)
    for _ in range(5):
        good.acquire().fail()
    began, store = time.monotonic(), operator_store()
    waiting = good.engine.schedule._waiting
    assert eventually(lambda: store.load_many(["good"]).snapshots["good"].state is State.OPEN)
    assert time.monotonic() - began < 1
    assert waiting.have_any
    now, _, (process,) = store.processes()
    assert now - process.seen_at < 6
    turn = good.engine.reporter._turn_lock
    good.engine.reconnect()
    assert turn.acquire(timeout=10)  # nothing is written into the next test


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """There is room for two names; the process exchanges often."""
    monkeypatch.setattr(redis_module, "MAX_NAMES", 2)
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02}


@pytest.mark.hurried
@pytest.mark.usefixtures("few_names")
@pytest.mark.parametrize("fails", [False, True])
def test_a_name_that_the_store_refuses_is_not_read_again_and_again(fails):
    good = another("good")
    good.call(int)
    refused = crowd(good, 5)
    for breaker in refused:
        breaker.call(int)
    assert eventually(lambda: sum(it.local_state.unregistered_until > 0 for it in refused) == 4)
    read: list[str] = []
    add = RedisStore.add

    def note(store: RedisStore, reports: Any) -> Any:
        read.extend(report.name for report in reports)
        return add(store, reports)

    with patch.object(RedisStore, "add", note):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            for breaker in (good, *refused):
                with suppress(CircuitOpenError):
                    permit = breaker.acquire()
                    (permit.fail if fails and breaker is not good else permit.succeed)()
            time.sleep(0.005)
    assert read.count("good") > 5
    beyond = [it.name for it in refused if it.local_state.snapshot is None]
    assert max(read.count(name) for name in beyond) <= 1  # the first success was on its way


@pytest.mark.hurried
@pytest.mark.usefixtures("few_names")
def test_a_refused_name_is_registered_once_there_is_room(monkeypatch):
    monkeypatch.setattr(sync_module, "REGISTRATION_RETRY_SECONDS", 0.2)
    first, second, third = crowd(another("good"), 3)
    for breaker in (first, second, third):
        breaker.call(int)
    assert eventually(lambda: third.local_state.unregistered_until > 0)
    monkeypatch.setattr(redis_module, "MAX_NAMES", 10)
    assert eventually(lambda: third.call(int) or third.local_state.snapshot is not None)


@pytest.mark.hurried
@pytest.mark.usefixtures("few_names")
def test_a_process_that_was_refused_many_names_asks_for_no_more(monkeypatch):
    monkeypatch.setattr(sync_module, "MAX_REFUSALS", 3)
    good = another("good")
    good.call(int)
    asked: list[str] = []
    register = RedisStore.register

    def note(store: RedisStore, names: Any, **options: Any) -> Any:
        asked.extend(names)
        return register(store, names, **options)

    with patch.object(RedisStore, "register", note):
        for breaker in crowd(good, 8):
            breaker.call(int)
            assert eventually(
                lambda state=breaker.local_state: (
                    state.snapshot is not None or state.unregistered_until > 0
                )
            )
    assert asked == [f"many-{place}" for place in range(4)]


def test_calls_of_a_refused_name_take_no_memory():
    state = LocalState("a", BreakerPolicy())
    state.unregistered_until = 1000.0
    for at in range(100):
        state.count_success("", at)
    assert state._old_counters == ()
    state.count_success("", 1000.0)
    assert state.counter.second == 1000
