"""Clears at full traffic: whether any search is answered from before one, and who computes."""

import time
from collections import Counter
from dataclasses import dataclass

from analytics_admin.caching.clear import hard
from tests.benchmarks.breaker_bench import Line
from tests.benchmarks.search_cache_bench import crew_at
from tests.support import search_cache_traffic as traffic
from tests.support.search_backend import Backend
from tests.support.search_cache_traffic import Request, Traffic

PROCESSES = 4
RATE = 2000.0
"""Requests per second of all processes."""
CLEARS, PAUSE = 50, 0.25
SOON = 0.02
"""Seconds to every second clear, which catches computations in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What the searches met; latencies in seconds."""

    requests: int
    outdated: int
    latencies: list[float]
    computations: int
    most_for_one_epoch: int
    bypassed: int


def stream(url: str) -> Stream:
    """Clear again and again while four processes search."""
    with crew_at(url, PROCESSES) as crew, Backend(slots=64, seconds=0.015) as backend:
        for worker in crew.workers:
            worker.ask(traffic.note_grants)
            worker.ask(traffic.take_counts)
        start = time.monotonic() + 0.5
        plan = Traffic(
            way="ours",
            backend=backend.path,
            start=start,
            seconds=CLEARS / 2 * PAUSE + 1,
            rate=RATE / PROCESSES,
            queries=200,
            threads=64,
        )
        for worker in crew.workers:
            worker.tell(traffic.send, plan)
        done = _clear_again_and_again(backend, start)
        requests = [request for worker in crew.workers for request in worker.answer()]
        grants = Counter(
            each for worker in crew.workers for each in worker.ask(traffic.take_grants)
        )
        bypassed = sum(worker.ask(traffic.take_counts).bypassed for worker in crew.workers)
    return Stream(
        requests=len(requests),
        outdated=_outdated(requests, done),
        latencies=sorted(each.ended - each.due for each in requests),
        computations=len(backend.log),
        most_for_one_epoch=max(grants.values()),
        bypassed=bypassed,
    )


def _clear_again_and_again(backend: Backend, start: float) -> list[tuple[float, int]]:
    """Return when each version of the data was the least to be served."""
    done = []
    for version in range(1, CLEARS + 1):
        at = start + (version + 1) // 2 * PAUSE + (version % 2 == 0) * SOON
        time.sleep(max(0.0, at - time.monotonic()))
        backend.version = version
        hard.clear()
        done.append((time.monotonic(), version))
    return done


def _outdated(requests: list[Request], done: list[tuple[float, int]]) -> int:
    return sum(
        each.version < max([0, *(version for at, version in done if at <= each.began)])
        for each in requests
    )


def stream_lines(seen: Stream) -> list[Line]:
    name = f"{CLEARS} clears at {RATE:,.0f} requests/s"
    exactly = [
        (f"{name}: outdated answers of {seen.requests:,}", seen.outdated, 0),
        (f"{name}: most computations per key and epoch", seen.most_for_one_epoch, 1),
        (f"{name}: searches without the store", seen.bypassed, 0),
    ]
    p99 = 1000 * seen.latencies[int(0.99 * len(seen.latencies))]
    return [
        *(Line(measure=what, values=[n], bound=bound, exact=True) for what, n, bound in exactly),
        Line(measure=f"{name}: computations", values=[seen.computations]),
        Line(measure=f"{name}: a request's p99", values=[p99], unit="ms"),
    ]
