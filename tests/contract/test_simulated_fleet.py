"""Fleets of many processes over simulated hours: what they come to see, and when they trip."""

import random
from collections.abc import Callable, Iterator

import pytest

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.breakers.machine import reset
from analytics_admin.breakers.snapshot import Counts, Snapshot
from analytics_admin.breakers.store import Move
from tests.simulation import SimulatedSite, calls_in_order, simulated_site

NAME = "simulated"


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


@pytest.mark.parametrize("luck", range(20))
def test_100_processes_at_one_call_a_minute_trip_after_5_failures(
    site: SimulatedSite, luck: int
) -> None:
    """Each holds a success that it tells when it calls next, when the backend is dead already."""
    processes = [site.process(NAME) for _ in range(100)]
    calls = [process(answer) for process in processes]
    began, failures = site.clock.now, 0
    order = calls_in_order(dict.fromkeys(range(100), 1 / 60), 600, random.Random(luck))
    for at, number in order:
        site.clock.now = began + at
        try:
            calls[number](backend_is_up=at < 300)
        except ConnectionError:
            failures += 1
        except CircuitOpenError:
            break
    assert failures == 5
    (transition,) = site.store.transitions(NAME)
    assert transition.cause == "consecutive_failures"
    assert transition.at - began < 310


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
    process.fleet.flush()
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
    process.fleet.flush()
    assert counted(site) == Counts(calls=1)
