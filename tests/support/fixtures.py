"""What the tests of several doors share."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics_admin.api import throttling
from analytics_admin.breakers import CircuitBreaker, circuit_breaker, runtime
from analytics_admin.breakers.history import PERIOD_SECONDS
from analytics_admin.models import Operation
from analytics_admin.services import OperationResult
from project.demo import search
from project.demo.faults import Fault, FaultSwitch
from tests.support.breakers import trip
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer, free_port

PASSWORD = "hunter2-of-the-store"
# Those of the demonstration, declared at its import, would stand in the lists of every other test.
_DEMO_NAMES = ("catalog", "recommendations")
_DEMO_BREAKERS = {name: runtime._breakers.pop(name) for name in _DEMO_NAMES}
_DEMO_OPTIONS = {name: runtime._options.pop(name) for name in _DEMO_NAMES}


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


@pytest.fixture
def server() -> Iterator[StoreServer]:
    """A store of the test's own."""
    with StoreServer() as server:
        yield server


@pytest.fixture
def proxy(server: StoreServer, settings: Any) -> Iterator[Proxy]:
    """The line on which the breakers reach that store."""
    with Proxy(server.socket_path) as proxy:
        location = f"{proxy.url}/0"
        breakers = {**settings.CACHES["breakers"], "LOCATION": location}
        settings.CACHES = {**settings.CACHES, "breakers": breakers}
        yield proxy


@pytest.fixture
def still_drawing() -> None:
    """No period of the drawings of calls ends soon, which would move them."""
    if (gone := time.time() % PERIOD_SECONDS) > PERIOD_SECONDS - 3:
        time.sleep(PERIOD_SECONDS - gone)


@pytest.fixture
def still_counting() -> None:
    """No minute of the counts of the search cache ends soon, which would move them."""
    if (gone := time.time() % 60) > 57:
        time.sleep(60 - gone)


@pytest.fixture
def counted_together(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests are counted in the store, also while the machine stands still for a moment."""
    monkeypatch.setattr(throttling, "REPLY_TIMEOUT_SECONDS", 10.0)
    monkeypatch.setattr(throttling, "MAX_HIT_SECONDS", 10.0)
    throttling.counter._shared = None
    yield
    throttling.counter._shared = None


@pytest.fixture
def demo_catalog(monkeypatch: pytest.MonkeyPatch) -> CircuitBreaker:
    """The demonstration's breaker; it and its like are declared for the test alone."""
    monkeypatch.setattr(runtime, "_breakers", dict(_DEMO_BREAKERS))
    monkeypatch.setattr(runtime, "_options", {})
    for name, options in _DEMO_OPTIONS.items():
        assert circuit_breaker(name, **options) is _DEMO_BREAKERS[name]
    return search.catalog


@pytest.fixture
def fault(settings: Any, tmp_path: Path) -> Callable[[Fault], None]:
    """The switch, which every test finds untouched."""
    settings.DEMO_FOLDER = tmp_path / "demo"
    # A refresh behind a test's back would still fail in the next one.
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "SEARCH_CACHE_BACKGROUND_REFRESHES": 0,
    }
    return FaultSwitch(settings.DEMO_FOLDER).set


@pytest.fixture
def look(client: Any, superuser: Any) -> Callable[..., Any]:
    """Return a superuser's look at the page of an act, by what it answered or by its row."""
    client.force_login(superuser)

    def look(act: OperationResult | Operation, **asked: Any) -> Any:
        operation_id = act.pk if isinstance(act, Operation) else act.operation_id
        return client.get(f"/admin/analytics_admin/operation/{operation_id}/", **asked)

    return look


@pytest.fixture
def operator(client: Any, superuser: Any) -> Any:
    """A browser of somebody who may do everything in the console."""
    client.force_login(superuser)
    return client


@pytest.fixture
def send(client: Any, mint: Callable[..., str]) -> Callable[..., Any]:
    """Send a request to the REST API in JSON, with a token of ``sub`` (None: without)."""

    def send(
        method: str, path: str, body: Any = None, *, sub: str | None = "admin", **headers: str
    ) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        if sub is not None:
            headers["Authorization"] = f"Bearer {mint(sub)}"
        return client.generic(
            method, path, content, content_type="application/json", headers=headers
        )

    return send
