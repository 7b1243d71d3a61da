"""No fleet opens by chance, and none is late when its backend dies: shorter than the benchmark."""

import pytest

from tests.support.false_opens import FLEETS, Fleet, fail_now_and_then, restart_pods

SETTLE = 0.3 + 0.05
CALLS = 1_000
each_fleet = pytest.mark.parametrize("fleet", FLEETS, ids=str)


@each_fleet
def test_failures_at_random_open_nothing_and_a_dead_backend_trips_in_time(fleet: Fleet) -> None:
    outcome = fail_now_and_then(fleet, CALLS / fleet.rate, seed=1)
    assert outcome.opened_at is None
    assert outcome.tripped_after is not None
    assert 0 <= outcome.tripped_after <= SETTLE


@pytest.mark.parametrize("fleet", [FLEETS[8], FLEETS[12]], ids=str)
def test_one_pod_of_twenty_that_restarts_opens_nothing(fleet: Fleet) -> None:
    """Its calls in flight fail at one moment, up to fifty of them; all others succeed."""
    assert restart_pods(fleet, CALLS / fleet.rate, 0.4, seed=1).opened_at is None
