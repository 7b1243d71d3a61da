"""No fleet opens by chance, and none is late when its backend dies: shorter than the benchmark."""

import pytest

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
@pytest.mark.parametrize("fleet", [FLEETS[8], FLEETS[10], FLEETS[12]], ids=str)
def test_one_pod_of_twenty_that_restarts_opens_nothing(fleet: Fleet, way: str) -> None:
    """Its calls in flight fail at one moment, up to fifty of them; all others succeed."""
    outcome = restart_pods(
        fleet, max(2.0, CALLS / fleet.rate), 0.8, seed=1, gets_pushes=way == "hears"
    )
    assert outcome.opened_at is None
