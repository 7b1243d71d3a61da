"""A store that comes back with its past brings nothing back that was cleared, set or deleted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard, soft, tags
from analytics_admin.caching.clear.server import await_copies
from analytics_admin.caching.epochs import record_key
from analytics_admin.caching.inspection.status import inspect
from analytics_admin.caching.stores import past
from analytics_admin.conf import app_settings
from analytics_admin.stores import copies
from analytics_admin.stores.copies import Copies
from tests.support.cache_aliases import raw, record, redis_alias, use_caches
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer, free_port
from tests.support.sites import eventually

CLEARS: dict[str, Callable[[str], Any]] = {
    "hard": lambda receipt: hard.clear(receipt=receipt),
    "soft": lambda receipt: soft.clear_softly(receipt=receipt),
    "tags": lambda receipt: tags.clear_tags(["x"], receipt=receipt),
}
WRITES: dict[str, Callable[[SearchCache], Any]] = {
    "delete": lambda cache: cache.delete("q"),
    "clear_tags": lambda cache: cache.clear_tags(["x"]),
    "set": lambda cache: cache.set("q", "right", tags=["x"]),
    "set after delete": lambda cache: (cache.delete("q"), cache.set("other", 1)),
}


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What the audit trail has on record."""
    trail: dict[str, str | None] = {"last": None}
    monkeypatch.setattr(past, "_last_receipt", lambda: trail["last"])
    return trail


def use(settings: Any, url: str, *, dedicated: bool = False) -> None:
    use_caches(settings, search=redis_alias("s", url=url, db=0))
    settings.ANALYTICS_ADMIN = {
        "SEARCH_CACHE_DEDICATED": dedicated,
        "STORE_RETRY_INTERVAL": 0.02,
        "SEARCH_CACHE_SOFT_CLEAR_GRACE": 0.01,
    }


def another() -> SearchCache:
    return SearchCache(lambda: app_settings().search_cache)


def come_back(store: StoreServer) -> None:
    """End as a crash does, and start again from the last snapshot."""
    store.stop()
    store.start()


def value(cache: SearchCache) -> Any:
    """Return what the cache gives as soon as it reaches its store again."""
    found = []

    def is_back() -> bool:
        found.append(cache.lookup("q", lambda: "computed", tags=["x"]))
        return found[-1].state != "bypass"

    assert eventually(is_back)
    return found[-1].value


@pytest.mark.parametrize("dedicated", [True, False], ids=["flush", "unlink"])
@pytest.mark.parametrize("kind", CLEARS)
def test_a_clear_holds_though_the_store_comes_back_from_a_snapshot_of_before_it(
    settings: Any,
    store: StoreServer,
    audit: dict[str, str | None],
    kind: str,
    dedicated: bool,
) -> None:
    use(settings, store.url, dedicated=dedicated)
    cache = another()
    another().set("q", "wrong", tags=["x"])
    assert cache.get("q", tags=["x"]) == "wrong"
    raw().save()
    CLEARS[kind]("1")
    audit["last"] = "1"
    come_back(store)
    assert value(cache) == "computed"
    assert eventually(lambda: not record().suspended)
    assert value(another()) == "computed"


def test_one_process_puts_on_record_that_a_lost_clear_is_done_again(
    settings: Any,
    store: StoreServer,
    audit: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again: list[str] = []
    monkeypatch.setattr(past, "_clear_again", again.append)
    use(settings, store.url)
    caches = [another() for _ in range(3)]
    for cache in caches:
        assert value(cache) == "computed"
    raw().save()
    hard.clear(receipt="1")
    audit["last"] = "1"
    come_back(store)
    for cache in caches:
        value(cache)
    assert eventually(lambda: again == ["1"])
    assert value(another()) == "computed"
    assert again == ["1"]


def test_a_process_that_starts_with_the_store_finds_it_out_too(
    settings: Any, store: StoreServer, audit: dict[str, str | None]
) -> None:
    use(settings, store.url)
    another().set("q", "wrong", tags=["x"])
    raw().save()
    hard.clear(receipt="1")
    audit["last"] = "1"
    come_back(store)
    assert value(another()) == "computed"


@pytest.mark.parametrize("last", ["1", None], ids=["a clear", "no clear"])
def test_values_of_a_store_that_holds_the_last_clear_are_hits_again(
    settings: Any, store: StoreServer, audit: dict[str, str | None], last: str | None
) -> None:
    use(settings, store.url)
    if last is not None:
        hard.clear(receipt=last)
    audit["last"] = last
    another().set("q", "kept", tags=["x"])
    cache = another()
    assert cache.get("q", tags=["x"]) == "kept"
    raw().save()
    come_back(store)
    assert eventually(lambda: cache.get("q", tags=["x"]) == "kept")


def test_nothing_of_the_past_counts_while_the_last_clear_is_unknown(
    settings: Any, store: StoreServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail() -> str | None:
        raise LookupError

    use(settings, store.url)
    another().set("q", "old", tags=["x"])
    cache = another()
    assert cache.get("q", tags=["x"]) == "old"
    raw().save()
    monkeypatch.setattr(past, "_last_receipt", fail)
    come_back(store)
    assert value(cache) == "computed"
    assert eventually(lambda: "the last clear is not known (LookupError)" in caplog.text)
    assert value(cache) == "computed"


@pytest.mark.parametrize("write", WRITES)
def test_a_write_holds_though_the_store_comes_back_from_a_snapshot_of_before_it(
    settings: Any, store: StoreServer, audit: dict[str, str | None], write: str
) -> None:
    use(settings, store.url)
    cache = another()
    cache.set("q", "wrong", tags=["x"])
    raw().save()
    WRITES[write](cache)
    come_back(store)
    assert value(cache) == "computed"
    assert value(another()) == "computed"


def test_a_value_that_was_set_and_is_in_the_snapshot_is_a_hit_again(
    settings: Any, store: StoreServer, audit: dict[str, str | None]
) -> None:
    use(settings, store.url)
    cache = another()
    cache.delete("q")
    cache.set("q", "kept", tags=["x"])
    raw().save()
    come_back(store)
    assert eventually(lambda: cache.get("q", tags=["x"]) == "kept")


@pytest.mark.parametrize("kind", CLEARS)
def test_a_clear_holds_though_a_replica_takes_over_that_had_not_heard_of_it(
    settings: Any, store: StoreServer, audit: dict[str, str | None], kind: str
) -> None:

    with StoreServer(port=free_port()) as replica, Proxy(store.socket_path) as door:
        use(settings, door.url)
        cache = another()
        another().set("q", "wrong", tags=["x"])
        assert cache.get("q", tags=["x"]) == "wrong"
        replica.follow(store)
        replica.freeze()
        CLEARS[kind]("1")
        assert await_copies() == Copies(replicas=1, replicas_behind=1)
        audit["last"] = "1"
        store.stop()
        replica.thaw()
        replica.ask("REPLICAOF", "NO", "ONE")
        door.move_to(replica.socket_path)
        assert value(cache) == "computed"


def test_without_permission_to_ask_which_server_it_is_a_lost_clear_is_found_out_a_moment_later(
    settings: Any, store: StoreServer, audit: dict[str, str | None], tmp_path: Any
) -> None:
    acl = ("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-@dangerous")
    use(settings, store.url)
    raw().execute_command(*acl)
    limited = store.url.replace("://", "://app:pw@")
    use(settings, limited)
    another().set("q", "wrong", tags=["x"])
    cache = another()
    assert cache.get("q", tags=["x"]) == "wrong"
    store.ask("SAVE")
    hard.clear(receipt="1")
    assert await_copies() == copies.UNKNOWN
    audit["last"] = "1"
    store.stop()
    store.start()
    store.ask(*acl)
    assert eventually(lambda: value(cache) == "computed")


def test_a_record_that_is_gone_is_told_once(
    settings: Any, store: StoreServer, caplog: Any, audit: dict[str, str | None]
) -> None:
    use(settings, store.url)
    cache = another()
    cache.get("q")
    assert "epoch record is gone" not in caplog.text  # there has been none
    cache.set("q", 1)
    for _ in range(2):
        store.ask("DEL", record_key("search"))
        assert cache.lookup("q", lambda: 2, timeout=600).state == "miss"
    assert caplog.text.count("epoch record is gone") == 1


def test_whether_the_record_may_be_evicted_is_shown(settings: Any, store: StoreServer) -> None:
    use(settings, store.url)
    for policy, expected in (("allkeys-random", True), ("volatile-ttl", False)):
        store.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", policy)
        assert inspect("search", dedicated=False).may_evict is expected
