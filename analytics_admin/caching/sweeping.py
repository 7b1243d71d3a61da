"""Sweep out what old generations have left in the search cache's store, step by step.

How far a sweep has come lies in the store, so that one which was cut off is gone on with.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from analytics_admin.caching import local_memory, sweep
from analytics_admin.caching.keyspace import Keyspace, keyspace
from analytics_admin.caching.reach import TIMEOUT, failures_explained
from analytics_admin.conf import app_settings
from analytics_admin.connections import StoreUnavailable, act_client, explain, is_local_memory

POSITION_NAME = "analytics_admin:sweep"
POSITION_LIFE = 3600
"""Seconds for which a sweep that was cut off can be gone on with; then one begins anew."""

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


def sweep_leftovers(*, on_progress: Progress | None = None) -> SweepOutcome:
    """Remove the values that count no more; ``on_progress`` is told how many were looked at.

    Raises:
        StoreUnavailable: the store refused or did not answer; the next sweep goes on from there.
    """
    alias = app_settings().search_cache
    keys = keyspace(alias)
    if is_local_memory(alias):
        seen, removed = local_memory.remove_leftovers(alias, keys)
        return SweepOutcome(alias=alias, seen=seen, removed=removed, resumed=False)
    with failures_explained(), act_client(alias, timeout=TIMEOUT) as client:
        return _sweep(client, alias, keys, on_progress or _ignore)


def preview() -> SweepOutcome:
    """Say of how many values a sweep would remove how many; changes nothing, walks over all.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias = app_settings().search_cache
    keys = keyspace(alias)
    if is_local_memory(alias):
        seen, outdated = local_memory.count_leftovers(alias, keys)
        return SweepOutcome(alias=alias, seen=seen, removed=outdated, resumed=False)
    with failures_explained(), act_client(alias, timeout=TIMEOUT) as client:
        pages = sweep.count_leftovers(client, keys)
        seen, outdated = map(sum, zip(*((page.seen, page.removed) for page in pages), strict=True))
    return SweepOutcome(alias=alias, seen=seen, removed=outdated, resumed=False)


def _sweep(client: Any, alias: str, keys: Keyspace, on_progress: Progress) -> SweepOutcome:
    position = caches[alias].make_key(POSITION_NAME)
    start = _read_position(client, position)
    seen = removed = 0
    try:
        for page in sweep.remove_leftovers(client, keys, start=start):
            seen += page.seen
            removed += page.removed
            _save_position(client, position, page.cursor)
            on_progress(seen)
    except RedisError as error:
        reason = f"{explain(error)}; {removed} keys were removed before that"
        raise StoreUnavailable(reason) from None
    return SweepOutcome(alias=alias, seen=seen, removed=removed, resumed=bool(start))


def _read_position(client: Any, key: str) -> int:
    """Return the cursor to begin with; 0, the beginning, unless a sweep was cut off."""
    try:
        found = json.loads(client.get(key) or b"0")
    except ValueError:  # covers bytes that are no UTF-8
        return 0
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return 0
        raise
    return found if type(found) is int and 0 <= found < 1 << 64 else 0


def _save_position(client: Any, key: str, cursor: int) -> None:
    """Keep the cursor; a store that is out of memory is swept all the same, which makes room."""
    if not cursor:
        client.unlink(key)
        return
    with suppress(OutOfMemoryError):
        client.set(key, cursor, ex=POSITION_LIFE)


def _ignore(_: int) -> None:
    """Take progress that nobody asked for."""
