"""A hanging call, such as a name look-up, holds a caller up no longer than its budget.

No socket time-out ends it, and a process that is busy with other callers is no excuse.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from analytics_admin.caching import SearchCache
from analytics_admin.caching.effects import CallStore, Effects, Lookup, run
from analytics_admin.caching.stores.access import StoreAccess, StoreBypassed
from analytics_admin.stores.latency import MAX_WAIT_SECONDS, CallerWait
from tests.settings import STORE_FOLDER
from tests.support.cache_aliases import raw, redis_alias, use_caches
from tests.support.proxy import Proxy
from tests.support.search_caches import another, use_store
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.hurried

AT_MOST = 6 * MAX_WAIT_SECONDS
HUNG = 20 * MAX_WAIT_SECONDS


@pytest.fixture
def cache(settings: Any) -> SearchCache:
    use_store(settings, "redis")
    cache = another()
    cache.get("connected")
    return cache


@pytest.fixture
def access(cache: SearchCache) -> StoreAccess:
    return (cache._client or cache._connect()).access


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What hangs goes on when this is set, or after HUNG seconds."""
    event = threading.Event()
    yield event
    event.set()


async def wait_in_task(access: StoreAccess, hung: threading.Event) -> float:
    """Return how long a task waits for a step that hangs."""
    began = time.monotonic()
    with pytest.raises(StoreBypassed):
        await access.arun(lambda store: hung.wait(HUNG))
    return time.monotonic() - began


def test_a_task_waits_for_what_hangs_no_longer_because_others_are_answered(cache, access, hung):
    async def keep_asking() -> None:
        while True:
            await cache.aget("connected")

    async def main() -> float:
        others = [asyncio.create_task(keep_asking()) for _ in range(2)]
        took = await wait_in_task(access, hung)
        for other in others:
            other.cancel()
        return took

    assert asyncio.run(main()) < AT_MOST


def test_a_task_waits_for_what_hangs_no_longer_because_its_loop_is_held_up(access, hung):
    async def hold_up() -> None:
        while True:
            time.sleep(0.03)
            await asyncio.sleep(0)

    async def main() -> float:
        other = asyncio.create_task(hold_up())
        took = await wait_in_task(access, hung)
        other.cancel()
        return took

    assert asyncio.run(main()) < AT_MOST


def test_a_thread_waits_for_a_connection_no_longer_because_others_are_answered(access, hung):
    ended = threading.Event()

    def keep_posting() -> None:
        while not ended.wait(0.02):
            access.post(lambda store: None)

    other = threading.Thread(target=keep_posting)
    other.start()
    watch = Stopwatch()
    with suppress(StoreBypassed):
        access.run(lambda store: access.run_bounded(lambda: hung.wait(HUNG)))
    took = watch.seconds
    ended.set()
    other.join()
    assert took < AT_MOST


def test_an_attempt_that_times_out_by_itself_is_not_waited_for(access):
    def time_out() -> None:
        raise TimeoutError

    access.run_bounded(lambda: None)  # so that others have just been answered
    watch = Stopwatch()
    with pytest.raises(TimeoutError):
        access.run_bounded(time_out)
    assert watch.seconds < MAX_WAIT_SECONDS / 2


@pytest.fixture
def busy() -> Iterator[None]:
    """The process is busy: it blames itself for late answers."""
    ended = threading.Event()

    def keep_busy() -> None:
        while not ended.is_set():
            pass

    other = threading.Thread(target=keep_busy)
    other.start()
    yield
    ended.set()
    other.join()


@pytest.mark.parametrize("ask", ["lookup", "alookup"])
def test_a_caller_of_a_busy_process_waits_for_late_answers_once_not_for_each(settings, busy, ask):
    """A miss takes five answers of a server that does not know the scripts."""
    raw().script_flush()
    with Proxy(f"{STORE_FOLDER}/store.sock") as proxy:
        use_caches(settings, search={**redis_alias("s"), "LOCATION": f"{proxy.url}/0"})
        cache = another()
        cache.get("connected")
        proxy.delay = 0.08
        watch = Stopwatch()
        if ask == "lookup":
            cache.lookup("new", lambda: 1)
        else:
            asyncio.run(cache.alookup("new", lambda: 1))
        assert watch.seconds < 2 * MAX_WAIT_SECONDS
        cache.reconnect()


def test_what_a_caller_owes_the_store_is_done_although_it_waits_no_longer(access):
    owed, asked = threading.Event(), threading.Event()

    def effects() -> Effects:
        yield CallStore(lambda store: asked.set())
        yield CallStore(lambda store: owed.set(), is_owed=True)
        return Lookup(1, "miss", 0.0)

    caller = CallerWait()
    caller.begin(time.monotonic() - MAX_WAIT_SECONDS)
    caller.end()
    assert run(effects(), access, int, caller).value == 1
    assert owed.wait(10)
    assert not asked.is_set()
    caller.renew()
    run(effects(), access, int, caller)
    assert asked.is_set()
