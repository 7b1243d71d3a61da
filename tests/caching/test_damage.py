"""Whatever lies under the cache's keys, a search gets a value; what is damaged is replaced."""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import SearchCache
from analytics_admin.caching.stores.base import MAX_RECORD_BYTES
from tests.support.cache_aliases import raw
from tests.support.cases import case
from tests.support.search_caches import STORES, another, use_store
from tests.support.stopwatch import Stopwatch

DEEP = b"[" * 5000 + b"]" * 5000
TAGS: dict[str, Any] = {"tags": ["x"], "stale_for": 60}

BODIES = {
    "empty": b"",
    "cut": b'{"a":',
    "no JSON": b"zzz",
    "deep": DEEP,
    "a level too deep": b"[" * 501 + b"]" * 501,
    "many digits": b"9" * 5000,
    "NaN": b"NaN",
    "infinite": b"-Infinity",
    "surrogate": b'"\\ud800"',
    "two values": b"1 2",
    "BOM": b"\xef\xbb\xbf1",
    "not UTF-8": b'"\xff"',
    "trailing": b"[1]x",
}
NUMBERS = {
    "400 digits": b"9" * 400,
    "negative": b"-" + b"9" * 400,
    "underscore": b"1_000",
    "blank": b" 5",
    "other digits": b"\xef\xbc\x99",
    "nothing": b"",
}


def with_checksum(entry: bytes, body: bytes) -> bytes:
    head = entry.split(b"\n")[0].rpartition(b" ")[0]
    return head + b" %08x\n" % zlib.crc32(body) + body


def with_field(entry: bytes, number: int, field: bytes) -> bytes:
    head, body = entry.split(b"\n", 1)
    fields = head.split(b" ")
    fields[number] = field
    return b" ".join(fields) + b"\n" + body


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"body: {name}": lambda entry, body=body: with_checksum(entry, body)
        for name, body in BODIES.items()
    },
    **{
        f"field {n}: {name}": lambda entry, n=n, field=field: with_field(entry, n, field)
        for n in (0, 1, 2, 3, 4, 5)
        for name, field in NUMBERS.items()
    },
    "another body": lambda entry: entry.split(b"\n")[0] + b'\n{"count":"x"}',
    "a later format": lambda entry: b"2" + entry[1:],
    "a further field": lambda entry: entry.replace(b"\n", b" 1\n", 1),
    "without an end": lambda entry: entry.replace(b"\n", b"", 1),
    "a long head": lambda entry: entry.replace(b"\n", b" " * 2000 + b"\n", 1),
    "nothing": lambda entry: b"",
}


class Counted:
    def __init__(self, cache: SearchCache) -> None:
        @cache.cached(timeout=600, tags=["x"], stale_for=60)
        def decorated() -> list[int]:
            return self()

        @cache.cached(timeout=600, tags=["x"], stale_for=60)
        async def adecorated() -> list[int]:
            return self()

        self.calls = 0
        self.decorated, self.adecorated = decorated, adecorated

    def __call__(self) -> list[int]:
        self.calls += 1
        return [1]


WAYS: dict[str, Callable[[SearchCache, Counted], Any]] = {
    "lookup": lambda cache, search: cache.lookup("q", search, timeout=600, **TAGS).value,
    "alookup": lambda cache, search: asyncio.run(cache.aget_or_compute("q", search, **TAGS)),
    "cached": lambda cache, search: search.decorated(),
    "acached": lambda cache, search: asyncio.run(search.adecorated()),
}
READS: dict[str, Callable[[SearchCache], Any]] = {
    "get": lambda cache: cache.get("q", [1], tags=["x"]),
    "get_many": lambda cache: cache.get_many(["q", "r"], tags=["x"]).get("q", [1]),
    "aget": lambda cache: asyncio.run(cache.aget("q", [1], tags=["x"])),
    "aget_many": lambda cache: asyncio.run(cache.aget_many(["q"], tags=["x"])).get("q", [1]),
}


def stored(kind: str, part: str) -> list[str]:
    """Return the full names of the cache's keys with this part in them, as the alias has them."""
    if kind == "redis":
        return [key.decode() for key in raw().keys(f"*{part}*")]
    start = len(caches["search"].make_key(""))
    return [key[start:] for key in caches["search"]._cache if part in key]


def read(kind: str, name: str) -> bytes:
    value: bytes = raw().get(name) if kind == "redis" else caches["search"].get(name)
    return value


def write(kind: str, name: str, value: bytes) -> None:
    raw().set(name, value) if kind == "redis" else caches["search"].set(name, value)


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind)
    return another()


@STORES
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_value_is_a_miss_that_is_computed_and_overwritten(cache, kind, way):
    search = Counted(cache)
    for label, damage in DAMAGES.items():
        with case(label):
            before = search.calls
            WAYS[way](cache, search)
            [name] = stored(kind, ":value:") if kind == "redis" else stored(kind, "value:")
            entry = read(kind, name)
            assert entry.endswith(b"\n[1]")
            write(kind, name, damage(entry))
            watch = Stopwatch()
            assert (WAYS[way](cache, search), search.calls - before) == ([1], 2)
            assert watch.seconds < 1
            assert (WAYS[way](cache, search), search.calls - before) == ([1], 2)
            caches["search"].clear()


@STORES
def test_who_only_reads_finds_nothing_in_a_damaged_value(cache, kind):
    for label, damage in DAMAGES.items():
        with case(label):
            cache.set("q", [1], tags=["x"])
            [name] = stored(kind, "value:")
            write(kind, name, damage(read(kind, name)))
            assert {way: call(cache) for way, call in READS.items()} == {way: [1] for way in READS}


@STORES
def test_a_damaged_stale_value_is_never_served(cache, kind):
    for label, damage in DAMAGES.items():
        with case(label):
            cache.set("q", [0], timeout=0.001, stale_for=60, tags=["x"])
            [name] = stored(kind, "value:")
            time.sleep(0.005)
            write(kind, name, damage(read(kind, name)))
            assert cache.lookup("q", lambda: [1], **TAGS).state == "miss"
            assert cache.get("q", tags=["x"]) == [1]


RECORDS = {
    "deep": DEEP,
    "deep within": b'{"accepted":["a"],"servable_until":{},"x":' + DEEP + b"}",
    "not UTF-8": b"\xff",
    "a number": b"1",
    "no epoch": b'{"accepted":["a b"],"servable_until":{}}',
    "no text": b'{"accepted":["a",1],"servable_until":{}}',
    "a long epoch": b'{"accepted":["' + b"a" * 65 + b'"],"servable_until":{}}',
    "too long": b" " * MAX_RECORD_BYTES + b'{"accepted":["a"],"servable_until":{}}',
    "huge": b" " * 8_000_000,
}
LEASES = {
    "no lease": b"x",
    "not UTF-8": b"\xff \xff 1 a",
    "far ahead": b"f h 99999999999999 a",
    "400 digits": b"f h " + b"9" * 400 + b" a",
    "long": b"f" * 5000 + b" h 99999999999999 a",
    "huge": b" " * 8_000_000,
}
TAG_EPOCHS = {"blank": b"a b", "long": b"a" * 100, "line": b"a\nb", "huge": b"a" * 8_000_000}
PARTS = [
    *(("epochs", name, value) for name, value in RECORDS.items()),
    *(("lease:", name, value) for name, value in LEASES.items()),
    *(("tag:", name, value) for name, value in TAG_EPOCHS.items()),
]


@STORES
@pytest.mark.parametrize(
    ("part", "value"),
    [(part, value) for part, _, value in PARTS],
    ids=[f"{a} {b}" for a, b, _ in PARTS],
)
def test_a_damaged_record_lease_or_tag_is_replaced(cache, kind, part, value):
    cache.set("q", [0], tags=["x"])
    name = lease_name(kind) if part == "lease:" else stored(kind, part)[0]
    if part == "lease:":
        cache.delete("q")
    write(kind, name, value)
    watch = Stopwatch()
    for _ in range(2):
        assert cache.get_or_compute("q", lambda: [1], **TAGS) == [1]
    assert cache.get("q", tags=["x"]) == [1]
    assert watch.seconds < 1


def lease_name(kind: str) -> str:
    return stored(kind, "value:")[0].replace("value:", "lease:")


@pytest.mark.parametrize("part", ["value:", "lease:", "tag:", "epochs"])
@pytest.mark.parametrize("make", ["lpush", "sadd", "hset", "zadd", "xadd"])
def test_a_key_of_another_type_is_replaced(settings, part, make):
    use_store(settings, "redis")
    cache = another()
    cache.set("q", [0], tags=["x"])
    name = lease_name("redis") if part == "lease:" else stored("redis", part)[0]
    cache.delete("q")
    raw().delete(name)
    value: Any = {"hset": ("a", "b"), "zadd": ({"a": 1},), "xadd": ({"a": "b"},)}.get(make, ("a",))
    getattr(raw(), make)(name, *value)
    assert cache.get("q", [1], tags=["x"]) == [1]
    for _ in range(2):
        assert cache.get_or_compute("q", lambda: [1], **TAGS) == [1]
    assert cache.get("q", tags=["x"]) == [1]
    raw().delete(name)
    getattr(raw(), make)(name, *value)
    assert cache.set("q", [2], tags=["x"])
    assert cache.get("q", tags=["x"]) == [2]
    assert cache.delete("q") is True
    cache.clear_tags(["x"])


@pytest.mark.parametrize("megabytes", [2, 64])
def test_a_value_that_is_too_long_is_refused_before_it_is_read(settings, megabytes):
    use_store(settings, "redis")
    cache = another()
    cache.set("q", [0])
    [name] = stored("redis", "value:")
    raw().append(name, " " * megabytes * 1_000_000)
    watch = Stopwatch()
    assert cache.get("q") is None
    assert cache.get_or_compute("q", lambda: [1]) == [1]
    assert watch.seconds < 1
    assert cache.get("q") == [1]


@STORES
def test_a_value_that_is_damaged_between_the_look_and_the_claim_is_replaced(
    cache, kind, monkeypatch
):
    cache.set("q", [0])
    [name] = stored(kind, "value:")
    damaged = with_checksum(read(kind, name), b"{")
    cache.delete("q")
    client = cache._connect()
    store: Any = client.access._connected()
    claim, seen = store.claim, []

    def claim_after_damage(*arguments: Any, **options: Any) -> Any:
        if not seen:
            write(kind, name, damaged)
        seen.append(options["damage"])
        return claim(*arguments, **options)

    monkeypatch.setattr(store, "claim", claim_after_damage)
    assert cache.get_or_compute("q", lambda: [1]) == [1]
    assert len(seen) == 2
    assert another().get("q") == [1]
