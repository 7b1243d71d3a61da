"""The status of the search cache's store and of the server behind it. Changes nothing.

A survey takes some round trips, all else takes one. So callers that look every few seconds get the
last survey again, adjusted to the present number of keys.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings

from analytics_admin.caching.epochs import EpochRecord, decode_record, record_key
from analytics_admin.caching.inspection.keeping import may_evict
from analytics_admin.caching.inspection.survey import MAX_TAGS, Survey, resized, survey
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.stores import memory
from analytics_admin.stores.client import StoreUnavailable, is_local_memory, operation_client

TIMEOUT = 0.5
"""Seconds to wait for connecting and for each reply."""
MAX_RESURVEYED_KEYS = 1000
"""A database up to this size is surveyed again whenever its number of keys has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a store holds; None means unknown."""

    survey: Survey | None
    """None: the cache's keys cannot be told from others."""
    undo_until: float | None = None
    """Unix time of the store until which the last soft clear can be undone; None: it cannot."""
    may_evict: bool | None = None
    """Whether the server drops keys that never expire, as the epoch record, when it is full."""
    server_bytes: int | None = None
    """Memory that the whole server uses."""
    server_bytes_limit: int | None = None
    """None also if the server has no limit."""


class _Answer(NamedTuple):
    """What one round trip tells."""

    record: bytes | None
    now: float
    """Unix time of the store."""
    info: Mapping[str, Any]
    size: int | None


class _Cached(NamedTuple):
    """This process' last survey, and the server's memory then, which always changes."""

    source: tuple[object, ...]
    surveyed_at: float
    survey: Survey | None
    info: Mapping[str, Any]


_cached: _Cached | None = None


def inspect(alias: str, *, dedicated: bool, max_survey_age: float = 0.0) -> Inspection:
    """Return what the store holds.

    A survey of the last ``max_survey_age`` seconds is used again, unless the cache was cleared
    since, or the database is small and has changed.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if is_local_memory(alias):
        return _inspect_memory(alias)
    with operation_client(alias, timeout=TIMEOUT) as client:
        answer = _query(client, alias)
        content, info = _survey(client, alias, answer, dedicated=dedicated, max_age=max_survey_age)
    return Inspection(
        survey=content,
        undo_until=_undo_until(decode_record(answer.record), answer.now),
        may_evict=may_evict(info),
        server_bytes=info.get("used_memory"),
        server_bytes_limit=info.get("maxmemory") or None,
    )


def forget() -> None:
    """Make the next inspection survey again."""
    global _cached  # noqa: PLW0603 - one per process
    _cached = None


def _query(client: Any, alias: str) -> _Answer:
    """Query everything that is cheap, in one round trip."""
    pipeline = client.pipeline(transaction=False)
    pipeline.get(record_key(alias)).time().info("memory").dbsize()
    record, at, info, size = pipeline.execute(raise_on_error=False)
    if isinstance(at, Exception):  # without the time, nothing else is known either
        raise at
    now = at[0] + at[1] / 1_000_000
    return _Answer(
        record=record if isinstance(record, bytes) else None,
        now=now,
        info=info if isinstance(info, Mapping) else {},
        size=size if isinstance(size, int) else None,
    )


def _survey(
    client: Any, alias: str, answer: _Answer, *, dedicated: bool, max_age: float
) -> tuple[Survey | None, Mapping[str, Any]]:
    global _cached  # noqa: PLW0603 - one per process
    source = (alias, dedicated, repr(settings.CACHES.get(alias)), answer.record)
    cached, size = _cached, answer.size
    if (
        cached is not None
        and cached.source == source
        and time.monotonic() - cached.surveyed_at < max_age
    ):
        if cached.survey is None or cached.survey.size == size:
            return cached.survey, cached.info
        if size is not None and size > MAX_RESURVEYED_KEYS:
            return resized(cached.survey, size, dedicated=dedicated), cached.info
    content = None
    with suppress(StoreUnavailable):
        content = survey(client, alias, dedicated=dedicated)
    _cached = _Cached(source, time.monotonic(), content, answer.info)
    return content, answer.info


def _undo_until(record: EpochRecord | None, now: float) -> float | None:
    ends = record.servable_until.values() if record is not None else ()
    return max((end for end in ends if end > now), default=None)


def _inspect_memory(alias: str) -> Inspection:
    own = keyspace(alias)
    keys, tags = memory.count(alias, own), memory.list_tags(alias, own)
    named = tuple(sorted(tag for tag in tags if tag is not None)[:MAX_TAGS])
    content = Survey(
        keys=keys,
        exact=True,
        bytes=None,
        foreign=None,
        tags=named,
        all_tags=len(named) == len(tags),
        looked_at=keys,
    )
    return Inspection(survey=content, undo_until=_undo_until(*memory.read_record(alias)))
