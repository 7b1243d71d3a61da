"""The fixtures of analytics_admin.testing, which pytest finds in the package."""

from collections.abc import Iterator

import pytest

from analytics_admin.testing.breakers import (
    SimulatedBreakers,
    SimulatedFleet,
    simulated_breakers,
    simulated_fleet,
)
from analytics_admin.testing.search_cache import SimulatedSearchCache, simulated_search_cache


@pytest.fixture
def breakers() -> Iterator[SimulatedBreakers]:
    """Every breaker of this process, in memory, on a clock that the test moves."""
    with simulated_breakers() as simulated:
        yield simulated


@pytest.fixture(name="simulated_fleet")
def _simulated_fleet() -> Iterator[SimulatedFleet]:
    """Processes that share their breakers, in memory, on a clock that the test moves."""
    with simulated_fleet() as fleet:
        yield fleet


@pytest.fixture(name="simulated_search_cache")
def _simulated_search_cache() -> Iterator[SimulatedSearchCache]:
    """The search cache of this process, empty, in memory, on a clock that the test moves."""
    with simulated_search_cache() as simulated:
        yield simulated
