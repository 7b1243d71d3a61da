"""Simulations for a site's tests: in memory, on a clock that the test moves, without a server.

With pytest, put ``pytest_plugins = ["analytics_admin.testing"]`` into the root conftest.py and use
the fixtures ``breakers`` and ``simulated_fleet``. Elsewhere use the context managers.
"""

from analytics_admin.testing.breakers import (
    SimulatedBreakers,
    SimulatedFleet,
    SimulatedProcess,
    simulated_breakers,
    simulated_fleet,
)

__all__ = [
    "SimulatedBreakers",
    "SimulatedFleet",
    "SimulatedProcess",
    "simulated_breakers",
    "simulated_fleet",
]

try:
    import pytest as _pytest  # noqa: F401
except ImportError:  # other test runners use the context managers
    pass
else:
    from analytics_admin.testing.fixtures import (  # noqa: F401
        _simulated_fleet,
        breakers,
    )
