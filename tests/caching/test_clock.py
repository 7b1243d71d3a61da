"""The store's time as a process derives it between two reads of the store's clock."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from analytics_admin.caching.stores import redis
from analytics_admin.caching.stores.base import EntryKeys, StoreUnavailable, Ttl
from analytics_admin.caching.stores.redis import CLOCK_DRIFT, CLOCK_TRUSTED_SECONDS, RedisStore
from tests.support.cache_aliases import raw
from tests.support.search_caches import another, use_store

LATE = 0.04  # seconds


class LatePool:
    """A store that looks at its clock at once and answers late."""

    def call_packed(self, packed: bytes, number: int) -> list[Any]:
        now = time.time()
        if number > 2:
            time.sleep(LATE)
        return [b"", b"", (int(now), int(now % 1 * 1_000_000))][:number]

    def close(self) -> None:
        pass


def test_an_answer_that_comes_late_does_not_leave_the_reckoned_time_behind():
    """Else a value would be served beyond its bound by that much."""
    store = RedisStore(LatePool(), probe_key="probe")  # type: ignore[arg-type]
    keys = EntryKeys("record", "entry", "lease", ())
    for _ in range(2):  # the second is reckoned
        assert abs(store.read(keys).now - time.time()) < LATE / 2


KEYS = EntryKeys("s:record", "s:entry", "s:lease", ())
TTL = Ttl(fresh_ms=1000, kept_ms=1000)
SCRIPTS = {
    "put": lambda store: store.put(KEYS, "1", TTL),
    "claim": lambda store: store.claim(KEYS, TTL, lease=1.0),
    "fill": lambda store: store.fill(
        KEYS, store.claim(KEYS, TTL, lease=1.0), "1", TTL, computed_in=0.0
    ),
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_answers_in_whole_milliseconds_does_not_leave_it_behind(settings, script):
    use_store(settings, "redis")
    cache, server = another(), raw()
    cache.get("connected")
    store = (cache._client or cache._connect()).access._store
    for _ in range(30):
        script(store)
        seconds, micros = server.time()
        assert store.read(KEYS).now >= seconds + micros / 1_000_000


def test_a_store_whose_clock_is_faster_does_not_leave_it_behind(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(redis, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def now() -> float:
        return 1000.0 + (clock.now - 100.0) * (1 + CLOCK_DRIFT)

    def call_packed(packed: bytes, number: int) -> list[Any]:
        return [b"", b"", (int(now()), int(now() % 1 * 1_000_000))][:number]

    pool: Any = SimpleNamespace(call_packed=call_packed)
    store = RedisStore(pool, probe_key="probe")
    store.read(KEYS)
    clock.now += CLOCK_TRUSTED_SECONDS - 1  # reckoned until then
    assert store.read(KEYS).now >= now() - 1e-6


def test_a_set_that_comes_to_nothing_does_not_leave_it_behind():
    class FailingPool(LatePool):
        def call(self, *command: Any) -> Any:
            if command[0] == "TIME":
                now = time.time()
                time.sleep(LATE)
                return int(now), int(now % 1 * 1_000_000)
            if command[0] == "EVALSHA":
                raise ConnectionError
            return b"PONG"

        def gives_up_after(self, size: int) -> float:
            return 1.0

    store = RedisStore(FailingPool(), probe_key="probe")  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        store.put(KEYS, "1", TTL)
    assert abs(store.read(KEYS).now - time.time()) < LATE / 2
