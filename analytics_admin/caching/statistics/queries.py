"""What the ledger says about the last minutes, hour and day, and what that means for the backend.

Knows nothing of how the counts got there.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings as site

from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.caching.statistics.store import (
    MINUTES_KEPT,
    Bucket,
    open_statistics_store,
    total,
)
from analytics_admin.conf import app_settings

READ_TIMEOUT = 0.3
"""Seconds that a reader waits for connecting and for each reply."""
PERIODS: Mapping[str, int] = {"last_5_minutes": 5, "last_hour": 60, "last_day": MINUTES_KEPT}
"""In minutes; the newest of them is the one under way."""
SETTLED = 30
"""Minutes after which hardly anybody tells of a minute any more: only who has lost the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """The fleet's calls in the minute from ``at`` (Unix time) on."""

    at: int
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The calls of all processes, but for the last seconds, which they have not told yet."""

    periods: Mapping[str, Counts]
    """By the names of PERIODS."""
    minutes: tuple[Minute, ...]
    """As many as were asked for, oldest first, without gaps; the newest is not over yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes per second, by the last five minutes, and what a hard clear makes of it."""

    calls: float
    hit_ratio: float | None
    """None without calls."""
    computations: float
    """What the backend is asked for now."""
    computations_after: float
    """At most, at first: every call. Callers that want the same value share one computation."""
    compute_seconds: float
    """Seconds of computing per second: computations under way at the same time."""
    compute_seconds_after: float


class _Kept(NamedTuple):
    """The settled minutes that this process has read last."""

    of: tuple[str, str]
    at: float
    found: Mapping[Bucket, Counts]


_kept: _Kept | None = None


def read_figures(*, minutes: int = 0, now: float | None = None, age: float = 0.0) -> Figures:
    """Return the figures of the periods, and of the last minutes one by one; one round trip.

    Minutes long past may be told again as this process has read them in the last ``age`` seconds:
    a day of them is a thousand times the work of the last few.

    Raises:
        ValueError: ``minutes`` is not 0 to 1440.
        StoreUnavailable: the breakers' alias does not answer.
    """
    if not 0 <= minutes <= MINUTES_KEPT:
        raise ValueError(f"minutes must be 0 to {MINUTES_KEPT}, not {minutes}")
    last = int((time.time() if now is None else now) // 60)
    periods = {name: list(_spans(last - length + 1, last)) for name, length in PERIODS.items()}
    single = [Bucket("m", last - ago) for ago in reversed(range(minutes))]
    asked = list(dict.fromkeys([*single, *(span for spans in periods.values() for span in spans)]))
    settings = app_settings()
    of = repr(site.CACHES.get(settings.breaker_cache)), settings.search_cache
    known = _known(of, age)
    fresh = [span for span in asked if span not in known]
    ledger = open_statistics_store(
        settings.breaker_cache, settings.search_cache, timeout=READ_TIMEOUT
    )
    found = {**known, **dict(zip(fresh, ledger.read(fresh), strict=True))}
    if age:
        _keep(of, {span: found[span] for span in single if span.number < last - SETTLED}, known)
    return Figures(
        periods={name: total([found[span] for span in spans]) for name, spans in periods.items()},
        minutes=tuple(Minute(at=span.number * 60, counts=found[span]) for span in single),
    )


def forget() -> None:
    """Have the next look read everything."""
    global _kept  # noqa: PLW0603 - one per process
    _kept = None


def _known(of: tuple[str, str], age: float) -> Mapping[Bucket, Counts]:
    kept = _kept
    is_of_use = kept is not None and kept.of == of and time.monotonic() - kept.at < age
    return kept.found if kept is not None and is_of_use else {}


def _keep(
    of: tuple[str, str], found: Mapping[Bucket, Counts], known: Mapping[Bucket, Counts]
) -> None:
    """Keep what was found beside what was known, which grows no younger by it."""
    global _kept  # noqa: PLW0603 - one per process
    kept = _kept
    at = kept.at if known and kept is not None else time.monotonic()
    _kept = _Kept(of, at, {**known, **found})


def estimate_load(figures: Figures, *, now: float) -> Load:
    """Return the load by the last five minutes, of which the newest is under way at ``now``."""
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


def _spans(first: int, last: int) -> Iterator[Bucket]:
    """Yield what makes up these minutes: whole hours, and minutes where the first hour is not.

    The last hour may be under way: nothing later than the last minute has been counted in it.
    """
    minute = first
    while minute <= last:
        if minute % 60 == 0:
            yield Bucket("h", minute // 60)
            minute += 60
        else:
            yield Bucket("m", minute)
            minute += 1
