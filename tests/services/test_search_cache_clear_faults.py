"""Soft clear, undo, clear by tags and sweep on a store that is away, sick or deaf, or in a race."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard, scan, soft, tags
from analytics_admin.caching.clear import sweep as sweeping
from analytics_admin.caching.clear.soft import NothingToUndo
from analytics_admin.caching.epochs import record_key
from analytics_admin.caching.keyspace import SCAN_COUNT
from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable
from tests.support.cache_aliases import raw, record, redis_alias, use_caches
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

PASSWORD = "s3cret-pass"
OPERATIONS: dict[str, Callable[[], Any]] = {
    "soft": soft.clear_softly,
    "undo": soft.undo,
    "tags": lambda: tags.clear_tags(["x"]),
    "sweep": sweeping.sweep_leftovers,
}
QUESTIONS: dict[str, Callable[[], Any]] = {
    "undoable": soft.find_undoable,
    "tags": lambda: tags.preview(["x"]),
    "sweep": sweeping.preview,
}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)
DEAD = "x" * 16


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


@pytest.fixture
def cache(settings: Any, store: StoreServer) -> SearchCache:
    """A cache with something for every operation to do."""
    use(settings, store.url)
    cache = SearchCache(lambda: "search")
    cache.set("tagged", "before", tags=["x"])
    soft.clear_softly()
    cache.set("new", "since", tags=["x"])
    leave_behind(10)
    return cache


def use(settings: Any, url: str) -> None:
    use_caches(settings, search=redis_alias("s", url=url, db=0))


def leave_behind(number: int) -> None:
    """Have so many values lie there that count no more."""
    lay = """
    local entry = '1 ' .. ARGV[2] .. ' 1 0 1 0\\n1'
    for i = 1, ARGV[1] do redis.call('SET', 's:1:2:value:k:' .. i, entry) end
    """
    raw().eval(lay, 0, number, DEAD)


def contents() -> dict[bytes, bytes]:
    return {key: raw().dump(key) for key in raw().keys("*")}


@pytest.mark.parametrize("ask", [*OPERATIONS.values(), *QUESTIONS.values()])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_store_that_is_away_fails_the_operation_soon(
    settings: Any, cache: SearchCache, store: StoreServer, ask: Any, how: str
) -> None:
    store.freeze() if how == "frozen" else store.stop()
    try:
        watch = Stopwatch()
        with pytest.raises(StoreUnavailable, match=r"cannot be reached|did not answer in time"):
            ask()
        assert watch.seconds < 1
    finally:
        if how == "frozen":
            store.thaw()


@pytest.mark.parametrize("operation", ["soft", "undo", "tags", "sweep"])
def test_a_read_only_replica_fails_the_operation_and_nothing_is_changed(
    cache: SearchCache, operation: str
) -> None:
    before = contents()
    raw().execute_command("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(StoreUnavailable, match=r"^the store is a read-only replica"):
        OPERATIONS[operation]()
    assert contents() == before


@EVERY_OPERATION
def test_a_user_without_permission_fails_the_operation_and_nothing_is_changed(
    settings: Any, cache: SearchCache, store: StoreServer, operation: str
) -> None:
    before = contents()
    acl = ("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", "+@all", "-@write")
    raw().execute_command(*acl)
    use(settings, store.url.replace("://", f"://reader:{PASSWORD}@"))
    with pytest.raises(StoreUnavailable, match="lacks a permission") as caught:
        OPERATIONS[operation]()
    assert PASSWORD not in repr(caught.value)
    use(settings, store.url)
    assert contents() == before


@pytest.mark.parametrize("operation", ["soft", "undo"])
def test_a_store_out_of_memory_fails_what_needs_memory(cache: SearchCache, operation: str) -> None:
    before = record()
    raw().config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match=r"^the store is out of memory$"):
        OPERATIONS[operation]()
    assert record() == before


def test_a_store_out_of_memory_is_swept_and_its_tags_are_cleared(cache: SearchCache) -> None:
    leave_behind(3000)
    raw().config_set("maxmemory", 1)
    assert sweeping.sweep_leftovers().removed == 3000
    assert tags.clear_tags(["x"]).in_use == 1


# Lost replies


@pytest.mark.parametrize(
    ("operation", "word"), [("soft", b"EVAL"), ("undo", b"EVAL"), ("tags", b"DEL")]
)
@pytest.mark.parametrize("delivered", [True, False])
def test_an_operation_whose_reply_is_lost_is_done_or_unknown_by_what_the_store_then_holds(
    settings: Any,
    cache: SearchCache,
    store: StoreServer,
    operation: str,
    word: bytes,
    delivered: bool,
) -> None:
    before, tag = record(), raw().get(tag_key())
    with Proxy(store.socket_path, fault=Fault(word=word, deliver=delivered)) as proxy:
        use(settings, proxy.url)
        if delivered:
            OPERATIONS[operation]()
        else:
            with pytest.raises(OutcomeUnknown, match="did not answer during the"):
                OPERATIONS[operation]()
    use(settings, store.url)
    if operation == "tags":
        assert raw().get(tag_key()) == (None if delivered else tag)
    else:
        assert (record() != before) is delivered


@pytest.mark.parametrize(
    ("operation", "word"), [("soft", b"EVAL"), ("undo", b"EVAL"), ("tags", b"DEL")]
)
def test_a_store_that_stays_silent_leaves_the_outcome_unknown_within_two_seconds(
    settings: Any, cache: SearchCache, store: StoreServer, operation: str, word: bytes
) -> None:
    silent = Fault(word=word, deaf_afterwards=True)
    with Proxy(store.socket_path, fault=silent) as proxy:
        use(settings, proxy.url)
        watch = Stopwatch()
        with pytest.raises(OutcomeUnknown):
            OPERATIONS[operation]()
        assert watch.seconds < 2


@pytest.mark.parametrize("operation", ["soft", "undo"])
def test_a_store_that_says_yes_but_keeps_the_old_record_fails_the_operation(
    settings: Any, cache: SearchCache, store: StoreServer, operation: str
) -> None:
    def keep_old(sent: bytes) -> bytes:
        return sent.replace(
            b"redis.call('SET', KEYS[1], ARGV[2])", b"redis.call('GET', KEYS[1]         )"
        )

    with Proxy(store.socket_path, rewrite=keep_old) as proxy:
        use(settings, proxy.url)
        with pytest.raises(StoreUnavailable, match="did not keep the new epoch"):
            OPERATIONS[operation]()


def test_a_store_that_says_yes_but_keeps_the_tags_fails_the_clear(
    settings: Any, cache: SearchCache, store: StoreServer
) -> None:
    def keep(sent: bytes) -> bytes:
        return sent.replace(b"$3\r\nDEL\r\n", b"$3\r\nGET\r\n")

    with Proxy(store.socket_path, rewrite=keep) as proxy:
        use(settings, proxy.url)
        with pytest.raises(StoreUnavailable, match="did not remove the tags"):
            OPERATIONS["tags"]()


def tag_key() -> str:
    return str(caches["search"].make_key('tag:k:"x"'))


# A damaged record


@pytest.mark.parametrize("damage", [b"", b"{", "list"])
def test_a_damaged_record_is_drawn_anew_by_a_soft_clear_and_left_by_an_undo(
    cache: SearchCache, damage: bytes | str
) -> None:
    key = record_key("search")
    raw().delete(key)
    raw().rpush(key, "x") if damage == "list" else raw().set(key, damage)
    with pytest.raises(NothingToUndo):
        soft.undo()
    assert record() is None if damage != "list" else raw().type(key) == b"list"
    soft.clear_softly()
    cache.set("q", 1)
    assert cache.get("q") == 1


# Sweeps that are interrupted


def test_a_sweep_that_the_store_interrupts_says_how_much_it_removed_and_the_next_removes_the_rest(
    cache: SearchCache, store: StoreServer
) -> None:
    leave_behind(5000)

    def freeze_in_the_middle(seen: int) -> None:
        if seen > 2000:
            store.freeze()

    try:
        with pytest.raises(
            StoreUnavailable, match=r"in time; keys removed before that: [0-9]+$"
        ) as caught:
            sweeping.sweep_leftovers(on_progress=freeze_in_the_middle)
    finally:
        store.thaw()
    removed = int(caught.value.reason.rsplit(" ", 1)[1])
    assert 2000 - SCAN_COUNT < removed < 5000
    rest = sweeping.sweep_leftovers()
    assert 0 < rest.removed <= 5000 - removed
    again = sweeping.sweep_leftovers()
    assert (again.removed, again.seen) == (0, 2)


def test_two_sweeps_at_once_remove_all_and_end_well(cache: SearchCache) -> None:
    leave_behind(5000)
    outcomes: list[Any] = []
    sweeps = [
        threading.Thread(target=lambda: outcomes.append(sweeping.sweep_leftovers()))
        for _ in range(2)
    ]
    for each in sweeps:
        each.start()
    for each in sweeps:
        each.join()
    assert sum(outcome.removed for outcome in outcomes) == 5000
    assert sweeping.preview().removed == 0
    assert cache.get("new", tags=["x"]) == "since"


# Races


def test_a_value_stored_between_the_look_and_the_removal_stays(
    cache: SearchCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = scan.queue_leftovers

    def fill_then_queue(pipeline: Any, keys: Any, suspects: Any, **how: Any) -> None:
        for key in suspects["value"]:
            if (name := key.rpartition(b":")[2]).isdigit():
                cache.set(int(name), "filled")
        queue(pipeline, keys, suspects, **how)

    monkeypatch.setattr(scan, "queue_leftovers", fill_then_queue)
    assert sweeping.sweep_leftovers().removed == 0
    assert cache.get_many(range(1, 11)) == dict.fromkeys(range(1, 11), "filled")


def test_a_hard_clear_spares_what_is_stored_under_its_own_token_meanwhile(
    cache: SearchCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches["search"].set("plain", "goes")
    verify = hard._verify

    def store_then_go_on(*arguments: Any) -> None:
        verify(*arguments)
        cache.set("meanwhile", 1, tags=["x"])

    monkeypatch.setattr(hard, "_verify", store_then_go_on)
    assert hard.clear().keys == 13
    assert cache.get("meanwhile", tags=["x"]) == 1
    assert len(raw().keys("s:1:*")) == 3  # that value, its tag, the record


def test_of_two_who_change_the_record_at_once_neither_is_lost(
    cache: SearchCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, others = soft._read, [soft.clear_softly]

    def read_then_be_late(client: Any, key: str) -> Any:
        answer = read(client, key)
        if others:
            others.pop()()
        return answer

    monkeypatch.setattr(soft, "_read", read_then_be_late)
    soft.clear_softly()
    now = record()
    assert now is not None
    assert len(now.servable_until) == 3  # the fixture's own, the other's, ours
