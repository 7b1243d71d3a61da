"""Queries on the search cache: its content, its statistics and its clears."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from analytics_admin.caching.inspection.status import inspect
from analytics_admin.caching.inspection.survey import OtherKeys
from analytics_admin.caching.statistics.counters import (
    COUNT_NAMES,
    FUNCTION_COUNT_NAMES,
    Counts,
)
from analytics_admin.caching.statistics.queries import (
    PERIODS,
    Load,
    estimate_load,
    read_figures,
    read_functions,
)
from analytics_admin.caching.statistics.store import MINUTES_KEPT
from analytics_admin.conf import app_settings
from analytics_admin.models import Operation, as_stored, with_zone
from analytics_admin.services.values import as_time
from analytics_admin.stores.client import StoreUnavailable
from analytics_admin.stores.executor import StoreExecutor

MAX_HISTORY_MINUTES = MINUTES_KEPT
MAX_STATISTICS_WAIT_SECONDS = 1.0
"""How long the statistics may take once the cache's store has answered."""
MAX_CLEARS_LISTED = 100
MAX_HOT_FUNCTIONS = 20
_HAPPENED = (Operation.Status.DONE, Operation.Status.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCacheCounts:
    """Calls of all processes in a period: hits, misses, stale served and bypassed ones."""

    calls: int
    hits: int
    misses: int
    stale_served: int
    bypassed: int
    hit_ratio: float | None
    """Hits per call, bypassed calls excluded, 0 to 1; None without calls."""
    stale_on_error: int
    fills: int
    refused_fills: int
    too_large: int
    compute_errors: int
    compute_seconds: float
    saved_seconds: float


_SHOWN = [item.name for item in fields(SearchCacheCounts) if item.name in COUNT_NAMES]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCacheMinute:
    """The calls of the minute that starts at ``at``."""

    at: datetime
    counts: SearchCacheCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class LastClear:
    """The newest clear that is done."""

    at: datetime
    actor: str
    channel: str
    mode: str
    """``hard``, ``soft``, ``tags``, ``functions`` or ``keys``."""
    reason: str
    operation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCacheStatus:
    """The search cache now; None is what is unknown."""

    alias: str
    dedicated: bool
    reachable: bool
    """Whether the store answers; ``unavailable`` says why not."""
    unavailable: str = ""
    keys: int | None = None
    exact: bool = False
    """False: ``keys`` is an estimate."""
    bytes: int | None = None
    """The memory of these keys, estimated."""
    foreign: Sequence[OtherKeys] | None = None
    """The ten most frequent kinds of other keys in the database."""
    tags: Sequence[str] | None = None
    """Up to 100 tags in use, by name."""
    all_tags: bool = False
    """False: there may be more, missed by a sample or stored as hashes."""
    looked_at: int | None = None
    """The keys that ``tags`` and ``foreign`` were sampled from."""
    may_evict: bool | None = None
    """Whether the server may drop the epoch record, and with it all results, when it is full."""
    server_bytes: int | None = None
    """Memory of the whole server."""
    server_bytes_limit: int | None = None
    """Its limit; None also if there is none."""
    last_clear: LastClear | None = None
    """None: never cleared."""
    undo_until: datetime | None = None
    """How long the last soft clear can be undone; None: nothing to undo, or unknown."""
    statistics_unavailable: str = ""
    """Why the counts below are unknown; else empty."""
    last_5_minutes: SearchCacheCounts | None = None
    last_hour: SearchCacheCounts | None = None
    last_day: SearchCacheCounts | None = None
    load: Load | None = None
    """Calls per second now, and computations per second after a clear."""
    history: Sequence[SearchCacheMinute] | None = ()
    """The requested minutes, oldest first. The newest is incomplete."""


def describe_search_cache(*, minutes: int = 0, max_age: float = 0.0) -> SearchCacheStatus:
    """Return the status of the search cache, also while a store is down.

    ``history`` covers the last ``minutes``. A survey of the database, and past minutes, may be
    reused in this process for ``max_age`` seconds, which saves the stores most of the work.

    Raises:
        TypeError, ValueError: ``minutes`` is no int from 0 to 1440.
    """
    if type(minutes) is not int:
        raise TypeError(f"minutes has to be a whole number, not {minutes!r}")
    if not 0 <= minutes <= MAX_HISTORY_MINUTES:
        raise ValueError(f"minutes must be 0 to {MAX_HISTORY_MINUTES}, not {minutes}")
    settings = app_settings()
    # Both stores are read at the same time: either may be silent.
    executor = StoreExecutor(threads=1)
    try:
        statistics = executor.submit(lambda: _describe_statistics(minutes, max_age))
        return SearchCacheStatus(
            alias=settings.search_cache,
            dedicated=settings.search_cache_dedicated,
            last_clear=find_last_clear(),
            **_describe_store(
                settings.search_cache,
                dedicated=settings.search_cache_dedicated,
                survey_age=max_age,
            ),
            **_in_time(statistics, minutes),
        )
    finally:
        executor.shut_down()


@dataclass(frozen=True, slots=True, kw_only=True)
class HotFunction:
    """The calls of one cached function by all processes in the last day."""

    name: str
    """Module and qualified name, as a clear by function takes it."""
    calls: int
    hits: int
    misses: int
    stale_served: int
    bypassed: int
    bytes: int
    """Of the results that were computed, as they are stored."""
    compute_seconds: float


def list_hot_functions(*, number: int = MAX_HOT_FUNCTIONS) -> list[HotFunction]:
    """Return the cached functions that took the most time to compute, at most ``number``.

    Raises:
        StoreUnavailable: the breakers' alias, which holds the counts, does not answer.
    """
    functions = [
        HotFunction(
            name=name,
            calls=counts.calls,
            **{count: getattr(counts, count) for count in FUNCTION_COUNT_NAMES},
        )
        for name, counts in read_functions().items()
    ]
    functions.sort(key=lambda each: (-each.compute_seconds, -each.calls, each.name))
    return functions[:number]


def _describe_store(alias: str, *, dedicated: bool, survey_age: float) -> dict[str, Any]:
    try:
        inspection = inspect(alias, dedicated=dedicated, max_survey_age=survey_age)
    except StoreUnavailable as error:
        return {"reachable": False, "unavailable": error.reason}
    content: dict[str, Any] = {
        "reachable": True,
        "may_evict": inspection.may_evict,
        "server_bytes": inspection.server_bytes,
        "server_bytes_limit": inspection.server_bytes_limit,
        "undo_until": None if inspection.undo_until is None else as_time(inspection.undo_until),
    }
    if (survey := inspection.survey) is not None:
        content |= {
            "keys": survey.keys,
            "exact": survey.exact,
            "bytes": survey.bytes,
            "foreign": survey.foreign,
            "tags": survey.tags,
            "all_tags": survey.all_tags,
            "looked_at": survey.looked_at,
        }
    return content


def _describe_statistics(minutes: int, max_age: float) -> dict[str, Any]:
    now = time.time()
    try:
        figures = read_figures(minutes=minutes, now=now, max_age=max_age)
    except StoreUnavailable as error:
        return _unknown_statistics(error.reason, minutes)
    return {
        **{name: _counts(figures.periods[name]) for name in PERIODS},
        "load": estimate_load(figures, now=now),
        "history": [
            SearchCacheMinute(at=as_time(minute.at), counts=_counts(minute.counts))
            for minute in figures.minutes
        ],
    }


def _in_time(statistics: "Future[dict[str, Any]]", minutes: int) -> dict[str, Any]:
    """Wait with a limit: looking up a host name has no time-out of its own."""
    try:
        return statistics.result(timeout=MAX_STATISTICS_WAIT_SECONDS)
    except TimeoutError:
        return _unknown_statistics("the store did not answer in time", minutes)


def _unknown_statistics(reason: str, minutes: int) -> dict[str, Any]:
    return {"statistics_unavailable": reason, "history": None if minutes else ()}


def find_last_clear() -> LastClear | None:
    """Return the newest clear that is done, if there is one."""
    kind, status = Operation.Kind.CLEAR_SEARCH_CACHE.value, Operation.Status.DONE
    row = Operation.objects.filter(kind=kind, status=status).first()
    if row is None:
        return None
    return LastClear(
        at=with_zone(row.started_at),
        actor=row.actor,
        channel=row.channel,
        mode=row.clear_mode,
        reason=row.reason,
        operation_id=row.pk,
    )


def _counts(counts: Counts) -> SearchCacheCounts:
    figures = {name: getattr(counts, name) for name in _SHOWN}
    return SearchCacheCounts(calls=counts.calls, hit_ratio=counts.hit_ratio, **figures)


def total_counts(periods: Sequence[SearchCacheCounts]) -> SearchCacheCounts:
    """Return the calls of several periods together."""
    sums = {name: sum(getattr(period, name) for period in periods) for name in _SHOWN}
    return _counts(Counts(**sums))


def list_recent_clears(number: int) -> list[Operation]:
    """Return the newest clears, whatever their status."""
    return list(Operation.objects.filter(kind=Operation.Kind.CLEAR_SEARCH_CACHE.value)[:number])


def list_clears_since(at: datetime) -> list[datetime]:
    """Return the times of clears that are done or unknown, oldest first, at most 100."""
    clears = Operation.objects.filter(
        kind=Operation.Kind.CLEAR_SEARCH_CACHE.value,
        status__in=_HAPPENED,
        started_at__gte=as_stored(at),
    )
    newest = clears.values_list("started_at", flat=True)[:MAX_CLEARS_LISTED]
    return sorted(map(with_zone, newest))
