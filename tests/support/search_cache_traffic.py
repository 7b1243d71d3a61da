"""Traffic upon a cache: requests come when they are due, whatever became of those before them.

The functions run in a process of the site. A request's time counts from when it was due, so what
holds one up shows in all that had to wait for it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from django.core.cache import caches

from analytics_admin.caching.statistics.counters import Counts
from tests.support.search_backend import compute
from tests.support.together import in_threads

KEPT_FOR = 300
Compute = Callable[[], Any]
granted: list[tuple[str, str]] = []
"""The leases that this process took: of which value, under which epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of one process, evenly at random over the queries and over time."""

    way: str
    backend: str
    start: float
    """Instant of the machine's monotonic clock, which its processes share."""
    seconds: float
    rate: float
    """Requests per second."""
    queries: int
    threads: int
    tags: tuple[str, ...] = ()


class Request(NamedTuple):
    """One request: its instants (monotonic seconds), and the version that its answer told."""

    query: int
    due: float
    began: float
    ended: float
    version: int
    state: str


def _ours(query: int, search: Compute, tags: tuple[str, ...]) -> tuple[Any, str]:
    from analytics_admin.caching import search_cache

    lookup = search_cache.lookup(("search", query), search, timeout=KEPT_FOR, tags=tags)
    return lookup.value, lookup.state


def _get_and_set(alias: str, query: int, search: Compute, _: object) -> tuple[Any, str]:
    key, cache = f"search:{query}", caches[alias]
    value = cache.get(key)
    if value is None:
        value = search()
        cache.set(key, value, KEPT_FOR)
    return value, ""


def _get_or_set(query: int, search: Compute, _: object) -> tuple[Any, str]:
    return caches["plain"].get_or_set(f"search:{query}", search, KEPT_FOR), ""


WAYS: dict[str, Callable[[int, Compute, tuple[str, ...]], tuple[Any, str]]] = {
    "ours": _ours,
    "get and set": partial(_get_and_set, "plain"),
    "get_or_set": _get_or_set,
    "herd client": partial(_get_and_set, "herd"),
}


def send(traffic: Traffic) -> list[Request]:
    """Send the requests from enough threads that none of them waits for a free one."""
    timetable, lock = _timetable(traffic), threading.Lock()
    seen: list[Request] = []
    lookup = WAYS[traffic.way]

    def work(_: int) -> None:
        with suppress(StopIteration):
            while True:
                with lock:
                    due, query = next(timetable)
                time.sleep(max(0.0, due - time.monotonic()))
                began = time.monotonic()
                value, state = lookup(query, partial(compute, traffic.backend, query), traffic.tags)
                ended = time.monotonic()
                seen.append(Request(query, due, began, ended, value["version"], state))

    in_threads(traffic.threads, work)
    return seen


def _timetable(traffic: Traffic) -> Iterator[tuple[float, int]]:
    due = traffic.start
    while (due := due + random.expovariate(traffic.rate)) < traffic.start + traffic.seconds:
        yield due, random.randrange(traffic.queries)


def warm(traffic: Traffic) -> None:
    """Have all queries in the cache."""
    for query in range(traffic.queries):
        WAYS[traffic.way](query, lambda: {"version": 0, "results": ""}, traffic.tags)


def note_grants() -> None:
    """Note from now on which leases this process takes."""
    from analytics_admin.caching.stores.redis import RedisStore

    real = RedisStore.claim

    def claim(self: Any, keys: Any, *arguments: Any, **options: Any) -> Any:
        answer = real(self, keys, *arguments, **options)
        if answer.state == "granted":
            granted.append((keys.entry, answer.epochs))
        return answer

    RedisStore.claim = claim  # type: ignore[method-assign]


def take_grants() -> list[tuple[str, str]]:
    """Return the leases taken since this was asked last."""
    taken = list(granted)
    granted.clear()
    return taken


def take_counts() -> Counts:
    from analytics_admin.caching import search_cache

    return search_cache.counter.take()
