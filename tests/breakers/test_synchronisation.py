"""What one process asks of the store for all its breakers together."""

import time
from collections.abc import Sequence

import pytest
from django.test import override_settings

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, runtime, schedule
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState, Outcome
from analytics_admin.breakers.state import Control, Counts, Hold, Snapshot, State
from analytics_admin.breakers.state_machine import control
from analytics_admin.breakers.stores.base import Move, Reading, Report
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import another, snapshot_of
from tests.support.simulation import simulated_site
from tests.support.sites import eventually
from tests.support.stored_breakers import raw_client


class RememberingStore(RedisStore):
    """The real store, which remembers the names that each round trip asked for."""

    def __init__(self) -> None:
        super().__init__("breakers", timeout=10)
        self.asked: list[list[str]] = []

    def add(self, reports: Sequence[Report]) -> Reading:
        self.asked.append([report.name for report in reports])
        return super().add(reports)


@pytest.fixture
def store():
    return RememberingStore()


@pytest.fixture
def breakers(store):
    engine = Engine(lambda: store, runtime.announce)
    return [CircuitBreaker(name, engine, BreakerPolicy) for name in ("a", "b", "c")]


def use(breakers: list[CircuitBreaker]) -> None:
    for breaker in breakers:
        breaker.acquire().succeed()


def test_failures_that_find_an_emptied_store_count_there_and_open_the_breaker(breakers):
    breaker, *others = breakers
    use(breakers)
    raw_client().flushall()
    for _ in range(5):
        breaker.acquire().fail()
    others[0].acquire().fail()
    assert breaker.state == "open"
    assert breaker.engine.report_all(10)
    snapshots = runtime.operator_store().load_many(["a", "b"]).snapshots
    assert snapshots["a"].state is State.OPEN
    assert snapshots["b"].counts == Counts(calls=1, failures=1)
    (opened,) = runtime.operator_store().transitions("a")
    assert opened.counts == Counts(calls=5, failures=5)


def test_failures_count_in_the_record_that_another_process_has_made_in_an_emptied_store(breakers):
    breaker = breakers[0]
    use(breakers)
    raw_client().flushall()
    another("a").call(int)
    for _ in range(2):
        breaker.acquire().fail()
    assert breaker.engine.report_all(10)
    assert runtime.operator_store().load_many(["a"]).snapshots["a"].counts.failures == 2


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 3600})
def test_a_process_reports_its_first_success_at_once():
    breaker = another("first-success")
    breaker.call(lambda: None)

    def reported():
        snapshot = runtime.operator_store().load_many([breaker.name]).snapshots[breaker.name]
        return snapshot is not None and snapshot.counts.calls == 1

    assert eventually(reported, seconds=3)


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 3600})
def test_a_breaker_that_comes_into_use_is_asked_for_alone(store, breakers):
    for breaker in breakers:  # a first success is reported, too
        breaker.used_state().has_succeeded = True
    use(breakers)
    use(breakers)
    assert store.asked == [["a"], ["b"], ["c"]]


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_all_breakers_in_use_are_asked_for_in_one_round_trip(store, breakers):
    use(breakers)
    assert eventually(lambda: sorted(store.asked[-1]) == ["a", "b", "c"])


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_calls_that_asked_nothing_keep_a_breaker_in_the_common_round(store, breakers, monkeypatch):
    monkeypatch.setattr(schedule, "IDLE_AFTER_SECONDS", 0.5)
    calls = [breaker(lambda: None) for breaker in breakers]
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        for call in calls:
            call()
        time.sleep(0.001)
    assert sorted(store.asked[-1]) == ["a", "b", "c"]


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_nothing_is_asked_for_breakers_that_are_not_in_use(store, breakers, monkeypatch):
    monkeypatch.setattr(schedule, "IDLE_AFTER_SECONDS", 0.1)
    use(breakers)
    time.sleep(0.5)
    asked = len(store.asked)
    time.sleep(0.5)
    assert len(store.asked) == asked


def test_blocks_of_several_breakers_may_end_in_any_order(breakers):
    first, second = breakers[:2]
    first.__enter__()
    second.__enter__()
    first.__exit__(ValueError, ValueError(), None)
    second.__exit__(None, None, None)
    assert snapshot_of(first).counts == Counts(calls=1, failures=1)
    assert snapshot_of(second).counts == Counts(calls=1)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.acquire().fail()


@pytest.mark.hurried
def test_a_burst_of_failures_costs_few_round_trips_and_bounded_memory_and_all_count(store):
    burst = CircuitBreaker("burst", Engine(lambda: store, runtime.announce), unlimited)
    burst.call(int)
    store.asked.clear()
    fail(burst, 10_000)
    assert burst.engine.report_all(10)
    assert len(store.asked) <= 100
    assert snapshot_of(burst).counts == Counts(calls=10_001, failures=10_000)
    assert len(burst.local_state._run) <= 1000


def unlimited() -> BreakerPolicy:
    return BreakerPolicy(failure_threshold=10**9)


@pytest.mark.hurried
@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 3600})
def test_failures_wait_for_each_other_unless_they_open_the_breaker(store, monkeypatch):
    monkeypatch.setattr(schedule, "GATHER_SECONDS", 3600.0)
    breaker = CircuitBreaker("gathers", Engine(lambda: store, runtime.announce), limited_to_three)
    breaker.call(int)
    assert eventually(lambda: breaker.local_state.snapshot is not None)
    fail(breaker)
    assert eventually(lambda: breaker.engine.schedule.gathers_until > time.monotonic())
    fail(breaker)
    assert counted(store) == 1
    fail(breaker)
    assert eventually(lambda: store.load_many(["gathers"]).snapshots["gathers"].state == "open")


def limited_to_three() -> BreakerPolicy:
    return BreakerPolicy(failure_threshold=3)


def counted(store: RedisStore) -> int:
    snapshot = store.load_many(["gathers"]).snapshots["gathers"]
    assert snapshot is not None
    return snapshot.counts.failures


def test_calls_that_fail_before_their_breaker_is_read_count():
    state = LocalState("early", BreakerPolicy())
    state.count(Outcome("", 1.0, 2.0, failed=True))
    state.read(Snapshot(generation="first:1"), 100.0, 3.0)
    state.count(Outcome("first:1", 4.0, 5.0, failed=True))
    assert state.report().results.failures == 2


def test_an_opening_is_on_record_with_every_failure_that_led_to_it():
    """The last one comes while the store is told of those before."""
    with simulated_site() as site:
        breaker = site.process("b", failure_threshold=3)
        breaker.engine.report_all = lambda timeout: True  # so that nobody waits for the reporter
        for _ in range(2):
            breaker.acquire().fail()
        add = site.store.add

        def add_late(reports: Sequence[Report]) -> Reading:
            site.store.add = add  # once
            reading = add(reports)
            breaker.acquire().fail()
            return reading

        site.store.add = add_late
        breaker.engine.schedule.report_soon(breaker.local_state)
        breaker.engine.report()
        site.clock.now += 1
        (opened, *_) = site.store.transitions("b")
        assert (opened.to_state, opened.consecutive_failures) == ("open", 3)


def test_a_breaker_that_would_have_opened_is_not_looked_at_again_and_again():
    with simulated_site() as site:
        breaker = site.process("b", failure_threshold=2)
        breaker.call(int)
        hold = Hold(control=Control.METRICS_ONLY, until=None)
        before = site.store.load_many(["b"]).snapshots["b"]
        site.store.compare_and_set([Move(name="b", expected=before, new=control(before, hold))])
        site.clock.now += 1
        for _ in range(5):
            breaker.acquire().fail()
        site.clock.now += 1
        assert breaker.local_state.snapshot.consecutive_failures == 5
        assert breaker.engine.schedule._runs_at == {}
