"""What tests of the engine share: a site whose processes run on simulated time."""

from collections.abc import Iterator

import pytest

from tests.support.simulation import SimulatedSite, simulated_site


@pytest.fixture
def site() -> Iterator[SimulatedSite]:
    with simulated_site() as site:
        yield site
