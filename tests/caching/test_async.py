"""The search cache in event loops: nothing blocks, and a cancelled task leaves no lease behind."""

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from analytics_admin.caching.clear import hard
from tests.support.search_caches import STORES, Backend, InThread, another
from tests.support.stopwatch import Stopwatch

pytestmark = STORES


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main())


def test_every_method_has_its_twin(cache):
    async def main() -> list[Any]:
        return [
            await cache.aset("a", 1, tags=["x"]),
            await cache.aget("a", tags=["x"]),
            await cache.aget_many(["a", "b"], tags=["x"]),
            await cache.aclear_tags(["x"]),
            await cache.aget("a", 5, tags=["x"]),
            await cache.aget_or_compute("b", lambda: 2),
            await cache.aget_or_compute("c", Backend(3).later),
            (await cache.alookup("c", Backend().later)).state,
            await cache.adelete("c"),
            await cache.adelete("c"),
        ]

    assert run(main) == [True, 1, {"a": 1}, None, 5, 2, 3, "hit", True, False]


def test_one_task_computes_and_the_loop_goes_on(cache):
    calls = []

    async def compute() -> str:
        calls.append(1)
        await asyncio.sleep(0.3)
        return "found"

    async def main() -> float:
        callers = [asyncio.create_task(cache.aget_or_compute("q", compute)) for _ in range(50)]
        worst, watch = 0.0, Stopwatch()
        while not all(task.done() for task in callers):
            last = watch.seconds
            await asyncio.sleep(0.005)
            worst = max(worst, watch.seconds - last)
        assert {task.result() for task in callers} == {"found"}
        return worst

    assert run(main) < 0.2
    assert len(calls) == 1


def test_a_cancelled_task_gives_its_lease_back_and_takes_no_waiter_with_it(cache):
    async def main() -> list[Any]:
        begun = asyncio.Event()

        async def hang() -> None:
            begun.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(cache.aget_or_compute("q", hang))
        await begun.wait()
        waiter = asyncio.create_task(cache.aget_or_compute("q", Backend("second").later))
        await asyncio.sleep(0.05)
        task.cancel()
        watch = Stopwatch()
        results = await asyncio.gather(task, waiter, return_exceptions=True)
        return [type(results[0]), results[1], watch.seconds < 1]

    assert run(main) == [asyncio.CancelledError, "second", True]


def test_a_task_cancelled_while_it_takes_its_lease_gives_it_back(cache, monkeypatch):
    cache.get("connected")
    store = (cache._client or cache._connect()).access._store
    claim = store.claim
    monkeypatch.setattr(
        store, "claim", lambda *args, **terms: time.sleep(0.1) or claim(*args, **terms)
    )

    async def main() -> None:
        # In memory, the lease is there at once: the task is cancelled while it computes.
        task = asyncio.create_task(cache.aget_or_compute("q", asyncio.Event().wait))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.15)

    run(main)
    watch = Stopwatch()
    assert another().get_or_compute("q", lambda: "second") == "second"
    assert watch.seconds < 1


def test_a_cancelled_waiter_ends_nobody_elses_wait(cache):
    async def main() -> Any:
        go_on = asyncio.Event()

        async def compute() -> str:
            await go_on.wait()
            return "found"

        first = asyncio.create_task(cache.aget_or_compute("q", compute))
        await asyncio.sleep(0.05)
        waiters = [asyncio.create_task(cache.aget_or_compute("q", compute)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiters[0].cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        return await asyncio.gather(first, *waiters[1:])

    assert run(main) == ["found"] * 3


def test_a_call_that_would_block_its_own_loop_computes_for_itself(cache):
    async def main() -> Any:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def compute() -> str:
            begun.set()
            await go_on.wait()
            return "found"

        first = asyncio.create_task(cache.aget_or_compute("q", compute))
        await begun.wait()
        watch = Stopwatch()
        meanwhile = cache.get_or_compute("q", lambda: "meanwhile")
        took = watch.seconds
        go_on.set()
        return meanwhile, took < 2, await first

    assert run(main) == ("meanwhile", True, "found")


def test_a_computation_that_asks_for_its_own_key_does_not_wait_for_itself(cache):
    async def main() -> Any:
        async def inner() -> Any:
            return await cache.aget_or_compute("q", Backend("inner").later)

        async def compute() -> Any:
            return await asyncio.create_task(inner())

        return await asyncio.wait_for(cache.aget_or_compute("q", compute), 1)

    assert run(main) == "inner"


def test_threads_and_tasks_wait_for_each_other(cache):
    backend = Backend("thread's")
    backend.go_on.clear()
    first = InThread(lambda: cache.get_or_compute("q", backend))
    assert backend.begun.wait(20)

    async def main() -> Any:
        task = asyncio.create_task(cache.aget_or_compute("q", Backend("task's").later))
        await asyncio.sleep(0.05)
        backend.go_on.set()
        return await task

    assert run(main) == first.result() == "thread's"


def test_what_was_computed_before_a_clear_is_not_stored(cache):
    async def compute() -> str:
        await asyncio.to_thread(hard.clear)
        return "old"

    assert run(lambda: cache.aget_or_compute("q", compute)) == "old"
    assert cache.get("q") is None


class Shop:
    def __init__(self, name: str) -> None:
        self.search_cache_key = name
        self.calls: list[Any] = []


class Plain:
    calls = 0


def test_functions_are_cached_by_their_arguments(cache):
    calls: list[Any] = []

    @cache.cached(timeout=300)
    def search(query: str, page: int = 1, *more: str, **options: Any) -> list[Any]:
        calls.append(query)
        return [query, page, list(more), options]

    assert search("a") == search(query="a") == search("a", 1) == ["a", 1, [], {}]
    assert search("a", 2) == ["a", 2, [], {}]
    assert search("a", 2, "b", c=[1]) == ["a", 2, ["b"], {"c": [1]}]
    assert len(calls) == 3
    assert (search.__name__, search.lookup("a").state) == ("search", "hit")
    assert search.delete("a") is True
    assert cache.get(search.key("a", 2)) == ["a", 2, [], {}]
    with pytest.raises(TypeError):
        search()


def test_coroutine_functions_are_cached_likewise(cache):
    calls: list[Any] = []

    @cache.cached(timeout=300, tags=lambda query: [query])
    async def search(query: str) -> str:
        calls.append(query)
        return query

    async def main() -> list[Any]:
        found = [await search("a"), await search(query="a"), (await search.lookup("a")).state]
        await cache.aclear_tags(["a"])
        return [*found, await search("a"), await search.delete("a")]

    assert asyncio.iscoroutinefunction(search)
    assert run(main) == ["a", "a", "hit", "a", True]
    assert len(calls) == 2


def test_methods_are_cached_by_what_their_object_says_of_itself(cache):
    class Catalog(Shop):
        @cache.cached()
        def search(self, query: str) -> list[str]:
            self.calls.append(query)
            return [self.search_cache_key, query]

        @classmethod
        @cache.cached()
        def names(cls) -> str:
            return cls.__name__

        @staticmethod
        @cache.cached()
        def static(query: str) -> str:
            return query

    class Other(Catalog):
        pass

    one, same, two = Catalog("one"), Catalog("one"), Catalog("two")
    assert one.search("a") == same.search("a") == ["one", "a"]
    assert two.search("a") == ["two", "a"]
    assert (one.calls, same.calls, two.calls) == (["a"], [], ["a"])
    assert (Catalog.names(), Other.names()) == ("Catalog", "Other")
    assert one.static("a") == Catalog.static("a") == "a"


def test_an_object_that_says_nothing_of_itself_is_refused(cache):
    class Mute(Plain):
        @cache.cached()
        def search(self, query: str) -> str:
            return query

    with pytest.raises(TypeError, match="search_cache_key"):
        Mute().search("a")


def test_generators_cannot_be_cached(cache):
    def generate() -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        cache.cached()(generate)
    assert inspect.isgeneratorfunction(generate)


@pytest.mark.parametrize("nameless", [lambda query: query, functools.partial(max, 1)])
def test_a_function_without_a_name_cannot_be_cached(cache, nameless):
    """Two of them in one place would be one key."""
    with pytest.raises(TypeError, match="name"):
        cache.cached()(nameless)
