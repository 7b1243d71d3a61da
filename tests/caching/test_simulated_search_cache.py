"""What a site's own tests may rely on for the search cache; no store is ever there."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import StoreUnavailable, search_cache
from analytics_admin.caching.clear.soft import NothingToUndo
from analytics_admin.services import (
    Actor,
    clear_search_cache,
    describe_search_cache,
    sweep_search_cache,
    undo_clear,
)
from analytics_admin.services.errors import OperationFailed
from analytics_admin.testing import (
    CacheCalls,
    SimulatedSearchCache,
    simulated_breakers,
    simulated_search_cache,
)
from tests.support.separate_site import NOWHERE

TESTER = Actor.system("a test")
KEY = ("search", "lamp")


@pytest.fixture(autouse=True)
def _no_store() -> Iterator[None]:
    with override_settings(CACHES=NOWHERE):
        yield


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedSearchCache]:
    def refuse(*_: Any) -> None:
        raise AssertionError("something was connected to, or a thread was started")

    with simulated_search_cache() as simulated, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield simulated


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)


class Search:
    """A site's search; its answers are numbered, and it can be told to fail or to do more."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.meanwhile: Callable[[], Any] = lambda: None

    def __call__(self) -> int:
        self.count += 1
        number = self.count
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
def search() -> Search:
    return Search()


def look(search: Search, **options: Any) -> int:
    return search_cache.get_or_compute(KEY, search, **options)


def state(search: Search, **options: Any) -> str:
    return search_cache.lookup(KEY, search, **options).state


def test_a_value_is_computed_once(cache: SimulatedSearchCache, search: Search) -> None:
    assert [look(search), look(search)] == [1, 1]
    assert cache.calls == cache.calls_of(KEY) == CacheCalls(hits=1, misses=1, computations=1)
    assert cache.calls_of("another") == CacheCalls()


@pytest.mark.parametrize("round_", [1, 2])
def test_no_test_sees_what_another_stored(
    cache: SimulatedSearchCache, search: Search, round_: int
) -> None:
    assert search_cache.get(KEY) is None
    assert cache.calls == CacheCalls(misses=1)
    look(search, timeout=None)
    cache.advance(86_400)


def test_a_timeout_is_over_when_the_clock_says_so(
    cache: SimulatedSearchCache, search: Search
) -> None:
    """To the second: nothing is taken off at random."""
    for _ in range(20):
        cache.clear()
        stored = look(search, timeout=60)
        cache.advance(59)
        assert look(search, timeout=60) == stored
        assert search_cache.lookup(KEY, search).age == pytest.approx(59, abs=0.01)
        cache.advance(timedelta(seconds=2))
        assert look(search, timeout=60) == stored + 1


def test_the_timeout_of_the_alias_holds(search: Search) -> None:
    aliases = {**NOWHERE, "search": {**NOWHERE["search"], "TIMEOUT": 10}}
    with override_settings(CACHES=aliases), simulated_search_cache() as cache:
        look(search)
        cache.advance(9)
        assert look(search) == 1
        cache.advance(2)
        assert look(search) == 2


@pytest.mark.parametrize("background", [False, True])
def test_a_stale_value_stands_in_for_a_search_that_fails(
    cache: SimulatedSearchCache, search: Search, background: bool, no_thread: None
) -> None:
    with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_BACKGROUND": background}):
        look(search, timeout=60, stale_for=600)
        search.error = ConnectionError()
        cache.advance(659)
        assert look(search, timeout=60, stale_for=600) == 1
        assert cache.calls.stale_served == 1
        cache.advance(2)
        with pytest.raises(ConnectionError):
            look(search, timeout=60, stale_for=600)
    assert cache.calls == CacheCalls(misses=2, stale_served=1, computations=3)


def test_a_background_refresh_is_done_when_the_call_returns(
    cache: SimulatedSearchCache, search: Search, no_thread: None
) -> None:
    """In the caller's thread, whose database connection it may use."""
    look(search, timeout=60, stale_for=600)
    threads = []
    search.meanwhile = lambda: threads.append(threading.current_thread())
    cache.advance(61)
    assert look(search, timeout=60, stale_for=600, background=True) == 1
    assert threads == [threading.current_thread()]
    assert look(search, timeout=60, stale_for=600) == 2


@pytest.mark.django_db
def test_a_background_refresh_leaves_the_database_connection_open(
    cache: SimulatedSearchCache, search: Search
) -> None:
    look(search, timeout=60, stale_for=600)
    cache.advance(61)
    look(search, timeout=60, stale_for=600, background=True)
    clear_search_cache(actor=TESTER)
    assert describe_search_cache().last_clear is not None


def test_within_an_outage_every_call_computes_and_nothing_raises(
    cache: SimulatedSearchCache, search: Search, no_thread: None
) -> None:
    look(search)
    with cache.outage():
        assert [state(search), state(search)] == ["bypass", "bypass"]
        assert search_cache.get(KEY, "nothing") == "nothing"
        assert search_cache.get_many([KEY, "other"]) == {}
        assert search_cache.set(KEY, 7) is False
    assert cache.calls_of(KEY) == CacheCalls(misses=1, bypassed=4, computations=3)
    assert cache.calls_of("other") == CacheCalls(bypassed=1)
    assert look(search) == 1


def test_within_an_outage_what_must_not_be_lost_raises(cache: SimulatedSearchCache) -> None:
    with cache.outage():
        for change in (
            lambda: search_cache.delete(KEY),
            lambda: search_cache.clear_tags(["shop"]),
            cache.clear,
            lambda: cache.clear("soft"),
            cache.undo_clear,
            lambda: cache.claim_elsewhere(KEY),
        ):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                change()


@pytest.mark.django_db
def test_within_an_outage_operations_fail_for_want_of_the_store(
    cache: SimulatedSearchCache,
) -> None:
    operations: list[Callable[[], Any]] = [
        lambda: clear_search_cache(actor=TESTER),
        lambda: clear_search_cache(actor=TESTER, mode="soft"),
        lambda: clear_search_cache(actor=TESTER, tags=["shop"]),
        lambda: undo_clear(actor=TESTER),
        lambda: sweep_search_cache(actor=TESTER),
    ]
    with cache.outage():
        for operation in operations:
            with pytest.raises(OperationFailed) as caught:
                operation()
            assert caught.value.code == "store_unavailable"
        assert describe_search_cache().reachable is False
    for operation in operations[:3]:
        operation()
    assert describe_search_cache().reachable is True


def test_a_computation_that_an_outage_meets_ends_all_the_same(
    cache: SimulatedSearchCache, search: Search
) -> None:
    """Its lease stays behind: the next caller waits for it, on the simulated clock."""
    outage = cache.outage()
    search.meanwhile = outage.__enter__
    assert look(search) == 1
    outage.__exit__(None, None, None)
    search.meanwhile = lambda: None
    assert [look(search), look(search)] == [2, 2]


@pytest.mark.parametrize(
    "clear",
    [
        lambda cache: cache.clear(),
        lambda cache: clear_search_cache(actor=TESTER),
        lambda cache: search_cache.clear_tags(["shop"]),
        lambda cache: clear_search_cache(actor=TESTER, tags=["shop"]),
        lambda cache: search_cache.delete(KEY),
    ],
)
@pytest.mark.django_db
def test_a_clear_ends_values_and_refuses_what_is_being_computed(
    cache: SimulatedSearchCache, search: Search, clear: Callable[[SimulatedSearchCache], object]
) -> None:
    options: dict[str, Any] = {"tags": ["shop"], "timeout": 60, "stale_for": 600}
    look(search, **options)
    clear(cache)
    search.meanwhile = lambda: clear(cache)
    assert look(search, **options) == 2
    search.meanwhile = lambda: None
    assert look(search, **options) == 3


@pytest.mark.parametrize("by", ["test", "operator"])
@pytest.mark.django_db
def test_a_soft_clear_lets_values_stand_in_and_is_undone(
    cache: SimulatedSearchCache, search: Search, by: str
) -> None:
    clear: Callable[[], Any] = lambda: cache.clear("soft")  # noqa: E731
    undo: Callable[[], Any] = cache.undo_clear
    if by == "operator":
        clear = lambda: clear_search_cache(actor=TESTER, mode="soft")  # noqa: E731
        undo = lambda: undo_clear(actor=TESTER)  # noqa: E731
    look(search)
    clear()
    assert search_cache.get(KEY) is None
    undo()
    assert search_cache.get(KEY) == 1
    clear()
    search.error = ConnectionError()
    assert state(search) == "stale"
    search.error = None
    assert state(search) == "miss"
    assert look(search) == 3
    cache.advance(61)
    assert describe_search_cache().undo_until is None
    with pytest.raises(NothingToUndo):
        undo()


def test_a_call_waits_for_another_process_on_the_simulated_clock(
    cache: SimulatedSearchCache, search: Search
) -> None:
    """No longer than one lease, when that process was killed."""
    cache.claim_elsewhere(KEY)
    before = cache._clock.now
    assert state(search) == "miss"
    assert cache._clock.now - before == pytest.approx(1, abs=0.2)
    assert state(search) == "hit"


def test_a_stale_value_stands_in_while_another_process_computes(
    cache: SimulatedSearchCache, search: Search
) -> None:
    look(search, timeout=60, stale_for=600)
    cache.advance(61)
    cache.claim_elsewhere(KEY)
    assert state(search, timeout=60, stale_for=600) == "stale"
    assert search.count == 1


def test_what_nobody_else_would_compute_is_refused(
    cache: SimulatedSearchCache, search: Search
) -> None:
    cache.claim_elsewhere(KEY)
    with pytest.raises(ValueError, match="it is held"):
        cache.claim_elsewhere(KEY)
    search_cache.set(KEY, 7)
    with pytest.raises(ValueError, match="it is fresh"):
        cache.claim_elsewhere(KEY)


def test_a_computation_far_beyond_its_lease_is_not_stored(
    cache: SimulatedSearchCache, search: Search
) -> None:
    search.meanwhile = lambda: cache.advance(11)
    assert [look(search), look(search)] == [1, 2]
    search.meanwhile = lambda: cache.advance(9)
    assert [look(search), look(search)] == [3, 3]


def test_async_code_has_the_same_cache(
    cache: SimulatedSearchCache, search: Search, no_thread: None
) -> None:
    async def asearch() -> int:
        await asyncio.sleep(0)
        return search()

    async def use() -> list[Any]:
        found = [await search_cache.aget_or_compute(KEY, asearch, timeout=60) for _ in range(2)]
        together = [search_cache.aget_or_compute("x", asearch) for _ in range(5)]
        found += await asyncio.gather(*together)
        cache.claim_elsewhere("y")
        found += [await search_cache.aget_or_compute("y", asearch), await search_cache.aget("y")]
        with cache.outage():
            found.append((await search_cache.alookup(KEY, asearch)).state)
        return [*found, await search_cache.aget_many([KEY, "z"])]

    assert asyncio.run(use()) == [1, 1, 2, 2, 2, 2, 2, 3, 3, "bypass", {KEY: 1}]
    assert cache.calls_of("x") == CacheCalls(hits=4, misses=1, computations=1)
    assert cache.calls_of(KEY) == CacheCalls(hits=2, misses=1, bypassed=1, computations=2)


def test_threads_have_the_same_cache(cache: SimulatedSearchCache, search: Search) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(look(search))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8
    assert cache.calls_of(KEY) == CacheCalls(hits=7, misses=1, computations=1)


def test_calls_of_a_decorated_function_have_its_key(cache: SimulatedSearchCache) -> None:
    @search_cache.cached(timeout=60, tags=lambda query: [f"q:{query}"])
    def find(query: str) -> list[str]:
        return [query, *inner()]

    @search_cache.cached(timeout=60)
    def inner() -> list[str]:
        return []

    assert find("lamp") == find("lamp") == ["lamp"]
    assert find("chair") == ["chair"]
    assert cache.calls_of(find.key("lamp")) == CacheCalls(hits=1, misses=1, computations=1)
    assert cache.calls_of(inner.key()) == CacheCalls(hits=1, misses=1, computations=1)
    assert cache.calls == CacheCalls(hits=2, misses=3, computations=3)


def test_a_call_that_raises_is_counted(cache: SimulatedSearchCache, search: Search) -> None:
    search.error = ConnectionError()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            look(search)
    assert cache.calls_of(KEY) == CacheCalls(misses=2, computations=2)


def test_operators_see_the_figures_of_the_simulated_cache(
    cache: SimulatedSearchCache, search: Search, db: None
) -> None:
    for _ in range(3):
        look(search, tags=["shop"])
    told = describe_search_cache()
    assert (told.last_hour.hits, told.last_hour.misses, told.tags) == (2, 1, ("shop",))
    assert clear_search_cache(actor=TESTER, dry_run=True).preview["load"]["calls"] > 0


def test_there_is_room_for_every_value(cache: SimulatedSearchCache) -> None:
    for number in range(1000):
        search_cache.set(number, number)
    assert len(search_cache.get_many(range(1000))) == 1000


def test_settings_that_change_meanwhile_leave_it_in_memory(
    cache: SimulatedSearchCache, search: Search
) -> None:
    look(search)
    with override_settings(CACHES={**NOWHERE}):
        assert look(search) == 1
    with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE": "default"}):
        assert look(search) == 1
        with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_MAX_VALUE_BYTES": 3}):
            assert search_cache.get_or_compute("long", lambda: "x" * 9) == "x" * 9
            assert search_cache.get("long") is None
    assert look(search) == 1


def test_other_aliases_are_the_sites_own(cache: SimulatedSearchCache) -> None:
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "a"}
    with override_settings(CACHES={**NOWHERE, "default": local}):
        caches["default"].set("here", 1, timeout=60)
        cache.advance(3600)
        cache.clear()
        assert caches["default"].get("here") == 1


def test_one_within_another_leaves_the_outer_as_it_was(
    cache: SimulatedSearchCache, search: Search
) -> None:
    look(search)
    with simulated_search_cache() as inner:
        assert look(search) == 2
        assert inner.calls == CacheCalls(misses=1, computations=1)
    assert look(search) == 1
    assert cache.calls == CacheCalls(hits=1, misses=1, computations=1)


def test_it_has_one_clock_with_simulated_breakers(
    cache: SimulatedSearchCache, search: Search
) -> None:
    engine = circuit_breaker("simulated.engine", wait_duration_in_open_state=30)
    with simulated_breakers() as breakers:
        protected = engine(search)
        options: dict[str, Any] = {"timeout": 60, "stale_for": 600, "background": True}
        search_cache.get_or_compute(KEY, protected, **options)
        breakers.trip("simulated.engine")
        cache.advance(29)
        assert engine.state == "open"
        breakers.advance(32)
        breakers.trip("simulated.engine")
        assert search_cache.lookup(KEY, protected, **options).state == "stale"
        cache.advance(31)
        assert search_cache.lookup(KEY, protected, **options).state == "stale"  # refreshes it
        assert search_cache.get_or_compute(KEY, protected, **options) == 2


def test_time_does_not_run_backward(cache: SimulatedSearchCache) -> None:
    for seconds in (-1, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="must be 0 or more"):
            cache.advance(seconds)


def test_afterwards_the_cache_is_what_it_was(settings: Any, search: Search) -> None:
    settings.CACHES = {
        alias: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": alias}
        for alias in NOWHERE
    }
    caches["search"].clear()
    look(search, timeout=None)
    counter, before = search_cache.counter, search_cache.counter.take()
    with simulated_search_cache() as cache:
        settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_LEASE": 3}
        cache.advance(86_400)
        cache.clear()
        assert look(search) == 2
    assert look(search) == 1
    assert search_cache.counter is counter
    assert (before.misses, counter.take().hits) == (1, 1)
    assert type(caches["search"]).__name__ == "LocMemCache"
    assert not {"lookup", "get"} & set(vars(search_cache))
