"""What the search cache's store holds now, and how the server behind it is. Changes nothing.

Who looks every few seconds is told again what a survey has found, with the keys as they are now: a
survey is some round trips, all else is one.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings
from django.core.cache import caches
from redis.exceptions import RedisError

from analytics_admin.caching.entries import RECORD_NAME, decode_record, record_key
from analytics_admin.caching.inspection.survey import TAGS, Survey, resized, survey
from analytics_admin.caching.inspection.sweep_progress import (
    POSITION_NAME,
    SweepProgress,
    progress_of,
)
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.stores import local_memory
from analytics_admin.stores.client import (
    StoreUnavailable,
    explain_error,
    is_local_memory,
    operation_client,
)

TIMEOUT = 0.5
"""Seconds to wait for connecting and for each reply."""
SOON_SURVEYED = 1000
"""A database up to this size is surveyed anew whenever its number of keys has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found; None is what could not be learnt."""

    survey: Survey | None
    """None: the cache's keys can't be told from others."""
    undo_until: float | None = None
    """Until when the last soft clear can be undone (Unix time of the store); None: it can't."""
    sweep: SweepProgress | None = None
    """None: there is none that has begun and is not over."""
    server_bytes: int | None = None
    """Memory that the whole server uses, whatever else it holds."""
    server_bytes_limit: int | None = None
    """None also for a server without a limit."""


class _Answer(NamedTuple):
    record: bytes | None
    now: float
    """Unix time of the store."""
    info: Mapping[str, Any]
    size: int | None
    sweep: SweepProgress | None


class _Kept(NamedTuple):
    """The last survey of this process, and the server's memory then, which never stands still."""

    of: tuple[object, ...]
    at: float
    found: Survey | None
    info: Mapping[str, Any]


_kept: _Kept | None = None


def inspect(alias: str, *, dedicated: bool, survey_age: float = 0.0) -> Inspection:
    """Return what the store holds.

    A survey of the last ``survey_age`` seconds is told again, unless the cache was cleared since,
    or the database is small and has changed.

    Raises:
        StoreUnavailable: it does not answer.
    """
    if is_local_memory(alias):
        return _inspect_memory(alias)
    try:
        with operation_client(alias, timeout=TIMEOUT) as client:
            answer = _ask(client, alias)
            found, info = _survey(client, alias, answer, dedicated=dedicated, age=survey_age)
    except RedisError as error:
        raise StoreUnavailable(explain_error(error)) from None
    return Inspection(
        survey=found,
        undo_until=_undo_until(answer.record, answer.now),
        sweep=answer.sweep,
        server_bytes=info.get("used_memory"),
        server_bytes_limit=info.get("maxmemory") or None,
    )


def forget() -> None:
    """Have the next look survey anew."""
    global _kept  # noqa: PLW0603 - one per process
    _kept = None


def _ask(client: Any, alias: str) -> _Answer:
    """Ask for all that is cheap to say, in one round trip."""
    step = client.pipeline(transaction=False)
    swept = caches[alias].make_key(POSITION_NAME)
    step.get(record_key(alias)).time().info("memory").dbsize().get(swept).pttl(swept)
    record, at, info, size, position, left = step.execute(raise_on_error=False)
    if isinstance(at, Exception):  # a store that does not say the time says nothing
        raise at
    now = at[0] + at[1] / 1_000_000
    return _Answer(
        record=record if isinstance(record, bytes) else None,
        now=now,
        info=info if isinstance(info, Mapping) else {},
        size=size if isinstance(size, int) else None,
        sweep=progress_of(position, milliseconds_left=left, now=now),
    )


def _survey(
    client: Any, alias: str, answer: _Answer, *, dedicated: bool, age: float
) -> tuple[Survey | None, Mapping[str, Any]]:
    global _kept  # noqa: PLW0603 - one per process
    of = (alias, dedicated, repr(settings.CACHES.get(alias)), answer.record)
    if (kept := _kept) is not None and kept.of == of and time.monotonic() - kept.at < age:
        found, size = kept.found, answer.size
        if found is None or found.size == size:
            return found, kept.info
        if size is not None and size > SOON_SURVEYED:
            return resized(found, size, dedicated=dedicated), kept.info
    found = None
    with suppress(StoreUnavailable):
        found = survey(client, alias, dedicated=dedicated)
    _kept = _Kept(of, time.monotonic(), found, answer.info)
    return found, answer.info


def _undo_until(record: bytes | None, now: float) -> float | None:
    found = decode_record(record)
    left = [until for until in found.servable_until.values() if until > now] if found else []
    return max(left, default=None)


def _inspect_memory(alias: str) -> Inspection:
    ours = keyspace(alias)
    keys, tags = local_memory.count(alias, ours), local_memory.tags(alias, ours)
    named = tuple(sorted(tag for tag in tags if tag is not None)[:TAGS])
    found = Survey(
        keys=keys,
        exact=True,
        bytes=None,
        foreign=None,
        tags=named,
        all_tags=len(named) == len(tags),
        looked_at=keys,
    )
    record = caches[alias].get(RECORD_NAME)
    return Inspection(survey=found, undo_until=_undo_until(record, time.time()))
