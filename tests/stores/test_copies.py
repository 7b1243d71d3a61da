"""Which copies have what an operation has done: the store's replicas, and its disk."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.breakers import runtime
from analytics_admin.caching.clear import hard, server
from analytics_admin.stores import copies
from analytics_admin.stores.copies import Copies
from tests.support.cache_aliases import redis_alias, use_caches
from tests.support.servers import StoreServer, free_port

STORES: dict[str, Callable[[], Copies | None]] = {
    "breakers": lambda: runtime.operator_store().await_copies(),
    "search": server.await_copies,
}


def use(settings: Any, store: StoreServer, login: str = "") -> None:
    url = store.url.replace("://", f"://{login}")
    use_caches(
        settings,
        search=redis_alias("search", url=url, db=0),
        breakers=redis_alias("breakers", url=url, db=0),
    )


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as started:
        yield started


@pytest.mark.parametrize("alias", STORES)
class TestCopies:
    def test_a_store_without_copies_has_none_to_wait_for(
        self, settings: Any, store: StoreServer, alias: str
    ) -> None:
        use(settings, store)
        assert STORES[alias]() == Copies()

    def test_replicas_that_have_it_are_counted_and_so_are_those_that_lag(
        self, settings: Any, store: StoreServer, alias: str
    ) -> None:
        use(settings, store)
        hard.clear()
        with StoreServer(port=free_port()) as one, StoreServer(port=free_port()) as two:
            one.follow(store)
            two.follow(store)
            assert STORES[alias]() == Copies(replicas=2)
            two.freeze()
            assert STORES[alias]() == Copies(replicas=2, replicas_behind=1)

    @pytest.mark.parametrize(
        ("fsync", "on_disk"), [("always", True), ("everysec", True), ("no", False)]
    )
    def test_it_waits_until_the_file_of_all_writes_is_on_disk(
        self, settings: Any, store: StoreServer, alias: str, fsync: str, on_disk: bool
    ) -> None:
        store.ask("CONFIG", "SET", "appendfsync", fsync)
        store.ask("CONFIG", "SET", "appendonly", "yes")
        use(settings, store)
        hard.clear()
        assert STORES[alias]() == Copies(on_disk=on_disk)

    def test_without_the_right_to_ask_it_is_unknown(
        self, settings: Any, store: StoreServer, alias: str
    ) -> None:
        store.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-@dangerous")
        use(settings, store, login="app:pw@")
        assert STORES[alias]() == copies.UNKNOWN

    def test_a_store_that_is_gone_raises_nothing(
        self, settings: Any, store: StoreServer, alias: str
    ) -> None:
        use(settings, store)
        store.stop()
        assert STORES[alias]() == copies.UNKNOWN
