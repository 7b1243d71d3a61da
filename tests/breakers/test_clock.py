"""A store whose clock is set makes no breaker wait longer than its policy allows."""

from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.state import Counts, Results, State
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.simulation import SimulatedSite
from tests.support.stored_breakers import change_record

HOUR = 3600.0
WAIT = 60.0


def set_clock(site: SimulatedSite, ahead: float) -> None:
    """Set the store's clock; the processes' own go on as they were."""
    site.store._clock = lambda: site.clock.time() + ahead


def process(site: SimulatedSite, **policy: Any) -> CircuitBreaker:
    return site.process("search", wait_duration_in_open_state=WAIT, **policy)


def call(breaker: CircuitBreaker, *, fails: bool = False) -> None:
    permit = breaker.acquire()
    permit.fail() if fails else permit.succeed()


def rejects(breaker: CircuitBreaker) -> bool:
    try:
        breaker.acquire().release()
    except CircuitOpenError as error:
        return error.retry_after <= WAIT
    return False


@pytest.mark.parametrize("late", [False, True], ids=["saw it open before", "hears of it after"])
def test_an_open_breaker_waits_no_longer_when_the_clock_is_set_back(site, late):
    breaker = process(site, failure_threshold=1)
    call(breaker, fails=True)
    if late:
        breaker = process(site, failure_threshold=1)
    set_clock(site, -HOUR)
    site.clock.now += 1
    assert rejects(breaker)
    for _ in range(4):
        site.clock.now += WAIT / 5
        assert rejects(breaker)
    site.clock.now += WAIT / 5
    call(breaker)
    assert breaker.state == "closed"


def test_a_lost_probe_has_failed_in_time_when_the_clock_is_set_back(site):
    breaker = process(site, failure_threshold=1, max_wait_duration_in_half_open_state=WAIT)
    call(breaker, fails=True)
    site.clock.now += WAIT
    lost = breaker.acquire()
    set_clock(site, -HOUR)
    site.clock.now += 1
    assert rejects(breaker)
    assert breaker.state == "half_open"
    site.clock.now += WAIT
    assert rejects(breaker)
    assert breaker.state == "open"
    site.clock.now += WAIT
    call(breaker)
    assert breaker.state == "closed"
    lost.release()


def test_an_open_breaker_probes_when_the_clock_is_set_ahead(site):
    breaker = process(site, failure_threshold=1)
    call(breaker, fails=True)
    set_clock(site, HOUR)
    site.clock.now += 1
    call(breaker)
    assert breaker.state == "closed"


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_rates_are_judged_soon_again_after_the_clock_is_set(site, ahead):
    rates = {"failure_rate_threshold": 50, "sliding_window_type": "time_based"}
    breaker = process(site, failure_threshold=None, minimum_number_of_calls=10, **rates)
    call(breaker)
    set_clock(site, ahead)
    site.clock.now += 1
    call(breaker)
    site.clock.now += 4
    permits = [breaker.acquire() for _ in range(10)]
    for permit in permits:
        permit.fail()
    assert rejects(breaker)


def test_a_bucket_ahead_of_the_clock_is_empty(site):
    rates = {"failure_rate_threshold": 100, "sliding_window_type": "time_based"}
    breaker = process(site, failure_threshold=None, minimum_number_of_calls=10, **rates)
    call(breaker)
    site.clock.now += 2
    for _ in range(9):
        call(breaker, fails=True)
    set_clock(site, -HOUR)
    site.clock.now += 2
    call(breaker, fails=True)
    assert not rejects(breaker)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_success_ends_the_run_although_the_last_failure_lies_ahead_of_the_clock(kind):
    clock = [2e9]
    store = MemoryStore(lambda: clock[0]) if kind == "memory" else RedisStore("breakers", timeout=2)
    created = store.compare_and_set([Move(name="run", expected=None, new=new_record())])[0].snapshot
    generation = created.generation
    store.add([Report(name="run", generation=generation, results=Results(failures=3))])
    if kind == "redis":
        change_record("run", last_failure_at=created.entered_at + HOUR)
    clock[0] -= HOUR
    now = store.load_many(["run"]).now
    success = Results(successes=((int(now), 1),), newest_success_at=now)
    reading = store.add([Report(name="run", generation=generation, results=success)])
    assert reading.snapshots["run"].consecutive_failures == 0


def test_a_generation_may_last_for_many_years():
    """Its times are counted in microseconds, which take more and more digits."""
    store = RedisStore("breakers", timeout=2)
    (made,) = store.compare_and_set([Move(name="old", expected=None, new=new_record())])
    change_record("old", entered_at=made.now - 20 * 365 * 86_400)
    generation = made.snapshot.generation
    for results in (
        Results(failures=1),
        Results(successes=((int(made.now), 1),), newest_success_at=made.now),
        Results(failures=2),
    ):
        report = Report(name="old", generation=generation, results=results)
        snapshot = store.add([report]).snapshots["old"]
        assert snapshot.state is State.CLOSED
    assert snapshot.counts == Counts(calls=4, failures=3)
    assert snapshot.last_success_at == pytest.approx(made.now, abs=0.001)
