"""What the search cache's store holds now, and how the server behind it is. Changes nothing."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import RedisError

from analytics_admin.caching import local_memory
from analytics_admin.caching.entries import RECORD_NAME, decode_record, record_key
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.survey import Survey, survey
from analytics_admin.connections import StoreUnavailable, act_client, explain, is_local_memory

TIMEOUT = 0.5
"""Seconds to wait for connecting and for each reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found; None is what could not be learnt."""

    survey: Survey | None
    """None: the cache's keys can't be told from others."""
    undo_until: float | None = None
    """Until when the last soft clear can be undone (Unix time of the store); None: it can't."""
    server_bytes: int | None = None
    """Memory that the whole server uses, whatever else it holds."""
    server_bytes_limit: int | None = None
    """None also for a server without a limit."""


def inspect(alias: str, *, dedicated: bool) -> Inspection:
    """Return what the store holds.

    Raises:
        StoreUnavailable: it does not answer.
    """
    if is_local_memory(alias):
        return _inspect_memory(alias)
    try:
        with act_client(alias, timeout=TIMEOUT) as client:
            record, now, info = _ask(client, record_key(alias))
            found = None
            with suppress(StoreUnavailable):
                found = survey(client, alias, dedicated=dedicated)
    except RedisError as error:
        raise StoreUnavailable(explain(error)) from None
    return Inspection(
        survey=found,
        undo_until=_undo_until(record, now),
        server_bytes=info.get("used_memory"),
        server_bytes_limit=info.get("maxmemory") or None,
    )


def _ask(client: Any, key: str) -> tuple[bytes | None, float, Mapping[str, Any]]:
    """Return the record, the store's time, and what the server says of its memory, if it may."""
    step = client.pipeline(transaction=False)
    step.get(key).time().info("memory")
    record, at, info = step.execute(raise_on_error=False)
    if isinstance(at, Exception):  # a store that does not say the time says nothing
        raise at
    return (
        record if isinstance(record, bytes) else None,
        at[0] + at[1] / 1_000_000,
        info if isinstance(info, Mapping) else {},
    )


def _undo_until(record: bytes | None, now: float) -> float | None:
    found = decode_record(record)
    left = [until for until in found.servable_until.values() if until > now] if found else []
    return max(left, default=None)


def _inspect_memory(alias: str) -> Inspection:
    keys = local_memory.count(alias, keyspace(alias))
    return Inspection(
        survey=Survey(keys=keys, exact=True, bytes=None, foreign=None),
        undo_until=_undo_until(caches[alias].get(RECORD_NAME), time.time()),
    )
