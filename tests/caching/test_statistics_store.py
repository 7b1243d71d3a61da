"""Counts arrive in the breakers' alias once, by minute, and later if need be."""

import os
import threading
import time
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import search_cache
from analytics_admin.caching.statistics import reporter
from analytics_admin.caching.statistics.counters import CallCounter, Counts
from analytics_admin.caching.statistics.queries import read_figures
from analytics_admin.caching.statistics.reporter import Reporter
from analytics_admin.caching.statistics.store import (
    MINUTES_KEPT,
    Batch,
    Bucket,
    MemoryStatisticsStore,
    RedisStatisticsStore,
    _memory_statistics_store,
    decode_counts,
    open_statistics_store,
)
from analytics_admin.stores.client import StoreUnavailable
from tests.settings import STORE_FOLDER
from tests.support.cache_aliases import redis_alias, use_caches
from tests.support.proxy import Fault, Proxy
from tests.support.search_caches import another
from tests.support.servers import StoreServer
from tests.support.stopwatch import Stopwatch

START = Reporter._start
"""As it is: the tests' fixtures let no thread tell."""
NOW = 29_000_030 * 60
"""A minute within an hour."""


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    use_caches(settings, search=redis_alias("s"))
    monkeypatch.setattr(time, "time", lambda: float(NOW))
    return (
        open_statistics_store("breakers", "search", timeout=5)
        if request.param == "redis"
        else (MemoryStatisticsStore())
    )


class Process:
    """One more process' counts and what tells them, on a clock that the test moves."""

    def __init__(self, store: Any) -> None:
        self.now = float(NOW)
        self.counter = CallCounter(self._note_count)
        self.reporter = Reporter(self.counter, lambda: store, clock=lambda: self.now)

    def _note_count(self) -> bool:
        return self.reporter.wake()


def minute(store: Any, age: int = 0) -> Counts:
    (counts,) = store.read([Bucket("m", NOW // 60 - age)])
    return counts


def test_the_counts_of_all_processes_are_summed_by_minute_and_hour(store):
    for place in range(3):
        process = Process(store)
        process.counter.add(hits=2, saved_seconds=0.25)
        process.reporter.report()
        process.now += 60
        process.counter.add(misses=place, compute_seconds=1.5)
        process.reporter.report()
    assert minute(store) == Counts(hits=6, saved_seconds=0.75)
    assert minute(store, -1) == Counts(misses=3, compute_seconds=4.5)
    (hour,) = store.read([Bucket("h", NOW // 3600)])
    assert hour == Counts(hits=6, misses=3, saved_seconds=0.75, compute_seconds=4.5)


def test_counts_belong_to_the_minute_in_which_they_began_to_be_counted(store):
    process = Process(store)
    process.now += 59
    process.counter.hit(0)
    process.now += 2
    process.reporter.report()
    process.counter.hit(0)
    process.reporter.report()
    assert (minute(store).hits, minute(store, -1).hits) == (1, 1)


def test_a_batch_that_comes_again_counts_once(settings):
    use_caches(settings, search=redis_alias("s"))
    store = open_statistics_store("breakers", "search", timeout=5)
    for name in ("1", "1", "2", "2"):
        store.add("one", [Batch(name, NOW // 60, Counts(hits=1))])
    store.add("other", [Batch("1", NOW // 60, Counts(hits=1))])
    assert minute(store).hits == 3


@pytest.mark.parametrize("deliver", [True, False], ids=["reply lost", "request lost"])
def test_counts_whose_telling_was_cut_off_are_told_again_and_counted_once(settings, deliver):
    use_caches(settings, search=redis_alias("s"))
    direct = open_statistics_store("breakers", "search", timeout=5)
    with Proxy(f"{STORE_FOLDER}/store.sock", fault=Fault(word=b"EVAL", deliver=deliver)) as proxy:
        breakers = {**settings.CACHES["breakers"], "LOCATION": f"{proxy.url}/12"}
        use_caches(settings, search=redis_alias("s"), breakers=breakers)
        process = Process(open_statistics_store("breakers", "search", timeout=1))
        process.counter.hit(0)
        process.reporter.report()
        assert minute(direct).hits == (1 if deliver else 0)
        process.counter.hit(0)
        process.reporter.report()
    assert minute(direct).hits == 2


class Away:
    """A statistics store that is away until the test lets it come back."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.is_away = True

    def add(self, *arguments: Any) -> None:
        if self.is_away:
            raise StoreUnavailable("the store cannot be reached")
        self.store.add(*arguments)


def test_counts_of_an_outage_are_told_later_each_for_its_minute(store, caplog):
    caplog.set_level("INFO", "analytics_admin.caching")
    away = Away(store)
    process = Process(away)
    for _ in range(3):
        process.counter.hit(0)
        process.reporter.report()
        process.now += 60
    away.is_away = False
    process.reporter.report()
    assert [minute(store, -age).hits for age in range(4)] == [1, 1, 1, 0]
    assert [record.message for record in caplog.records] == [
        "search cache: the store cannot be reached; its statistics are reported later",
        "search cache: statistics are reported again",
    ]


def test_what_is_kept_for_later_is_bounded(store):
    process = Process(Away(store))
    for _ in range(MINUTES_KEPT + 50):
        process.counter.hit(0)
        process.reporter.report()
        process.now += 60
    assert len(process.reporter._kept) + len(process.reporter._sent) <= MINUTES_KEPT + 1


def test_a_minute_is_kept_for_a_day_and_forgotten_by_itself(settings):
    use_caches(settings, search=redis_alias("s"))
    open_statistics_store("breakers", "search", timeout=5).add(
        "one", [Batch("1", NOW // 60, Counts(hits=1))]
    )
    client = caches["breakers"].client.get_client(write=True)
    lives = {key: client.ttl(key) for key in client.keys("*")}
    assert all(key.startswith(b"breakers:1:{search_cache:search}:") for key in lives)
    # The sender's mark too: after a partition of hours, what has arrived is not counted twice.
    assert all(86_400 < life <= 100_000 for life in lives.values())
    assert len(lives) == 4  # the minute, the hour, the mark, the totals


def test_the_totals_do_not_depend_on_what_is_kept_by_the_minute(settings):
    use_caches(settings, search=redis_alias("s"))
    store = open_statistics_store("breakers", "search", timeout=5)
    client = caches["breakers"].client.get_client(write=True)
    batches = [Batch("1", NOW // 60, Counts(hits=2, compute_seconds=0.5)), Batch("2", 1, Counts())]
    store.add("one", batches)
    client.delete(*(key for key in client.keys("*") if b":m:" in key or b":h:" in key))
    store.add("two", [Batch("1", NOW // 60, Counts(hits=3, computed=1))])
    store.add("two", [Batch("1", NOW // 60, Counts(hits=3, computed=1))])  # again, late
    totals = decode_counts(client.hgetall(store.totals_key()))
    assert totals == Counts(hits=5, compute_seconds=0.5, computed=1)


def test_totals_that_cannot_be_read_are_left_out():
    stored = {b"hits": b"7", b"misses": b"many", b"fills": b"-3", b"from another release": b"1"}
    assert decode_counts(stored) == Counts(hits=7)


def test_memory_forgets_what_is_older_than_a_day(monkeypatch):
    store = MemoryStatisticsStore()
    monkeypatch.setattr(time, "time", lambda: float(NOW))
    store.add("one", [Batch("1", NOW // 60, Counts(hits=1))])
    monkeypatch.setattr(time, "time", lambda: float(NOW + 2 * 86_400))
    store.add("one", [Batch("2", NOW // 60 + 2 * 1440, Counts(hits=1))])
    assert minute(store).hits == 0
    assert len(store._counts) == 2


def test_the_periods_are_told_apart(store, monkeypatch):
    monkeypatch.setattr(
        "analytics_admin.caching.statistics.queries.open_statistics_store", lambda *_, **__: store
    )
    for age in (0, 4, 5, 59, 60, 1439, 1440):
        store.add(f"minute {age}", [Batch("1", NOW // 60 - age, Counts(hits=1))])
    figures = read_figures(minutes=6, now=NOW + 30.0)
    assert {name: counts.hits for name, counts in figures.periods.items()} == {
        "last_5_minutes": 2,
        "last_hour": 4,
        "last_day": 6,
    }
    assert [found.counts.hits for found in figures.minutes] == [1, 1, 0, 0, 0, 1]
    assert [found.at for found in figures.minutes] == [NOW - 60 * age for age in range(5, -1, -1)]


@pytest.mark.parametrize("minutes", [-1, 1441])
def test_more_than_a_day_cannot_be_asked_for(minutes):
    with pytest.raises(ValueError, match="minutes"):
        read_figures(minutes=minutes)


def test_a_hit_is_still_one_round_trip_and_tells_nothing(settings):
    use_caches(settings, search=redis_alias("s"))
    cache = another()
    cache.get_or_compute("q", lambda: 1)
    cache.get_or_compute("q", lambda: 1)
    client = caches["search"].client.get_client(write=True)
    before = client.info("stats")["total_commands_processed"]
    for _ in range(100):
        cache.get_or_compute("q", lambda: 1)
    assert client.info("stats")["total_commands_processed"] - before <= 201  # MGET and TIME


def test_a_search_cache_tells_its_counts_to_the_breakers_alias(settings):
    use_caches(settings, search=redis_alias("s"))
    cache = another()
    for _ in range(3):
        cache.get_or_compute("q", lambda: 1)
    cache.reporter.report()
    found = read_figures(minutes=2).periods["last_5_minutes"]
    assert (found.hits, found.misses, found.fills) == (2, 1, 1)
    caches["search"].client.get_client(write=True).flushdb()
    assert read_figures().periods["last_5_minutes"] == found


def test_a_site_in_memory_keeps_its_counts_too(settings):
    settings.CACHES = {
        alias: {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "figures",
            "KEY_PREFIX": alias,
        }
        for alias in ("default", "search", "breakers")
    }
    _memory_statistics_store.cache_clear()
    cache = another()
    cache.get_or_compute("q", lambda: 1)
    cache.reporter.report()
    assert read_figures().periods["last_day"].misses == 1


def test_an_alias_that_cannot_be_reached_is_an_answer(settings):
    use_caches(settings, search=redis_alias("s"), breakers=redis_alias(url="redis://127.0.0.1:1"))
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        read_figures()


def test_a_thread_tells_within_the_interval_and_ends_when_nothing_is_left(store, monkeypatch):
    monkeypatch.setattr(Reporter, "_start", START)
    monkeypatch.setattr(reporter, "INTERVAL", 0.02)
    own = open_statistics_store("breakers", "search", timeout=5)
    process = Process(own if isinstance(store, RedisStatisticsStore) else store)
    process.counter.hit(0)
    assert eventually(lambda: minute(store).hits == 1)
    assert eventually(lambda: not threads())
    process.counter.hit(0)
    assert eventually(lambda: minute(store).hits == 2)
    assert eventually(lambda: not threads())


def test_a_forked_child_tells_its_own_counts_alone(settings):
    use_caches(settings, search=redis_alias("s"))
    cache = another()
    cache.get_or_compute("q", lambda: 1)
    if (child := os.fork()) == 0:
        cache.get_or_compute("q", lambda: 1)
        cache.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert read_figures().periods["last_day"] == Counts(hits=1)
    cache.flush()
    found = read_figures().periods["last_day"]
    assert (found.hits, found.misses) == (1, 1)


def test_the_end_of_a_process_waits_for_a_frozen_store_but_a_moment(settings):
    with StoreServer() as server:
        breakers = redis_alias(url=server.url, db=0)
        use_caches(settings, search=redis_alias("s"), breakers=breakers)
        cache = another()
        cache.get_or_compute("q", lambda: 1)
        server.freeze()
        watch = Stopwatch()
        cache.flush()
        assert watch.seconds < 1


def test_a_hanging_telling_is_not_waited_for(store):
    begun, go_on = threading.Event(), threading.Event()

    class Hanging:
        def add(self, *arguments: Any) -> None:
            begun.set()
            assert go_on.wait(10)
            store.add(*arguments)

    process = Process(Hanging())
    process.counter.hit(0)
    thread = threading.Thread(target=process.reporter.report)
    thread.start()
    assert begun.wait(20)
    process.counter.hit(0)
    process.reporter.report()
    go_on.set()
    thread.join()
    process.reporter.report()
    assert minute(store).hits == 2


def test_the_sites_cache_is_told_by_its_own_reporter():
    assert search_cache.reporter is not another().reporter
    assert isinstance(search_cache._open_statistics_store(), RedisStatisticsStore)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "search cache counts"]


def eventually(holds: Any) -> bool:
    from tests.support.sites import eventually

    return bool(eventually(holds))


@pytest.mark.parametrize("value", ["x", "nan", "1.5", "9" * 400])
def test_figures_that_nobody_can_have_told_are_an_answer(value):
    now = time.time()
    store = open_statistics_store("breakers", "search", timeout=5)
    store.add("test", [Batch("1", int(now // 60), Counts(hits=1, saved_seconds=1.0))])
    store = caches["breakers"].client.get_client(write=True)
    for key in store.scan_iter(_type="hash"):
        store.hset(key, "saved_seconds", value)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        read_figures(minutes=1, now=now)
