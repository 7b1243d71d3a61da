"""A million values of the search cache: what it costs to tell of them, clear some, and remove all.

Ten thousand of them have a tag, which is cleared; a neighbour on the same server goes on meanwhile.
"""

import time
from collections.abc import Callable
from typing import Any

import redis
from django.core.management import call_command
from django.test import override_settings

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.caching.clear import hard
from analytics_admin.caching.clear.soft import clear_softly
from analytics_admin.caching.clear.sweep import sweep_leftovers
from analytics_admin.caching.entries import encode_entry
from analytics_admin.caching.epochs import read_record, record_key
from tests.benchmarks.breaker_bench import CLIENT_CORE, Line
from tests.benchmarks.neighbour import Neighbour, Watched
from tests.benchmarks.search_cache_bench import VALUE

MILLION = 1_000_000
TAGGED = 10_000
TAGS = ("products",)
FILL = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', 'search:1:2:value:k:' .. i, ARGV[3])
end"""


def million(url: str, rounds: int) -> list[Line]:
    """Fill the cache, and do to it what an operator does."""
    call_command("migrate", verbosity=0)
    client = redis.Redis.from_url(f"{url}/1", socket_timeout=300)
    with Neighbour(f"{url}/5", core=CLIENT_CORE) as neighbour:
        quiet = neighbour.watch(lambda: time.sleep(3), until=lambda: None)
        _fill(client)
        lines = [*_questions(rounds), *_clears_by_tag(rounds), _neighbour(quiet, "nobody acts")]
        for name, act in {"soft clear's sweep": _sweep, "shared hard clear": hard.clear}.items():
            if client.dbsize() < MILLION:
                _fill(client)
            site = {"SEARCH_CACHE_DEDICATED": False, "SEARCH_CACHE_SOFT_CLEAR_GRACE": 0.1}
            with override_settings(ANALYTICS_ADMIN=site):
                clear_softly() if act is _sweep else None
                time.sleep(0.2)  # what was cleared is beyond its bound then
                seen = neighbour.watch(act, until=lambda: _wait_until_freed(client))
            # A clear removes keys for so long; the rest counts no more, and a sweep takes it.
            assert client.dbsize() < 10 or seen.wall >= hard.REMOVAL_SECONDS
            lines.append(Line(measure=f"{name}: keys left", values=[client.dbsize()], unit=""))
            lines.append(Line(measure=f"{name}: duration", values=[seen.wall], unit="s"))
            lines.append(_neighbour(seen, name, bound=3.0 if act is _sweep else None))
    return lines


def _fill(client: Any) -> None:
    client.flushdb()
    for number in range(TAGGED):
        search_cache.set(("product", number), number, tags=TAGS)
    record = read_record(client, record_key("search"))
    assert record is not None
    now = time.time_ns() // 1_000_000
    entry = encode_entry(
        "v" * 300,
        epochs=record.current,
        stored_ms=now,
        fresh_until_ms=now + 86_400_000,
        computed_ms=80,
    )
    for start in range(TAGGED + 1, MILLION + 1, 10_000):
        client.eval(FILL, 0, start, min(start + 9_999, MILLION), entry)
    assert client.dbsize() >= MILLION
    search_cache.set("kept", VALUE)


def _sweep() -> None:
    swept = sweep_leftovers()
    assert swept.removed >= MILLION, swept


def _wait_until_freed(client: Any) -> None:
    while client.info("memory")["lazyfree_pending_objects"]:
        time.sleep(0.01)


def _questions(rounds: int) -> list[Line]:
    """Ask what an operator asks, for a database of the cache's own and for a shared one."""
    lines = []
    for dedicated in (True, False):
        kind = "its own database" if dedicated else "a shared database"
        with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_DEDICATED": dedicated}):
            took = _times(services.describe_search_cache, rounds)
        lines.append(
            Line(measure=f"statistics, {kind}", values=took, unit="ms", bound=50.0),
        )
    return lines


def _clears_by_tag(rounds: int) -> list[Line]:
    keys = [("product", number) for number in range(TAGGED)]
    took = []
    for _ in range(rounds):
        for key in keys:
            search_cache.set(key, 1, tags=TAGS)
        assert len(search_cache.get_many(keys, tags=TAGS)) == TAGGED
        took += _times(lambda: search_cache.clear_tags(TAGS), 1)
        assert search_cache.get_many(keys, tags=TAGS) == {}
        assert search_cache.get("kept") == VALUE
    return [Line(measure="clear by tag of 10,000 values", values=took, unit="ms", bound=5.0)]


def _times(act: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
    return took


def _neighbour(seen: Watched, name: str, bound: float | None = None) -> Line:
    latencies = sorted(1000 * took for took in seen.latencies)
    p99 = latencies[int(0.99 * len(latencies))]
    return Line(
        measure=f"{name}: a neighbour's p99, median and longest",
        values=[p99],
        unit="ms",
        bound=bound,
        spread=[latencies[len(latencies) // 2], latencies[-1]],
    )
