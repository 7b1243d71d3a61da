"""What the tests of several doors share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.breakers import trip
from tests.servers import StoreServer, free_port

PASSWORD = "hunter2-of-the-store"


@pytest.fixture(params=["stopped", "frozen"])
def lost(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    """The breakers, "api.open" among them, on a store that has stopped, or hangs."""
    with StoreServer(port=free_port(), requirepass=PASSWORD) as server:
        address = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/2"
        settings.CACHES = {
            **settings.CACHES,
            "breakers": {**settings.CACHES["breakers"], "LOCATION": address},
        }
        trip("api.open")
        server.freeze() if request.param == "frozen" else server.stop()
        yield
