"""Behind the store's address stands a server that is not its primary, or not yet."""

from collections.abc import Iterator
from typing import Any

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import State, StoreChange
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.servers import StoreServer
from tests.support.sites import eventually

KEYS = 300
LOADING_SECONDS = 0.5


@pytest.fixture
def orphan() -> Iterator[StoreServer]:
    """A replica that has lost its primary, and says nothing without it."""
    with StoreServer(replica_serve_stale_data="no") as server:
        server.ask("REPLICAOF", "127.0.0.1", "1")
        yield server


@pytest.fixture
def loading() -> Iterator[StoreServer]:
    """A server that has just been started, and has much to load."""
    with StoreServer() as server:
        for number in range(KEYS):
            server.ask("SET", f"key-{number}", "x" * 1024)
        server.ask("SAVE")
        server.stop()
        server.config = {
            "key_load_delay": round(LOADING_SECONDS / KEYS * 1e6),
            "loading_process_events_interval_bytes": 1024,
        }
        yield server


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("orphan", "the store is a replica that has lost its primary"),
        ("loading", "the store is loading its data"),
    ],
)
def test_it_is_lost_by_its_right_name_and_found_on_a_new_connection(
    kind, reason, proxy, settings, request
):
    settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.1, "SYNC_INTERVAL": 0.05}
    other = request.getfixturevalue(kind)
    events: list[Any] = []
    engine = Engine(lambda: RedisStore("breakers", timeout=1), events.append)
    breaker = CircuitBreaker("a", engine, lambda: BreakerPolicy(failure_threshold=2))
    breaker.call(int)

    def reasons() -> list[str | None]:
        breaker.call(int)
        return [event.reason for event in events if isinstance(event, StoreChange)]

    if kind == "loading":
        other.start()
    proxy.move_to(other.socket_path)
    assert eventually(reasons)
    assert reasons() == [reason]
    if kind == "orphan":
        other.ask("REPLICAOF", "NO", "ONE")
    assert eventually(lambda: reasons()[1:] == [None])
    breaker.call(int)
    for _ in range(2):
        breaker.acquire().fail()
    store = operator_store()
    assert eventually(lambda: store.load_many(["a"]).snapshots["a"].state is State.OPEN)
    assert other.ask("DBSIZE") > 0
