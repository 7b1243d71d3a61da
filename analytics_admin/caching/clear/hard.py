"""Clear the search cache: a new token first, then the keys; and say beforehand how many they are.

The token record, read again, tells what became of a clear whose reply was lost. Never uses the
cache's own ``clear()`` or ``delete_pattern()``, nor any time-out or leniency of the alias.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from analytics_admin.caching.clear import scan
from analytics_admin.caching.clear.outcome import (
    NO_REPLY_TO_CLEAR,
    TIMEOUT,
    confirm_outcome,
    interrupted,
    translate_redis_errors,
)
from analytics_admin.caching.clear.preview import ClearPreview, foresee
from analytics_admin.caching.entries import (
    EpochRecord,
    ensure_record,
    new_record,
    read_record,
    record_key,
    replace_record,
)
from analytics_admin.caching.inspection.survey import Survey, survey
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.stores import local_memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    StoreUnavailable,
    is_local_memory,
    operation_client,
    other_addresses,
    shares_database,
)

PROBE_TIMEOUT = 0.1
"""Seconds to ask another alias whether it leads to the same database."""

CACHED_SESSIONS = {
    "django.contrib.sessions.backends.cache",
    "django.contrib.sessions.backends.cached_db",
}

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutcome:
    """What a clear did."""

    alias: str
    dedicated: bool
    keys: int
    way: Literal["flush", "unlink", "memory"]
    """``unlink`` on a dedicated database: its user may not flush, so the keys went one by one."""


def preview(*, exact: bool = False) -> ClearPreview:
    """Say what a clear would remove; changes nothing.

    ``exact`` counts every key, which takes about a second per million in the database.

    Raises:
        StoreUnavailable: the store does not answer, or a clear would be refused.
    """
    alias, dedicated = _target()
    if is_local_memory(alias):
        keys = local_memory.count(alias, keyspace(alias))
        return foresee(alias, Survey(keys=keys, exact=True, bytes=None, foreign=None), dedicated)
    with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
        found = survey(client, alias, dedicated=dedicated, exact=exact)
    return foresee(alias, found, dedicated)


def clear(*, on_progress: Progress | None = None) -> ClearOutcome:
    """Empty the search cache; ``on_progress`` is told how many keys are gone so far.

    Raises:
        StoreUnavailable: the store refused or did not answer, or something that must survive
            could not be told from the cache.
        OutcomeUnknown: the store fell silent in the act; the keys may be gone or not.
    """
    alias, dedicated = _target()
    if is_local_memory(alias):
        keys = local_memory.clear(alias, keyspace(alias))
        return ClearOutcome(alias=alias, dedicated=dedicated, keys=keys, way="memory")
    with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
        if dedicated and (flushed := _flush(client, alias, on_progress or _ignore)) is not None:
            return ClearOutcome(alias=alias, dedicated=True, keys=flushed, way="flush")
        keys = _unlink(client, alias, on_progress or _ignore)
        return ClearOutcome(alias=alias, dedicated=dedicated, keys=keys, way="unlink")


def _target() -> tuple[str, bool]:
    """Return the alias to clear and whether its database is its own.

    Raises:
        StoreUnavailable: something that must survive a clear lives there too.
    """
    now = app_settings()
    alias, dedicated = now.search_cache, now.search_cache_dedicated
    if is_local_memory(alias):
        return alias, dedicated
    if alias == now.breaker_cache:
        raise StoreUnavailable(Message(_("the circuit breakers live in the same cache alias")))
    if settings.SESSION_ENGINE in CACHED_SESSIONS and alias == settings.SESSION_CACHE_ALIAS:
        raise StoreUnavailable(Message(_("the sessions live in the same cache alias")))
    if dedicated:
        _refuse_sharers(shares_database(alias))
    return alias, dedicated


def _flush(client: Any, alias: str, on_progress: Progress) -> int | None:
    """Empty the database in one transaction; return None if the store's user may not flush."""
    key = record_key(alias)
    before = ensure_record(client, key)
    _refuse_sharers([a for a in other_addresses(alias) if _reads(a, key, before)])
    try:
        keys: int = client.dbsize() - 1  # the record stays
        with confirm_outcome(alias, lambda now: now.replaces(before), silent=NO_REPLY_TO_CLEAR):
            transaction = client.pipeline(transaction=True)
            transaction.flushdb(asynchronous=True)
            replace_record(transaction, key, new_record())
            transaction.execute()
            _verify(client, key, before)
    except ResponseError as error:
        if isinstance(error, NoPermissionError) or "unknown command" in str(error):
            return None
        raise
    on_progress(keys)
    return keys


def _unlink(client: Any, alias: str, on_progress: Progress) -> int:
    """Renew the token, then remove the alias' keys one small step after the other."""
    keys, key = keyspace(alias), record_key(alias)
    before = ensure_record(client, key)
    with confirm_outcome(alias, lambda now: now.replaces(before), silent=NO_REPLY_TO_CLEAR):
        replace_record(client, key, new_record())
        _verify(client, key, before)
    removed = 0
    try:
        for step in scan.remove(client, keys):
            removed += step
            on_progress(removed)
    except RedisError as error:
        raise interrupted(error, removed) from None
    return removed


def _verify(client: Any, key: str, before: EpochRecord) -> None:
    """Make sure that no token of before is accepted; a clear that came after ours may have won."""
    now = read_record(client, key)
    if now is None or not now.replaces(before):
        raise StoreUnavailable(Message(_("the store did not keep the new token")))


def _refuse_sharers(aliases: list[str]) -> None:
    if aliases:
        names = ", ".join(f"'{alias}'" for alias in aliases)
        words = _(
            "SEARCH_CACHE_DEDICATED is set, but the cache alias %(names)s shares the database"
        )
        raise StoreUnavailable(Message(words, names=names))


def _reads(alias: str, key: str, record: EpochRecord) -> bool:
    """Say whether the alias leads to the database that holds the record, by another address.

    Tokens are random, so to read this very record is to be there. An alias that does not answer
    is taken at its settings' word.
    """
    with (
        suppress(RedisError, StoreUnavailable),
        operation_client(alias, timeout=PROBE_TIMEOUT) as client,
    ):
        return read_record(client, key) == record
    return False


def _ignore(_: int) -> None:
    """Take progress that nobody asked for."""
