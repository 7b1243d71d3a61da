"""Stale values refreshed in the background, over both stores."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from analytics_admin.caching import SearchCache, lease
from analytics_admin.caching.clear import soft
from tests.support.backend import BackendDown
from tests.support.search_caches import STORES, Backend, another, use_store

pytestmark = STORES
IN_BACKGROUND: dict[str, Any] = {"stale_for": 60, "background": True}
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
    lookup = cache.lookup(key, backend, stale_for=60, background=True)
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

        states = [(await cache.alookup("q", compute, **IN_BACKGROUND)).state for _ in range(2)]
        go_on.set()
        while await cache.aget("q") is None:
            await asyncio.sleep(0.01)
        return [*states, (await cache.alookup("q", compute, **IN_BACKGROUND)).state]

    assert asyncio.run(asyncio.wait_for(main(), 10)) == ["stale", "stale", "hit"]


def test_refreshes_that_have_ended_make_room_for_others(cache):
    async def main() -> None:
        for key in "qrs":
            assert await cache.aget_or_compute(key, Backend("fresh"), **IN_BACKGROUND) == "stale"
            while await cache.aget(key) is None:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))


# Nothing runs where its caller's context is not, unless the site asked for it

here = threading.local()


def rows() -> list[str]:
    return [getattr(here, "tenant", "public")]


@pytest.mark.parametrize("by", ["soft clear", "timeout"])
def test_by_default_the_first_caller_computes_in_its_own_thread(settings, kind, by):
    use_store(settings, kind)
    here.tenant, cache = "acme", another()
    cache.lookup("k", rows, timeout=300 if by == "soft clear" else 0.001, stale_for=60)
    time.sleep(0.005)
    if by == "soft clear":
        soft.clear_softly()
    answers = [cache.lookup("k", rows, timeout=300, stale_for=60) for _ in range(2)]
    assert [(answer.value, answer.state) for answer in answers] == [
        (["acme"], "miss"),
        (["acme"], "hit"),
    ]


def in_tenant() -> AbstractContextManager[None]:
    tenant = here.tenant  # of the caller

    @contextmanager
    def enter() -> Iterator[None]:
        here.tenant = tenant
        try:
            yield
        finally:
            seen_at_end.append(here.tenant)
            del here.tenant

    return enter()


seen_at_end: list[str] = []


@pytest.mark.parametrize("hook", [in_tenant, "tests.caching.test_background.in_tenant"])
@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
def test_a_hook_brings_the_callers_context_along(cache, settings, hook, in_loop):
    settings.ANALYTICS_ADMIN = {
        "SEARCH_CACHE_BACKGROUND": True,
        "SEARCH_CACHE_BACKGROUND_CONTEXT": hook,
    }
    here.tenant = "acme"
    del seen_at_end[:]

    async def main() -> None:
        await cache.alookup("q", rows, stale_for=60)
        while await cache.aget("q") is None:
            await asyncio.sleep(0.01)

    if in_loop:
        asyncio.run(main())
    else:
        cache.lookup("q", rows, stale_for=60)
    assert soon(lambda: cache.get("q") == ["acme"])
    assert soon(lambda: seen_at_end == ["acme"])


def test_a_hook_that_fails_breaks_no_search(cache, settings, caplog):
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_BACKGROUND_CONTEXT": lambda: 1 / 0}
    for _ in range(3):
        assert ask(cache, Backend("fresh")) == ("stale", "stale")
    assert "ZeroDivisionError" in caplog.text


# Nothing rests on a good end


def test_a_refresh_that_is_cut_off_is_made_up_for_by_the_next_caller(cache):
    """A loop that ends with the call, as with async_to_sync, takes the refresh with it."""

    async def search() -> str:
        await asyncio.sleep(0.02)
        return "fresh"

    def ask_in_a_loop() -> str:
        state: str = asyncio.run(cache.alookup("q", search, **IN_BACKGROUND)).state
        return state

    assert [ask_in_a_loop() for _ in range(3)] == ["stale", "miss", "hit"]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "stopped"])
def test_a_loop_that_ends_with_refreshes_under_way_takes_no_place_for_good(
    settings, kind, cache, close
):
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_BACKGROUND_REFRESHES": 2, "SEARCH_CACHE_LEASE": 0.02}
    loops = [asyncio.new_event_loop() for _ in "qr"]
    for key, loop in zip("qr", loops, strict=True):
        hang = asyncio.Event().wait
        loop.run_until_complete(cache.alookup(key, hang, **IN_BACKGROUND))
        if close:
            loop.close()
    assert soon(lambda: ask(cache, Backend("fresh"), "s") == ("fresh", "hit"))
    for key in "qr":
        assert soon(lambda key=key: ask(cache, Backend("fresh"), key) == ("fresh", "hit"))
    for loop in loops:
        if not close:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()


# Failures


@pytest.mark.parametrize("background", [True, False])
def test_failures_are_logged_and_tried_again_after_a_pause(cache, caplog, background, monkeypatch):
    backend = Backend("fresh")
    backend.error = NameError("name 'qeury' is not defined")
    began = time.monotonic()

    def look() -> str:
        return cache.lookup("q", backend, stale_for=60, background=background).state

    assert soon(lambda: look() == "stale" and backend.calls >= 2)
    for _ in range(100):
        assert look() == "stale"
    assert backend.calls <= 2 + (time.monotonic() - began > 0.9)
    assert "NameError" in caplog.text
    assert "in __call__" in caplog.text
    assert caplog.text.count("could not be refreshed") == 1
    monkeypatch.setattr(lease.time, "monotonic", lambda now=time.monotonic: now() + 3)
    backend.error = None
    assert soon(lambda: look() == "hit")


def test_a_pause_holds_up_nobody_who_takes_no_stale_value(cache):
    backend = Backend("fresh")
    backend.error = BackendDown()
    for _ in range(2):
        assert cache.lookup("q", backend, stale_for=60).state == "stale"
    backend.error = None
    assert cache.lookup("q", backend).state == "miss"
