"""Stale values refreshed in the background, over both stores."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from analytics_admin.caching import SearchCache
from tests.support.search_caches import STORES, Backend, another, use_store

pytestmark = STORES
asked_in: ContextVar[str] = ContextVar("asked_in", default="")


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind, SEARCH_CACHE_BACKGROUND_REFRESHES=2)
    cache = another()
    for key in "qrs":
        cache.set(key, "stale", timeout=0.02, stale_for=60)
    time.sleep(0.05)
    return cache


def ask(cache: SearchCache, backend: Any, key: str = "q") -> tuple[Any, str]:
    lookup = cache.lookup(key, backend, stale_for=60)
    return lookup.value, lookup.state


def held_up(value: str = "fresh") -> Backend:
    backend = Backend(value)
    backend.go_on.clear()
    return backend


def soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def test_nobody_waits_and_one_computes(cache):
    slow, never = held_up(), Backend("never")
    assert ask(cache, slow) == ("stale", "stale")
    assert slow.begun.wait(20)
    assert [ask(caller, never) for caller in (cache, another())] == [("stale", "stale")] * 2
    slow.go_on.set()
    assert soon(lambda: another().get("q") == "fresh")
    assert ask(cache, never) == ("fresh", "hit")
    assert never.calls == 0
    counts = cache.counter.take()
    assert (counts.stale_served, counts.misses, counts.fills, counts.hits) == (2, 0, 1, 1)


def test_no_more_are_under_way_than_the_setting_says(cache):
    slow, third = held_up(), Backend("fresh")
    for key in "qr":
        assert ask(cache, slow, key) == ("stale", "stale")
    assert ask(cache, third, "s") == ("stale", "stale")
    slow.go_on.set()
    assert soon(lambda: cache.get("q") == cache.get("r") == "fresh")
    assert third.calls == 0
    assert soon(lambda: ask(cache, third, "s") == ("fresh", "hit"))
    assert third.calls == 1


def test_where_nothing_is_stale_the_caller_computes(cache):
    assert ask(cache, Backend("computed"), "new") == ("computed", "miss")


def test_a_caller_that_wants_no_stale_value_waits_for_the_refresh(cache):
    slow = held_up()
    ask(cache, slow)
    assert slow.begun.wait(20)
    threading.Timer(0.1, slow.go_on.set).start()
    never = Backend("never")
    assert cache.lookup("q", never).value == "fresh"
    assert never.calls == 0


def test_a_refresh_that_fails_is_counted_and_the_next_caller_tries_again(cache):
    backend = Backend("fresh")
    backend.error = LookupError()
    assert ask(cache, backend) == ("stale", "stale")
    assert soon(lambda: cache.counter._counts.compute_errors == 1)
    backend.error = None
    assert soon(lambda: ask(cache, backend) == ("fresh", "hit"))


def test_a_result_that_cannot_be_stored_is_told_aloud(cache, caplog):
    assert ask(cache, Backend({1, 2})) == ("stale", "stale")
    assert soon(lambda: "value is a set" in caplog.text)


def test_a_refresh_from_before_a_clear_is_not_stored(cache):
    slow = held_up("outdated")
    ask(cache, slow)
    assert slow.begun.wait(20)
    cache.delete("q")
    slow.go_on.set()
    assert soon(lambda: cache.counter._counts.refused_fills == 1)
    assert ask(cache, Backend("computed")) == ("computed", "miss")


def test_a_refresh_has_the_context_of_the_caller(cache):
    seen = []

    def compute() -> str:
        seen.append((asked_in.get(), threading.current_thread() is threading.main_thread()))
        return "fresh"

    asked_in.set("a request")
    ask(cache, compute)
    assert soon(lambda: cache.get("q") == "fresh")
    assert seen == [("a request", False)]


def test_in_an_event_loop_a_task_computes(cache):
    async def main() -> list[str]:
        go_on = asyncio.Event()

        async def compute() -> str:
            await go_on.wait()
            return "fresh"

        states = [(await cache.alookup("q", compute, stale_for=60)).state for _ in range(2)]
        go_on.set()
        while await cache.aget("q") is None:
            await asyncio.sleep(0.01)
        return [*states, (await cache.alookup("q", compute, stale_for=60)).state]

    assert asyncio.run(asyncio.wait_for(main(), 10)) == ["stale", "stale", "hit"]


def test_refreshes_that_have_ended_make_room_for_others(cache):
    async def main() -> None:
        for key in "qrs":
            assert await cache.aget_or_compute(key, Backend("fresh"), stale_for=60) == "stale"
            while await cache.aget(key) is None:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))
