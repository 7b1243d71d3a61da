"""A store that comes back with its past brings nothing back that was cleared, set or deleted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from analytics_admin.caching import SearchCache, epochs
from analytics_admin.caching.clear import hard, soft, tags
from analytics_admin.caching.clear.server import await_copies
from analytics_admin.caching.epochs import new_record, record_key
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


class Trail:
    """What the audit trail has on record: clears, oldest first, and those that were lost."""

    def __init__(self) -> None:
        self.clears: list[str] = []
        self.lost: list[str] = []
        self.questions = 0

    def find_receipts(self, *, after: str, acknowledged: bool = False) -> list[str]:
        self.questions += acknowledged
        if after not in self.clears:
            return self.clears[-1:]
        return self.clears[self.clears.index(after) + 1 :]

    def clear_again(self, receipts: Sequence[str]) -> None:
        self.lost += receipts


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Trail:
    trail = Trail()
    monkeypatch.setattr(past, "_trail", trail)
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
    audit: Trail,
    kind: str,
    dedicated: bool,
) -> None:
    use(settings, store.url, dedicated=dedicated)
    cache = another()
    another().set("q", "wrong", tags=["x"])
    assert cache.get("q", tags=["x"]) == "wrong"
    raw().save()
    CLEARS[kind]("1")
    audit.clears.append("1")
    come_back(store)
    assert value(cache) == "computed"
    assert eventually(lambda: not record().suspended)
    assert value(another()) == "computed"


def test_one_process_puts_on_record_that_a_lost_clear_is_done_again(
    settings: Any,
    store: StoreServer,
    audit: Trail,
) -> None:
    use(settings, store.url)
    caches = [another() for _ in range(3)]
    for cache in caches:
        assert value(cache) == "computed"
    raw().save()
    hard.clear(receipt="1")
    audit.clears.append("1")
    come_back(store)
    for cache in caches:
        value(cache)
    assert eventually(lambda: audit.lost == ["1"])
    assert value(another()) == "computed"
    assert audit.lost == ["1"]


def test_a_process_that_starts_with_the_store_finds_it_out_too(
    settings: Any, store: StoreServer, audit: Trail
) -> None:
    use(settings, store.url)
    another().set("q", "wrong", tags=["x"])
    raw().save()
    hard.clear(receipt="1")
    audit.clears.append("1")
    come_back(store)
    assert value(another()) == "computed"


@pytest.mark.parametrize("last", ["1", None], ids=["a clear", "no clear"])
def test_values_of_a_store_that_holds_the_last_clear_are_hits_again(
    settings: Any, store: StoreServer, audit: Trail, last: str | None
) -> None:
    use(settings, store.url)
    if last is not None:
        hard.clear(receipt=last)
        audit.clears.append(last)
    another().set("q", "kept", tags=["x"])
    cache = another()
    assert cache.get("q", tags=["x"]) == "kept"
    raw().save()
    come_back(store)
    assert eventually(lambda: cache.get("q", tags=["x"]) == "kept")


def test_nothing_of_the_past_counts_while_the_last_clear_is_unknown(
    settings: Any,
    store: StoreServer,
    audit: Trail,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    def fail(**options: Any) -> list[str]:
        raise LookupError

    use(settings, store.url)
    another().set("q", "old", tags=["x"])
    cache = another()
    assert cache.get("q", tags=["x"]) == "old"
    raw().save()
    monkeypatch.setattr(audit, "find_receipts", fail)
    come_back(store)
    assert value(cache) == "computed"
    assert eventually(lambda: "the last clear is not known (LookupError)" in caplog.text)
    assert value(cache) == "computed"


@pytest.mark.parametrize("write", WRITES)
def test_a_write_holds_though_the_store_comes_back_from_a_snapshot_of_before_it(
    settings: Any, store: StoreServer, audit: Trail, write: str
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
    settings: Any, store: StoreServer, audit: Trail
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
    settings: Any, store: StoreServer, audit: Trail, kind: str
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
        audit.clears.append("1")
        store.stop()
        replica.thaw()
        replica.ask("REPLICAOF", "NO", "ONE")
        door.move_to(replica.socket_path)
        assert value(cache) == "computed"


@pytest.mark.parametrize("kind", CLEARS)
def test_a_clear_holds_though_an_old_primary_is_taken_again_that_had_not_heard_of_it(
    settings: Any, store: StoreServer, audit: Trail, kind: str
) -> None:
    with StoreServer(port=free_port()) as other, Proxy(store.socket_path) as door:
        use(settings, door.url)
        CLEARS["hard"]("1")
        audit.clears.append("1")
        cache = another()
        another().set("q", "wrong", tags=["x"])
        assert cache.get("q", tags=["x"]) == "wrong"
        other.follow(store)
        other.ask("REPLICAOF", "NO", "ONE")
        door.move_to(other.socket_path)
        assert eventually(lambda: cache.get("q", tags=["x"]) == "wrong")
        CLEARS[kind]("2")
        audit.clears.append("2")
        door.move_to(store.socket_path)
        assert value(cache) == "computed"
        assert eventually(lambda: audit.lost == ["2"])
        cache.set("q", "kept", tags=["x"])
        other.follow(store)  # and once more, which it does follow
        other.ask("REPLICAOF", "NO", "ONE")
        door.move_to(other.socket_path)
        assert eventually(lambda: cache.get("q", tags=["x"]) == "kept")
        CLEARS[kind]("3")
        audit.clears.append("3")
        door.move_to(store.socket_path)
        assert value(cache) == "computed"


class TestLateClears:
    """An old primary may take a clear after the new one was compared."""

    @pytest.fixture
    def moved(
        self, settings: Any, store: StoreServer, audit: Trail, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[SearchCache]:
        """A cache that has gone over to a replica which lacked nothing."""
        monkeypatch.setattr(past, "COMPARE_SECONDS", 0.02)
        with StoreServer(port=free_port()) as replica, Proxy(store.socket_path) as door:
            use(settings, door.url)
            hard.clear(receipt="1")
            audit.clears.append("1")
            cache = another()
            another().set("q", "wrong", tags=["x"])
            assert cache.get("q", tags=["x"]) == "wrong"
            replica.follow(store)
            replica.ask("REPLICAOF", "NO", "ONE")
            store.stop()
            door.move_to(replica.socket_path)
            assert eventually(lambda: cache.get("q", tags=["x"]) == "wrong")
            yield cache

    def test_the_new_one_is_compared_again(self, moved: SearchCache, audit: Trail) -> None:
        audit.clears.append("late")
        assert eventually(lambda: value(moved) == "computed")
        assert eventually(lambda: audit.lost == ["late"])
        assert value(another()) == "computed"

    @pytest.mark.parametrize("kind", CLEARS)
    def test_a_later_clear_does_not_hide_one(
        self, moved: SearchCache, audit: Trail, kind: str
    ) -> None:
        CLEARS[kind]("2")
        moved.set("q", "wrong", tags=["x"])
        audit.clears += ["late", "2"]
        assert eventually(lambda: audit.lost == ["late"])
        assert value(moved) == "computed"

    def test_clears_that_the_new_one_has_taken_are_not_done_again(
        self, moved: SearchCache, audit: Trail
    ) -> None:
        for number in range(20):
            CLEARS[list(CLEARS)[number % 3]](f"new-{number}")
            audit.clears.append(f"new-{number}")
        moved.set("q", "kept", tags=["x"])
        before = audit.questions
        assert eventually(lambda: audit.questions > before + 3)
        assert not audit.lost
        assert moved.get("q", tags=["x"]) == "kept"

    def test_a_process_that_starts_meanwhile_compares_too(
        self, moved: SearchCache, audit: Trail
    ) -> None:
        moved.reconnect()  # ends its thread
        cache = another()
        assert cache.get("q", tags=["x"]) == "wrong"
        audit.clears.append("late")
        assert eventually(lambda: audit.lost == ["late"])

    def test_after_a_while_a_clear_ends_it(
        self, moved: SearchCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(epochs, "WATCH_SECONDS", 0.0)
        hard.clear(receipt="2")
        found = record()
        assert found is not None
        assert (found.receipt, found.receipts, found.watched_until) == ("2", (), 0.0)


def test_without_permission_to_ask_which_server_it_is_a_lost_clear_is_found_out_a_moment_later(
    settings: Any, store: StoreServer, audit: Trail, tmp_path: Any
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
    audit.clears.append("1")
    store.stop()
    store.start()
    store.ask(*acl)
    assert eventually(lambda: value(cache) == "computed")


def test_a_record_that_is_gone_is_told_once(
    settings: Any, store: StoreServer, caplog: Any, audit: Trail
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


def test_a_write_during_the_check_of_another_connection_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(past, "identity_of", lambda replies: "new")
    there = replace(new_record(server="new"), born="old").encode()
    for trace in (b"1 epoch 1 0 ", b""):  # the first write is there, or lost
        check = past.PastCheck("record")
        check.note_write("first", 1)

        def exchange(commands: Any, check: Any = check, trace: bytes = trace) -> list[Any]:
            if len(commands) == 1:
                return [there if commands[0][0] == "GET" else 1]
            check.note_write("second", 2)
            return [b"", b"", there, trace]

        check.check(exchange, is_return=True)
        assert check._write is not None
        assert check._write.key == "second"
