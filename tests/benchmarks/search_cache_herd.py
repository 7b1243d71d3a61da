"""Two hundred callers in four processes who want one value that nobody has: who computes it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.cache import caches

from tests.benchmarks.breaker_bench import Line
from tests.benchmarks.search_cache_bench import VALUE, crew_at
from tests.support.together import in_threads

PROCESSES, THREADS = 4, 50
COMPUTE = 0.2
OURS = "ours, get_or_compute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """What the callers of one way went through: medians over the rounds, the slowest of all."""

    way: str
    computes: list[int]
    slowest: list[float]


def _ours(key: str, compute: Callable[[], Any]) -> Any:
    from analytics_admin.caching import search_cache

    return search_cache.get_or_compute(key, compute)


def _get_and_set(alias: str, key: str, compute: Callable[[], Any]) -> Any:
    value = caches[alias].get(key)
    if value is None:
        value = compute()
        caches[alias].set(key, value)
    return value


def _get_or_set(key: str, compute: Callable[[], Any]) -> Any:
    return caches["plain"].get_or_set(key, compute)


WAYS: dict[str, Callable[[str, Callable[[], Any]], Any]] = {
    "django-redis, get and set": partial(_get_and_set, "plain"),
    "django-redis, herd client": partial(_get_and_set, "herd"),
    "Django's get_or_set": _get_or_set,
    OURS: _ours,
}


def herds(url: str, rounds: int) -> list[Herd]:
    """Send the herds, each in a crew that has asked before."""
    with crew_at(url, PROCESSES) as crew:
        crew.ask_all(_stampede, OURS, "warm")
        seen = []
        for way in WAYS:
            crew.ask_all(_stampede, way, f"warm {way}")
            turns = [crew.ask_all(_stampede, way, f"{way} {turn}") for turn in range(rounds)]
            seen.append(
                Herd(
                    way=way,
                    computes=[sum(each[0] for each in turn) for turn in turns],
                    slowest=[max(each[1] for each in turn) for turn in turns],
                )
            )
    return seen


def herd_lines(seen: list[Herd]) -> list[Line]:
    """Return our bounds: each round must hold that of the computations."""
    ours = next(herd for herd in seen if herd.way == OURS)
    return [
        Line(measure="herd of 200: computations", values=[max(ours.computes)], bound=1, exact=True),
        Line(
            measure="herd of 200: slowest caller",
            values=[1000 * slowest for slowest in ours.slowest],
            unit="ms",
            bound=400,
        ),
    ]


def _stampede(way: str, key: str) -> tuple[int, float]:
    """Ask from all threads at once; return the computations and the slowest caller's seconds."""
    computed: list[int] = []

    def compute() -> Any:
        computed.append(1)
        time.sleep(COMPUTE)
        return VALUE

    def call(_: int) -> float:
        began = time.monotonic()
        assert WAYS[way](key, compute) == VALUE
        return time.monotonic() - began

    waited = in_threads(THREADS, call)
    return len(computed), max(waited)
