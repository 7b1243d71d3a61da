"""What a clear of a hot cache does to its searches and to the backend behind it, for each way.

Requests come when they are due, whatever became of those before; a request's time counts from when
it was due. A search before the clear is a hit: all that is seen is the clear's doing.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from django.core.cache import caches
from django.test import override_settings

from analytics_admin.caching.clear import hard
from analytics_admin.caching.clear.soft import clear_softly
from tests.benchmarks import search_cache_bench as bench
from tests.support import search_cache_traffic as traffic
from tests.support.crew import Crew
from tests.support.search_backend import Backend
from tests.support.search_cache_traffic import Request, Traffic

PROCESSES = 4
RATE = 800.0
"""Requests per second of all processes."""
QUERIES = 200
SLOTS, SECONDS = 8, 0.08
BEFORE, AFTER = 2.0, 10.0
"""Seconds of traffic before the clear and after it."""
BOUND = 8.0
"""Seconds for which a softly cleared value may be served: 200 queries take the backend 2."""
THREADS = 500
"""Of each process: so many that a search finds one free even when nothing is cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to search, and one to clear."""

    name: str
    search: str
    clear: Callable[[], object]
    in_background: bool = False
    """SEARCH_CACHE_BACKGROUND."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What came of a clear; seconds."""

    way: Way
    before: list[float]
    after: list[float]
    """Latencies of the requests due before the clear and after it, in order of size."""
    computed: Counter[int]
    """How often each query was computed after the clear."""
    stale: list[float]
    """How long after the clear outdated values were served."""
    lateness: float
    """By how much 99 of 100 requests at most were sent too late: the generator's own doing."""
    bypassed: int


def _flush(alias: str) -> None:
    caches[alias].clear()


HARD, SOFT, BEHIND = "ours, hard", "ours, soft", "ours, soft, refreshed behind"
WAYS = (
    Way(name="unprotected, get and set", search="get and set", clear=partial(_flush, "plain")),
    Way(name="django-redis, herd client", search="herd client", clear=partial(_flush, "herd")),
    Way(name="Django's get_or_set", search="get_or_set", clear=partial(_flush, "plain")),
    Way(name=HARD, search="ours", clear=hard.clear),
    Way(name=SOFT, search="ours", clear=clear_softly),
    Way(name=BEHIND, search="ours", clear=clear_softly, in_background=True),
)


def clears(url: str) -> list[Aftermath]:
    """Clear a hot cache in each way."""
    site = {"SEARCH_CACHE_DEDICATED": True, "SEARCH_CACHE_SOFT_CLEAR_GRACE": BOUND}
    with override_settings(ANALYTICS_ADMIN=site), bench.crew_at(url, PROCESSES) as crew:
        return [_clear(url, crew, way) for way in WAYS]


def _clear(url: str, crew: Crew, way: Way) -> Aftermath:
    for worker in crew.workers:
        worker.ask(bench.configure_worker, url, {"SEARCH_CACHE_BACKGROUND": way.in_background})
        worker.ask(traffic.take_counts)
    with Backend(slots=SLOTS, seconds=SECONDS) as backend:
        start = time.monotonic() + 1.5
        plan = Traffic(
            way=way.search,
            backend=backend.path,
            start=start,
            seconds=BEFORE + AFTER,
            rate=RATE / PROCESSES,
            queries=QUERIES,
            threads=THREADS,
        )
        hard.clear() if way.search == "ours" else way.clear()
        crew.workers[0].ask(traffic.warm, plan)
        for worker in crew.workers:
            worker.tell(traffic.send, plan)
        time.sleep(max(0.0, start + BEFORE - time.monotonic()))
        backend.version = 1
        way.clear()
        done = time.monotonic()
        requests = [request for worker in crew.workers for request in worker.answer()]
        computed = Counter(each.query for each in backend.log)
    bypassed = sum(worker.ask(traffic.take_counts).bypassed for worker in crew.workers)
    return _aftermath(way, requests, done, computed, bypassed)


def _aftermath(
    way: Way, requests: list[Request], done: float, computed: Counter[int], bypassed: int
) -> Aftermath:
    return Aftermath(
        way=way,
        before=sorted(each.ended - each.due for each in requests if each.ended < done - 0.1),
        after=sorted(each.ended - each.due for each in requests if each.due >= done),
        computed=computed,
        stale=[each.began - done for each in requests if not each.version and each.began > done],
        lateness=sorted(each.began - each.due for each in requests)[int(0.99 * len(requests))],
        bypassed=bypassed,
    )


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
