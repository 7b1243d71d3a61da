"""No fleet opens by chance, and none is late when its backend dies: shorter than the benchmark."""

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from tests.support.backend import BackendDown
from tests.support.crew import Crew
from tests.support.false_opens import FLEETS, Fleet, fail_by_rate, fail_now_and_then, restart_pods

pytestmark = pytest.mark.lengthy
SETTLE = {"polls": 0.3 + 0.05, "hears": 0.08 + 0.05}
"""Seconds from the failure that reaches the threshold to the trip, at most."""
CALLS = 1_000
each_way = pytest.mark.parametrize("way", SETTLE)
each_fleet = pytest.mark.parametrize("fleet", FLEETS, ids=str)


@each_way
@each_fleet
def test_failures_at_random_open_nothing_and_a_dead_backend_trips_in_time(
    fleet: Fleet, way: str
) -> None:
    outcome = fail_now_and_then(fleet, CALLS / fleet.rate, seed=1, gets_pushes=way == "hears")
    assert outcome.opened_at is None
    assert outcome.tripped_after is not None
    assert 0 <= outcome.tripped_after <= SETTLE[way]


@pytest.mark.parametrize("fleet", [Fleet(processes=20, rate=200, failing=0.3), FLEETS[11]], ids=str)
@pytest.mark.parametrize("seconds", [0.5, 15.0])
def test_a_rate_that_is_not_at_its_limit_opens_nothing_and_a_dead_backend_trips_in_time(
    fleet: Fleet, seconds: float
) -> None:
    outcome = fail_by_rate(fleet, seconds, seed=1, gets_pushes=True)
    assert outcome.opened_at is None
    assert outcome.tripped_after is not None
    assert 0 <= outcome.tripped_after <= SETTLE["hears"]


@each_way
@pytest.mark.parametrize("threshold", [11, 15, 21, 40])
def test_a_threshold_beyond_the_times_that_are_kept_is_no_later(threshold: int, way: str) -> None:
    fleet = Fleet(processes=60, rate=240, failing=0.02, threshold=threshold)
    outcome = fail_now_and_then(fleet, CALLS / fleet.rate, seed=1, gets_pushes=way == "hears")
    assert outcome.opened_at is None
    assert outcome.tripped_after is not None
    assert 0 <= outcome.tripped_after <= SETTLE[way] + 0.05


@each_way
@each_fleet
def test_one_pod_of_twenty_that_restarts_opens_nothing(fleet: Fleet, way: str) -> None:
    """Its calls in flight fail at one moment, up to fifty of them; all others succeed."""
    outcome = restart_pods(
        fleet, max(2.0, CALLS / fleet.rate), 0.8, seed=1, gets_pushes=way == "hears"
    )
    assert outcome.opened_at is None


# Real processes, whose calls overlap.

SECONDS = 8.0
CALLS_A_SECOND = 40
"""Of each process."""
THRESHOLD = 5

Ends = list[tuple[float, str]]
"""When calls ended (monotonic), and how: failed, rejected or succeeded."""


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(6) as crew:
        yield crew


def serve(name: str, failing: float, restarts: tuple[float, ...], dies_at: float) -> Ends:
    """Make calls of 0.3 s in tasks; return how they ended.

    This share fails. At each of ``restarts`` (seconds from now) all fail that one pod of 20 has in
    hand; from ``dies_at`` on every call fails.
    """
    return asyncio.run(_serve(name, failing, restarts, dies_at))


async def _serve(name: str, failing: float, restarts: tuple[float, ...], dies_at: float) -> Ends:
    breaker = circuit_breaker(name)
    breaker.call(int)
    began, ends = time.monotonic(), []

    async def search() -> None:
        arrived, is_on_that_pod = time.monotonic() - began, random.random() < 1 / 20
        for at in restarts:
            if is_on_that_pod and arrived < at < arrived + 0.3:
                await asyncio.sleep(began + at - time.monotonic())
                raise BackendDown
        await asyncio.sleep(0.3)
        if random.random() < failing or arrived > dies_at:
            raise BackendDown

    async def call() -> None:
        how = "succeeded"
        try:
            await breaker.acall(search)
        except BackendDown:
            how = "failed"
        except CircuitOpenError:
            how = "rejected"
        ends.append((time.monotonic(), how))

    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < began + SECONDS:
            tasks.create_task(call())
            await asyncio.sleep(random.expovariate(CALLS_A_SECOND))
    return ends


RESTARTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)


@pytest.mark.parametrize(
    ("failing", "restarts"), [(0.05, ()), (0.0, RESTARTS)], ids=["at random", "one pod"]
)
def test_real_processes_open_for_no_failures_among_successes(
    crew: Crew, failing: float, restarts: tuple[float, ...]
) -> None:
    answers = crew.ask_all(serve, f"healthy-{failing}", failing, restarts, SECONDS)
    ends = [how for answer in answers for _, how in answer]
    assert ends.count("failed") >= 10
    assert "rejected" not in ends


def test_real_processes_reject_soon_after_their_backend_died(crew: Crew) -> None:
    answers = crew.ask_all(serve, "dying", 0.01, (), SECONDS / 2)
    ends = sorted(end for answer in answers for end in answer)
    last_success = max(at for at, how in ends if how == "succeeded")
    after = [(at, how) for at, how in ends if at > last_success]
    fifth = [at for at, how in after if how == "failed"][THRESHOLD - 1]
    rejected = min(at for at, how in after if how == "rejected")
    assert rejected - fifth < SETTLE["polls"]
