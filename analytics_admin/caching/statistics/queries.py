"""Figures from the statistics: the last minutes, hour and day, and the load on the backend."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings

from analytics_admin.caching.statistics.counters import Counts, FunctionCounts
from analytics_admin.caching.statistics.store import (
    MINUTES_KEPT,
    Bucket,
    open_statistics_store,
    total,
)
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import StoreUnavailable

READ_TIMEOUT = 0.3
"""Seconds for connecting and for each reply."""
PERIODS: Mapping[str, int] = {"last_5_minutes": 5, "last_hour": 60, "last_day": MINUTES_KEPT}
"""In minutes; the newest minute is incomplete."""
HOURS_OF_FUNCTIONS = 24
"""For which cached functions are counted; the newest is incomplete."""
SETTLED_MINUTES = 30
"""Counts older than this hardly change: only a process that lost the store still reports some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """The calls of all processes in the minute from ``at`` (Unix time) on."""

    at: int
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The calls of all processes, except those of the last seconds, not yet reported."""

    periods: Mapping[str, Counts]
    """By the names of PERIODS."""
    minutes: tuple[Minute, ...]
    """As many as requested, oldest first, without gaps; the newest is incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What happens per second, from the last five minutes, and what a hard clear would cause."""

    calls: float
    hit_ratio: float | None
    """None without calls."""
    computations: float
    """Computations by the backend now."""
    computations_after: float
    """At most, at first: every call. Callers that want the same value share one computation."""
    compute_seconds: float
    """Seconds of computing per second: computations that run at the same time."""
    compute_seconds_after: float


class _Cached(NamedTuple):
    """The settled minutes that this process read last."""

    source: tuple[str, str]
    read_at: float
    counts: Mapping[Bucket, Counts]


_cached: _Cached | None = None


def read_figures(*, minutes: int = 0, now: float | None = None, max_age: float = 0.0) -> Figures:
    """Return the figures of the periods, and of the last ``minutes``; one round trip.

    Settled minutes may come from this process' memory if it read them in the last ``max_age``
    seconds: reading a day of them is a thousand times the work of the last few.

    Raises:
        ValueError: ``minutes`` is not 0 to 1440.
        StoreUnavailable: the breakers' alias does not answer.
    """
    if not 0 <= minutes <= MINUTES_KEPT:
        raise ValueError(f"minutes must be 0 to {MINUTES_KEPT}, not {minutes}")
    last = int((time.time() if now is None else now) // 60)
    periods = {name: list(_buckets(last - length + 1, last)) for name, length in PERIODS.items()}
    single = [Bucket("m", last - ago) for ago in reversed(range(minutes))]
    wanted = dict.fromkeys([*single, *(each for period in periods.values() for each in period)])
    site = app_settings()
    source = repr(settings.CACHES.get(site.breaker_cache)), site.search_cache
    cached = _read_cached(source, max_age)
    missing = [bucket for bucket in wanted if bucket not in cached]
    store = open_statistics_store(site.breaker_cache, site.search_cache, timeout=READ_TIMEOUT)
    counts = {**cached, **dict(zip(missing, store.read(missing), strict=True))}
    if max_age:
        settled = [bucket for bucket in single if bucket.number < last - SETTLED_MINUTES]
        _cache(source, {bucket: counts[bucket] for bucket in settled}, cached)
    return Figures(
        periods={
            name: total([counts[bucket] for bucket in period]) for name, period in periods.items()
        },
        minutes=tuple(Minute(at=bucket.number * 60, counts=counts[bucket]) for bucket in single),
    )


def read_functions(*, now: float | None = None) -> dict[str, FunctionCounts]:
    """Return the counts of each cached function in the last day; one round trip.

    Raises:
        StoreUnavailable: the breakers' alias does not answer.
    """
    hour = int((time.time() if now is None else now) // 3600)
    site = app_settings()
    store = open_statistics_store(site.breaker_cache, site.search_cache, timeout=READ_TIMEOUT)
    return store.read_functions(range(hour - HOURS_OF_FUNCTIONS + 1, hour + 1))


def forget() -> None:
    """Make the next call read everything again."""
    global _cached  # noqa: PLW0603 - one per process
    _cached = None


def _read_cached(source: tuple[str, str], max_age: float) -> Mapping[Bucket, Counts]:
    cached = _cached
    if cached is None or cached.source != source or time.monotonic() - cached.read_at >= max_age:
        return {}
    return cached.counts


def _cache(
    source: tuple[str, str], counts: Mapping[Bucket, Counts], cached: Mapping[Bucket, Counts]
) -> None:
    """Keep the counts beside the cached ones, whose age stays."""
    global _cached  # noqa: PLW0603 - one per process
    previous = _cached
    read_at = previous.read_at if cached and previous is not None else time.monotonic()
    _cached = _Cached(source, read_at, {**cached, **counts})


def estimate_load(figures: Figures, *, now: float) -> Load:
    """Return the load in the last five minutes, of which the newest is incomplete at ``now``."""
    counts = figures.periods["last_5_minutes"]
    seconds = max(1.0, 60 * (PERIODS["last_5_minutes"] - 1) + now % 60)
    return Load(
        calls=round(counts.calls / seconds, 3),
        hit_ratio=counts.hit_ratio,
        computations=round((counts.misses + counts.bypassed) / seconds, 3),
        computations_after=round(counts.calls / seconds, 3),
        compute_seconds=round(counts.compute_seconds / seconds, 3),
        compute_seconds_after=round((counts.compute_seconds + counts.saved_seconds) / seconds, 3),
    )


def foresee_load() -> dict[str, Any]:
    """Return ``load`` and ``load_unknown`` of a clear's preview: what it means for the backend."""
    now = time.time()
    try:
        return {"load": estimate_load(read_figures(now=now), now=now)}
    except StoreUnavailable as error:
        return {"load": None, "load_unknown": error.reason}


def _buckets(first: int, last: int) -> Iterator[Bucket]:
    """Yield the buckets that make up these minutes: whole hours, and the minutes before the first.

    The last hour may be incomplete: it holds nothing later than the last minute.
    """
    minute = first
    while minute <= last:
        if minute % 60 == 0:
            yield Bucket("h", minute // 60)
            minute += 60
        else:
            yield Bucket("m", minute)
            minute += 1
