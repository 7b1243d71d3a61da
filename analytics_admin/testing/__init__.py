"""Simulations for a site's tests: in memory, on a clock that the test moves, without a server.

With pytest, put ``pytest_plugins = ["analytics_admin.testing"]`` into the root conftest.py and use
the fixtures ``breakers``, ``simulated_fleet`` and ``simulated_search_cache``. Elsewhere use the
context managers.
"""

from analytics_admin.testing.breakers import (
    SimulatedBreakers,
    SimulatedFleet,
    SimulatedProcess,
    simulated_breakers,
    simulated_fleet,
)
from analytics_admin.testing.search_cache import (
    CacheCalls,
    SimulatedSearchCache,
    simulated_search_cache,
)

__all__ = [
    "CacheCalls",
    "SimulatedBreakers",
    "SimulatedFleet",
    "SimulatedProcess",
    "SimulatedSearchCache",
    "simulated_breakers",
    "simulated_fleet",
    "simulated_search_cache",
]

try:
    import pytest
except ImportError:  # other test runners use the context managers
    pass
else:
    from analytics_admin.testing.fixtures import (  # noqa: F401  pytest finds them here
        _simulated_fleet,
        _simulated_search_cache,
        breakers,
    )

    del pytest
