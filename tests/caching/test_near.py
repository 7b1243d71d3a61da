"""The near cache: no value outlives its clear by more than the bound, whatever is lost."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.caching import SearchCache, search_cache
from analytics_admin.caching.clear import hard, soft, tags
from analytics_admin.caching.entries import encode_entry
from analytics_admin.caching.epochs import EpochRecord
from analytics_admin.caching.near import MAX_CHANGED, OVERHEAD_BYTES, NearCache
from analytics_admin.caching.stores.base import EntryKeys, Reading, StoreUnavailable
from analytics_admin.caching.stores.tracking import RedisTrackingLink
from analytics_admin.services import Actor
from analytics_admin.services.search_cache.operations import clear_search_cache
from tests.support.cache_aliases import raw, redis_alias, use_caches
from tests.support.proxy import Proxy
from tests.support.search_caches import Backend, another, use_store
from tests.support.servers import StoreServer
from tests.support.sites import eventually

BOUND = 0.15
NEAR: dict[str, Any] = {"near": BOUND, "tags": ("x",)}


@pytest.fixture
def cache(settings: Any) -> Iterator[SearchCache]:
    use_store(settings, "redis")
    cache = another()
    yield cache
    cache.reconnect()


def near_of(cache: SearchCache) -> NearCache:
    near = cache._connect().near
    assert near is not None
    return near


def come_near(cache: SearchCache, value: Any = "old", **options: Any) -> None:
    """Have a value be served from this process' memory."""
    options = {**NEAR, **options}
    cache.set("q", value, tags=options["tags"])
    keys = cache._connect().request("q", **options).keys

    def is_near() -> bool:
        cache.lookup("q", Backend("computed"), **options)
        return near_of(cache).get(keys, options["near"]) is not None

    assert eventually(is_near)


def commands(name: str = "getrange") -> int:
    stats = raw().info("commandstats").get(f"cmdstat_{name}", {})
    return int(stats.get("calls", 0))


def test_a_near_hit_asks_nobody_and_is_the_callers_own(cache):
    come_near(cache, {"a": [1]})
    near = near_of(cache)
    near._bound = 100.0  # its thread reads nothing meanwhile
    time.sleep(BOUND / 2)
    near._proven_at = time.monotonic() + 60
    before = commands()
    found = cache.lookup("q", Backend(), **NEAR)
    found.value["a"].append(2)
    assert cache.lookup("q", Backend(), **NEAR).value == {"a": [1]}
    assert found.state == "hit"
    assert 0 <= found.age < 60
    assert cache.lookup_text("q", Backend(), **NEAR).text == '{"a":[1]}'
    assert asyncio.run(cache.aget_or_compute("q", Backend().later, **NEAR)) == {"a": [1]}
    assert commands() == before


def test_a_call_without_near_asks_the_store(cache):
    come_near(cache)
    near_of(cache)._proven_at = time.monotonic() + 60
    before = commands()
    assert cache.get_or_compute("q", Backend(), tags=("x",)) == "old"
    assert commands() > before


ACTS: dict[str, Callable[[SearchCache], Any]] = {
    "hard clear": lambda cache: hard.clear(),
    "soft clear": lambda cache: soft.clear_softly(),
    "operator's tag clear": lambda cache: tags.clear_tags(["x"]),
    "tag clear": lambda cache: cache.clear_tags(["x"]),
    "delete": lambda cache: cache.delete("q"),
    "set": lambda cache: cache.set("q", "new", tags=["x"]),
    "FLUSHDB": lambda cache: raw().flushdb(),
    "DEL": lambda cache: raw().delete(*raw().keys("*value*")),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_no_value_outlives_an_act_of_another_process_by_more_than_the_bound(cache, act):
    other = another()
    for _ in range(3):
        come_near(cache)
        act(other)
        acted_at = time.monotonic()
        while time.monotonic() < acted_at + 1.5 * BOUND:
            began_at = time.monotonic()
            answer = cache.lookup("q", Backend("new"), **NEAR)
            if answer.value == "old" and answer.state == "hit":
                assert began_at - acted_at <= BOUND
        assert answer.value == "new"


def test_what_the_server_says_costs_no_connection(cache, monkeypatch):
    opened: list[None] = []
    monkeypatch.setattr(RedisTrackingLink, "close", lambda link: opened.append(None))
    other = another()
    for act in ACTS.values():
        come_near(cache)
        act(other)
        near_of(cache).offer(cache._connect().request("r").keys, BOUND)
    come_near(cache)
    assert opened == []


def test_many_changes_at_once_are_all_heard(cache, monkeypatch):
    closed: list[None] = []
    monkeypatch.setattr(RedisTrackingLink, "close", lambda link: closed.append(None))
    come_near(cache)
    near, tags = near_of(cache), [f"t{number}" for number in range(40)]
    requests = [cache._connect().request(("r", number), tags=tags) for number in range(60)]
    for number in range(60):
        cache.set(("r", number), 1, tags=tags)

    def are_near() -> bool:
        for request in requests:
            near.offer(request.keys, BOUND)
        return len(near._values) > 50

    assert eventually(are_near)
    raw().delete(*raw().keys("*:value:*"))
    assert eventually(lambda: not near._values)
    assert closed == []


OWN = {name: act for name, act in ACTS.items() if name in {"tag clear", "delete", "set"}}


@pytest.mark.parametrize("act", OWN.values(), ids=OWN)
def test_an_act_of_the_own_process_is_seen_at_once(cache, act):
    for _ in range(3):
        come_near(cache)
        near_of(cache)._proven_at = time.monotonic() + 60  # whatever is proven
        act(cache)
        assert cache.lookup("q", Backend("new"), **NEAR).value == "new"


@pytest.mark.parametrize("act", [lambda cache: cache.set("q", "new"), lambda _: raw().flushdb()])
def test_a_change_leaves_the_connection_as_it_is(cache, act):
    come_near(cache)
    before = commands("client|tracking")
    for _ in range(3):
        act(another())
        come_near(cache)
    assert commands("client|tracking") == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "clear", [{}, {"mode": "soft"}, {"tags": ["x"]}, {"tags": ["x"], "mode": "soft"}]
)
def test_an_operators_clear_in_the_own_process_is_seen_at_once(settings, clear):
    use_store(settings, "redis")
    come_near(search_cache)
    near_of(search_cache)._proven_at = time.monotonic() + 60
    clear_search_cache(actor=Actor.system("a test"), **clear)
    assert search_cache.lookup("q", Backend("new"), **NEAR).value == "new"


def test_without_proof_no_near_value_is_served(settings):
    """A line that is cut silently, or a server that is frozen."""
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        cache = another()
        come_near(cache)
        server.freeze()
        frozen_at = time.monotonic()
        keys, near = cache._connect().request("q", **NEAR).keys, near_of(cache)
        while near.get(keys, BOUND) is not None:
            assert time.monotonic() - frozen_at < BOUND + 0.05
        server.thaw()
        cache.reconnect()


def test_a_line_that_delays_what_the_server_says_delays_no_longer_than_the_bound(settings):
    with StoreServer() as server, Proxy(server.socket_path) as proxy:
        direct = redis_alias("s", url=server.url)
        use_caches(settings, search={**direct, "LOCATION": f"{proxy.url}/1"}, direct=direct)
        cache, other = another(), SearchCache(lambda: "direct")
        come_near(cache)
        keys, near = cache._connect().request("q", **NEAR).keys, near_of(cache)
        proxy.delay = 0.4
        other.set("q", "new", tags=["x"])
        acted_at = time.monotonic()
        while time.monotonic() < acted_at + 2 * BOUND:
            if near.get(keys, BOUND) is not None:
                assert time.monotonic() - acted_at <= BOUND
        cache.reconnect()


def test_a_proof_that_comes_while_a_value_is_taken_proves_nothing_of_it(cache):
    come_near(cache)
    near, keys = near_of(cache), cache._connect().request("q", **NEAR).keys
    entry = near._values[keys]
    cache.reconnect()  # its thread proves nothing more

    class ProvenMeanwhile(dict[Any, Any]):
        def get(self, keys: Any, default: Any = None) -> Any:
            near._proven_at = time.monotonic()  # when the value had been dropped
            return entry

    near._values = ProvenMeanwhile()
    near._proven_at = time.monotonic() - 2 * BOUND
    assert near.get(keys, BOUND) is None


def test_a_server_that_is_lost_takes_the_near_values_along_and_they_come_back(settings):
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.05}
        cache = another()
        come_near(cache)
        server.stop()
        keys = cache._connect().request("q", **NEAR).keys
        assert eventually(lambda: near_of(cache).get(keys, 60.0) is None)
        server.start()
        assert eventually(lambda: cache.lookup("q", lambda: "new", **NEAR).state == "hit")
        come_near(cache, "new")
        cache.reconnect()


def test_a_value_past_its_timeout_is_not_served(cache):
    come_near(cache)
    keys = cache._connect().request("q", **NEAR).keys
    near = near_of(cache)
    near._values[keys] = near._values[keys]._replace(expires_at=time.monotonic())
    near._proven_at = time.monotonic() + 60
    assert near.get(keys, BOUND) is None


def test_a_process_that_asks_no_more_rests(cache, monkeypatch):
    monkeypatch.setattr("analytics_admin.caching.near.IDLE_SECONDS", 0.3)
    come_near(cache)
    near = near_of(cache)
    assert eventually(lambda: not near._values)
    before = commands("time")
    time.sleep(3 * BOUND)
    assert commands("time") == before
    come_near(cache)


def test_it_is_bounded_by_bytes():
    near = NearCache(lambda on_change: None, max_bytes=20 * (OVERHEAD_BYTES + 2000))  # type: ignore[arg-type,return-value]
    record = EpochRecord(accepted=frozenset({"a"})).encode()
    facts: dict[str, Any] = {"epochs": "a", "stored_ms": 0, "fresh_until_ms": 0, "computed_ms": 1}
    for number in range(100):
        keys = EntryKeys("r", f"e{number}", f"l{number}", ())
        raw_entry = encode_entry(f'"{"x" * 998}"', **facts)
        near._keep(keys, Reading(1.0, record, (), raw_entry), 0.0)
    assert len(near._values) == 20
    assert near._bytes <= near._max_bytes
    huge = encode_entry(f'"{"x" * 60_000}"', **facts)
    near._keep(EntryKeys("r", "huge", "l", ()), Reading(1.0, record, (), huge), 0.0)
    assert len(near._values) == 20
    near._note_changed(["e99", "e98"])
    assert len(near._values) == 18
    near._note_changed(["r"])
    assert (len(near._values), near._bytes, near._resting_on) == (0, 0, {})


def test_a_change_during_the_reading_counts():
    """The server tells of it before the answer, or this process makes it before it returns."""
    for changed in (["e"], ["r"], None):
        near = NearCache(lambda on_change: None, max_bytes=10**6)  # type: ignore[arg-type,return-value]
        record = EpochRecord(accepted=frozenset({"a"})).encode()
        entry = encode_entry("1", epochs="a", stored_ms=0, fresh_until_ms=0, computed_ms=1)
        near._note_changed(changed)
        near._keep(EntryKeys("r", "e", "l", ()), Reading(1.0, record, (), entry), 0.0)
        assert not near._values


def test_a_server_that_refuses_to_track_costs_nothing_else(settings, monkeypatch):
    use_store(settings, "redis")
    cache = another()

    def refuse(on_change: Any) -> Any:
        raise StoreUnavailable("refused")

    near_of(cache)._connect = refuse
    for _ in range(5):
        assert cache.get_or_compute("q", lambda: "found", **NEAR) == "found"
    cache.reconnect()


def test_the_setting_holds_for_calls_that_say_nothing(settings):
    use_store(settings, "redis", SEARCH_CACHE_NEAR=0.2)
    cache = another()
    assert cache._connect().request("q").near == 0.2
    assert cache._connect().request("q", near=0).near == 0
    with pytest.raises(ValueError, match="near must be"):
        cache.get_or_compute("q", Backend(), near=-1)
    use_store(settings, "memory", SEARCH_CACHE_NEAR=0.2)
    assert another().get_or_compute("q", lambda: 1) == 1


def test_a_store_with_its_past_is_found_out_before_near_values_are_read(cache, monkeypatch):
    seen = []
    past = cache._connect()._past
    real = past.check
    monkeypatch.setattr(
        past, "check", lambda exchange, **options: seen.append(1) or real(exchange, **options)
    )
    near_of(cache)._connect(lambda names: None).close()
    assert seen == [1]


def test_what_a_process_without_near_values_sets_and_clears_takes_no_memory():
    near = NearCache(lambda on_change: None, max_bytes=10**6)  # type: ignore[arg-type,return-value]
    for number in range(3 * MAX_CHANGED):
        near.drop(f"e{number}", [f"t{number}"])
    assert len(near._changed) <= MAX_CHANGED
    record = EpochRecord(accepted=frozenset({"a"})).encode()
    entry = encode_entry("1", epochs="a", stored_ms=0, fresh_until_ms=0, computed_ms=1)
    near._keep(EntryKeys("r", "e0", "l", ()), Reading(1.0, record, (), entry), 0.0)
    assert not near._values  # a change that was not noted by name counts, too
