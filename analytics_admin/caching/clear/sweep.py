"""Sweep out what old generations have left in the search cache's store, step by step.

How far a sweep has come lies in the store, so that one which was cut off is gone on with.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from analytics_admin.caching.clear import scan
from analytics_admin.caching.clear.outcome import TIMEOUT, interrupted, translate_redis_errors
from analytics_admin.caching.inspection.sweep_progress import (
    POSITION_LIFE,
    POSITION_NAME,
    SweepPosition,
    decode_position,
    share_walked,
)
from analytics_admin.caching.keyspace import Keyspace, keyspace
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import is_local_memory, operation_client

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """What a sweep did."""

    alias: str
    seen: int
    """Values that it looked at."""
    removed: int
    resumed: bool
    """True: it went on where one was cut off."""
    finished: bool = True
    """False: its time was over; the next one goes on from there."""
    progress: float = 1.0
    """The share of the key table walked by now, with what it went on from, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep would do if it began now."""

    alias: str
    seen: int
    """Values that it would look at."""
    removed: int
    exact: bool
    """False: both are estimates, from a part of the key table."""
    progress: float = 0.0
    """Over 0: one was cut off so far, from 0 to 1, and would be gone on with."""


def sweep_leftovers(
    *, on_progress: Progress | None = None, seconds: float | None = None
) -> SweepOutcome:
    """Remove the values that count no more; ``on_progress`` is told how many were looked at.

    After ``seconds`` it stops, if it is not over.

    Raises:
        StoreUnavailable: the store refused or did not answer; the next sweep goes on from there.
    """
    alias = app_settings().search_cache
    keys = keyspace(alias)
    if is_local_memory(alias):
        seen, removed = memory.remove_leftovers(alias, keys)
        return SweepOutcome(alias=alias, seen=seen, removed=removed, resumed=False)
    with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
        return _sweep(client, alias, keys, on_progress or _ignore, _deadline(seconds))


def preview(*, seconds: float | None = None) -> SweepPlan:
    """Say of how many values a sweep would remove how many; changes nothing.

    Walks over all of them, or for ``seconds``, and infers the rest: SCAN's order is that of
    hashes, so what it has walked is a sample.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias = app_settings().search_cache
    keys = keyspace(alias)
    if is_local_memory(alias):
        seen, outdated = memory.count_leftovers(alias, keys)
        return SweepPlan(alias=alias, seen=seen, removed=outdated, exact=True)
    deadline = _deadline(seconds)
    seen = outdated = cursor = 0
    with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
        before = _read_position(client, caches[alias].make_key(POSITION_NAME))
        for page in scan.count_leftovers(client, keys):
            seen, outdated, cursor = seen + page.examined, outdated + page.outdated, page.cursor
            if time.monotonic() >= deadline:
                break
    share = share_walked(cursor)
    seen, outdated = (_scaled(number, share) for number in (seen, outdated))
    return SweepPlan(
        alias=alias,
        seen=seen,
        removed=outdated,
        exact=not cursor,
        progress=round(share_walked(before.cursor), 4) if before.cursor else 0.0,
    )


def _sweep(
    client: Any, alias: str, keys: Keyspace, on_progress: Progress, deadline: float
) -> SweepOutcome:
    place = caches[alias].make_key(POSITION_NAME)
    before = _read_position(client, place)
    seen = removed = 0
    cursor = before.cursor
    try:
        for page in scan.remove_leftovers(client, keys, start=cursor):
            seen, removed, cursor = seen + page.examined, removed + page.outdated, page.cursor
            is_over = time.monotonic() >= deadline
            position = SweepPosition(
                cursor=cursor,
                seen=before.seen + seen,
                removed=before.removed + removed,
                moving=not is_over,
            )
            _save_position(client, place, position)
            on_progress(seen)
            if is_over:
                break
    except RedisError as error:
        raise interrupted(error, removed) from None
    return SweepOutcome(
        alias=alias,
        seen=seen,
        removed=removed,
        resumed=bool(before.cursor),
        finished=not cursor,
        progress=round(share_walked(cursor), 4),
    )


def _read_position(client: Any, key: str) -> SweepPosition:
    """Return where to begin: at the beginning, unless a sweep was cut off."""
    try:
        return decode_position(client.get(key)) or SweepPosition(cursor=0)
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return SweepPosition(cursor=0)
        raise


def _save_position(client: Any, key: str, position: SweepPosition) -> None:
    """Keep it; a store that is out of memory is swept all the same, which makes room."""
    if not position.cursor:
        client.unlink(key)
        return
    with suppress(OutOfMemoryError):
        client.set(key, position.encode(), ex=POSITION_LIFE)


def _deadline(seconds: float | None) -> float:
    return float("inf") if seconds is None else time.monotonic() + seconds


def _scaled(number: int, share: float) -> int:
    # Rounded to what the sample can tell, so that the figure does not look exact.
    return number if share == 1 else int(float(f"{number / share:.3g}"))


def _ignore(_: int) -> None:
    """Take progress that nobody asked for."""
