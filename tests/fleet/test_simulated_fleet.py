"""Fleets of many processes over simulated hours: what they come to see, and when they trip."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.state import Counts, Snapshot, State
from analytics_admin.breakers.state_machine import reset
from analytics_admin.breakers.stores.base import Move
from tests.support.simulation import SimulatedSite, calls_in_order, simulated_site

pytestmark = pytest.mark.lengthy
NAME = "simulated"
SETTLE = 0.3 + 1e-3
"""SYNC_INTERVAL and the time that a report takes on its way: by then a run is judged."""


@pytest.fixture
def site() -> Iterator[SimulatedSite]:
    with simulated_site() as site:
        yield site


def answer(backend_is_up: bool) -> None:
    if not backend_is_up:
        raise ConnectionError


def moved(site: SimulatedSite, change: Callable[[Snapshot], Snapshot]) -> None:
    """Have an operator, or some other process, move the breaker."""
    current = site.store.load_many([NAME]).snapshots[NAME]
    assert current is not None
    (outcome,) = site.store.compare_and_set(
        [Move(name=NAME, expected=current, new=change(current))]
    )
    assert outcome.won


def counted(site: SimulatedSite) -> Counts:
    snapshot = site.store.load_many([NAME]).snapshots[NAME]
    assert snapshot is not None
    return snapshot.counts


@pytest.mark.parametrize("luck", range(8))
def test_100_processes_at_one_call_a_minute_trip_a_moment_after_5_failures(
    site: SimulatedSite, luck: int
) -> None:
    """Each holds a success that it tells when it calls next, when the backend is dead already."""
    processes = [site.process(NAME) for _ in range(100)]
    calls = [process(answer) for process in processes]
    began, failures = site.clock.now, []
    order = calls_in_order(dict.fromkeys(range(100), 1 / 60), 190, random.Random(luck))
    for at, number in order:
        site.clock.now = began + at
        try:
            calls[number](backend_is_up=at < 70)
        except ConnectionError:
            failures.append(at)
        except CircuitOpenError:
            break
    (transition,) = site.store.transitions(NAME)
    assert transition.cause == "consecutive_failures"
    assert 0 <= transition.at - began - failures[4] < SETTLE


FLEETS = [(200, 2000, 0.01), (200, 200, 0.01), (50, 500, 0.02), (20, 2000, 0.02), (20, 200, 0.05)]
"""Processes, calls a second of all together, the part of them that fails."""


@pytest.mark.parametrize(("size", "rate", "failing"), FLEETS)
def test_failures_now_and_then_in_many_processes_are_no_run(
    site: SimulatedSite, size: int, rate: float, failing: float
) -> None:
    """Five in a row are to be expected once in days; before, the fleet opened within seconds."""
    luck = random.Random(size * rate)
    processes = [site.process(NAME) for _ in range(size)]
    calls = [process(answer) for process in processes]
    until = site.clock.now + 4_000 / rate + 2
    while site.clock.now < until:
        site.clock.now += luck.expovariate(rate)
        with suppress(ConnectionError):
            luck.choice(calls)(backend_is_up=luck.random() >= failing)
    assert site.events == []


def test_a_backend_that_dies_under_a_busy_fleet_opens_the_breaker_within_a_moment(
    site: SimulatedSite,
) -> None:
    luck = random.Random(5)
    calls = [site.process(NAME)(answer) for _ in range(50)]
    began, failures = site.clock.now, []
    while not site.events:
        site.clock.now += luck.expovariate(500)
        is_up = site.clock.now - began < 2
        with suppress(ConnectionError):
            luck.choice(calls)(backend_is_up=is_up)
            continue
        failures.append(site.clock.now)
    (transition,) = site.store.transitions(NAME)
    assert transition.at - failures[4] < SETTLE


def cold(site: SimulatedSite, processes: list[CircuitBreaker]) -> None:
    """Nobody ever used the breaker."""


def after_a_reset(site: SimulatedSite, processes: list[CircuitBreaker]) -> None:
    everybody_succeeds(site, processes)
    moved(site, reset)


def after_a_close(site: SimulatedSite, processes: list[CircuitBreaker]) -> None:
    everybody_succeeds(site, processes)
    moved(site, lambda current: replace(reset(current), state=State.OPEN, wait=1.0, attempts=1))
    site.clock.now += 2
    processes[0].call(answer, backend_is_up=True)
    assert processes[0].state == "closed"


def everybody_succeeds(site: SimulatedSite, processes: list[CircuitBreaker]) -> None:
    for _ in range(20):
        site.clock.now += 0.05
        for process in processes:
            process.call(answer, backend_is_up=True)


WINDOWS = [
    # calls a second of each of 4 processes, window
    (1, {"sliding_window_type": "time_based", "sliding_window_size": 60}),
    (20, {"sliding_window_type": "time_based", "sliding_window_size": 10}),
    (100, {"sliding_window_type": "time_based", "sliding_window_size": 5}),
    (1, {"sliding_window_size": 20}),
    (20, {"sliding_window_size": 100}),
    (100, {"sliding_window_size": 200}),  # as many calls as the site makes in two intervals
]


@pytest.mark.parametrize(("rate", "window"), WINDOWS)
@pytest.mark.parametrize("begin", [cold, after_a_reset, after_a_close])
def test_one_failing_process_of_four_trips_no_rate_a_fifth_above(
    site: SimulatedSite, begin: Any, rate: float, window: dict[str, Any]
) -> None:
    """Failures are reported at once, successes an interval later at most: no false trip follows.

    Among few calls, chance alone makes a fifth.
    """
    policy = {"failure_rate_threshold": 30 if rate > 1 else 50, "minimum_number_of_calls": 10}
    processes = [site.process(NAME, **policy, **window) for _ in range(4)]
    begin(site, processes)
    before = len(site.store.transitions(NAME))
    calls = [process(answer) for process in processes]
    began, failures = site.clock.now, 0
    rates = dict.fromkeys(range(4), rate)
    for at, number in calls_in_order(rates, max(8, 40 / rate), random.Random(rate)):
        site.clock.now = began + at
        try:
            calls[number](backend_is_up=number != 0)
        except ConnectionError:
            failures += 1
    assert failures >= 40
    assert len(site.store.transitions(NAME)) == before


DEAD_AT_ONCE = [
    # processes, calls a second of each, minimum, window
    (1, 100, 10, {}),
    (1, 100, 100, {}),
    (4, 20, 100, {}),
    (4, 100, 100, {}),
    (40, 10, 10, {}),
    (40, 10, 100, {"sliding_window_type": "time_based", "sliding_window_size": 60}),
    (200, 1, 20, {"sliding_window_type": "time_based", "sliding_window_size": 10}),
]


@pytest.mark.parametrize(("number", "rate", "minimum", "window"), DEAD_AT_ONCE)
@pytest.mark.parametrize("begin", [cold, after_a_reset])
def test_a_dead_backend_trips_a_rate_two_intervals_after_its_minimum_of_calls(
    site: SimulatedSite, begin: Any, number: int, rate: float, minimum: int, window: dict[str, Any]
) -> None:
    policy = {"failure_rate_threshold": 50, "minimum_number_of_calls": minimum, **window}
    processes = [site.process(NAME, **policy) for _ in range(number)]
    begin(site, processes)
    calls = [process(answer) for process in processes]
    began = site.clock.now
    for at, caller in calls_in_order(dict.fromkeys(range(number), rate), 5, random.Random(rate)):
        site.clock.now = began + at
        try:
            calls[caller](backend_is_up=False)
        except ConnectionError:
            pass
        except CircuitOpenError:
            break
    transition = site.store.transitions(NAME)[0]
    assert transition.cause == "failure_rate"
    pace = number * rate
    assert 0.5 < transition.at - began < minimum / pace + 0.5 + max(0.1, 10 / pace)


def test_a_late_failure_of_a_former_generation_costs_no_success_of_the_present_one(
    site: SimulatedSite,
) -> None:
    process = site.process(NAME)
    process.call(answer, backend_is_up=True)
    late = process.acquire()
    moved(site, reset)
    site.clock.now += 1
    for _ in range(3):
        process.call(answer, backend_is_up=True)
    late.fail()
    process.engine.flush()
    assert counted(site) == Counts(calls=3)


def test_a_late_end_of_a_probe_costs_no_success_of_the_present_generation(
    site: SimulatedSite,
) -> None:
    process = site.process(NAME, failure_threshold=1, wait_duration_in_open_state=10)
    process.acquire().fail()
    site.clock.now += 10
    probe = process.acquire()
    moved(site, reset)
    site.clock.now += 1
    process.call(answer, backend_is_up=True)
    probe.release()
    process.engine.flush()
    assert counted(site) == Counts(calls=1)
