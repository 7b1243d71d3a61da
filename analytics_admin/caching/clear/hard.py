"""The hard clear: a new epoch first, then the keys; and its preview.

``scan`` finds and unlinks the keys where the database is not ours alone. If a reply is lost, the
epoch record tells the outcome. This module never uses the cache's own
``clear()`` or ``delete_pattern()``, nor the alias' time-outs.
"""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.conf import settings
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from analytics_admin.caching.clear.outcome import (
    NO_REPLY_TO_CLEAR,
    TIMEOUT,
    Progress,
    confirm_outcome,
    interrupted,
)
from analytics_admin.caching.clear.replicas import ask_server, spread
from analytics_admin.caching.clear.scan import remove_keys
from analytics_admin.caching.epochs import (
    EpochRecord,
    decode_record,
    new_record,
    read_record,
    record_key,
    replace_record,
)
from analytics_admin.caching.inspection.survey import OtherKeys, Survey, survey
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.statistics.queries import Load, estimate_load, read_figures
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    StoreUnavailable,
    aliases_sharing_database,
    is_local_memory,
    operation_client,
    other_addresses,
)

PROBE_TIMEOUT = 0.1
"""Seconds to ask another alias whether it leads to the same database."""

CACHED_SESSIONS = {
    "django.contrib.sessions.backends.cache",
    "django.contrib.sessions.backends.cached_db",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutcome:
    """What a clear did."""

    alias: str
    dedicated: bool
    keys: int
    way: Literal["flush", "unlink", "memory"]
    """``unlink`` on a dedicated database: its user may not flush, so the keys went one by one."""
    replicas: int | None = None
    """The replicas of the store; None: unknown."""
    replicas_behind: int = 0
    """Those that had not confirmed the clear in time. If one takes over now, the clear is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPreview:
    """What a clear would remove now, and the load that it would put on the backend."""

    alias: str
    dedicated: bool
    keys: int
    exact: bool
    """False: ``keys`` is an estimate from a sample."""
    bytes: int | None
    """About the memory that these keys take; None: unknown."""
    foreign: tuple[OtherKeys, ...] | None
    """The ten most frequent kinds of other keys in the database. A clear of a ``dedicated``
    database removes them too. None: unknown."""
    load: Load | None
    """None: unknown, for the reason ``load_unknown``."""
    load_unknown: str = ""


def preview(*, exact: bool = False) -> ClearPreview:
    """Return what a clear would remove; change nothing.

    ``exact`` counts every key, which takes about a second per million keys in the database.

    Raises:
        StoreUnavailable: the store does not answer, or a clear would be refused.
    """
    alias, dedicated = _target()
    if is_local_memory(alias):
        keys = memory.count(alias, keyspace(alias))
        content = Survey(keys=keys, exact=True, bytes=None, foreign=None)
    else:
        with operation_client(alias, timeout=TIMEOUT) as client:
            content = survey(client, alias, dedicated=dedicated, exact=exact)
    load, load_unknown, now = None, "", time.time()
    try:
        load = estimate_load(read_figures(now=now), now=now)
    except StoreUnavailable as error:
        load_unknown = error.reason
    return ClearPreview(
        alias=alias,
        dedicated=dedicated,
        keys=content.keys,
        exact=content.exact,
        bytes=content.bytes,
        foreign=content.foreign,
        load=load,
        load_unknown=load_unknown,
    )


def clear(*, on_progress: Progress | None = None, receipt: str = "") -> ClearOutcome:
    """Empty the search cache; ``on_progress`` gets the number of keys removed so far.

    The store keeps the ``receipt``, by which the loss of this clear is found out later.

    Raises:
        StoreUnavailable: the store refused or did not answer, or holds data that must survive and
            cannot be told from the cache.
        OutcomeUnknown: the store did not answer during the clear; the keys may be gone or not.
    """
    alias, dedicated = _target()
    if is_local_memory(alias):
        keys = memory.clear(alias, keyspace(alias))
        return ClearOutcome(alias=alias, dedicated=dedicated, keys=keys, way="memory")
    on_progress = on_progress or (lambda removed: None)
    with operation_client(alias, timeout=TIMEOUT) as client:
        if not dedicated:
            keyspace(alias)  # refuses before anything is written
        server = ask_server(client, record_key(alias))
        new = new_record(server=server.identity, receipt=receipt)
        way: Literal["flush", "unlink"] = "flush"
        flushed = _flush(client, alias, server.record, new, on_progress) if dedicated else None
        if flushed is None:
            way, keys = "unlink", _unlink(client, alias, server.record, new, on_progress)
        else:
            keys = flushed
        reached = asdict(spread(client, record_key(alias), server))
    return ClearOutcome(alias=alias, dedicated=dedicated, keys=keys, way=way, **reached)


def _target() -> tuple[str, bool]:
    """Return the alias to clear and whether its database is dedicated to it.

    Raises:
        StoreUnavailable: it also holds data that must survive a clear.
    """
    site = app_settings()
    alias, dedicated = site.search_cache, site.search_cache_dedicated
    if is_local_memory(alias):
        return alias, dedicated
    if alias == site.breaker_cache:
        raise StoreUnavailable(Message(_("the circuit breakers live in the same cache alias")))
    if settings.SESSION_ENGINE in CACHED_SESSIONS and alias == settings.SESSION_CACHE_ALIAS:
        raise StoreUnavailable(Message(_("the sessions live in the same cache alias")))
    if dedicated:
        _refuse_shared_database(aliases_sharing_database(alias))
    return alias, dedicated


def _flush(
    client: Any, alias: str, before: EpochRecord, new: EpochRecord, on_progress: Progress
) -> int | None:
    """Empty the database in one transaction; return None if the store's user may not flush."""
    key = record_key(alias)
    _refuse_shared_database(
        [other for other in other_addresses(alias) if _can_read(other, key, before)]
    )
    try:
        keys: int = client.dbsize() - 1  # the record stays
        with confirm_outcome(alias, lambda now: now.replaces(before), no_reply=NO_REPLY_TO_CLEAR):
            transaction = client.pipeline(transaction=True)
            transaction.flushdb(asynchronous=True)
            replace_record(transaction, key, new)
            *_, raw = transaction.get(key).execute()
            _verify(raw, before)
    except ResponseError as error:
        if isinstance(error, NoPermissionError) or "unknown command" in str(error):
            return None
        raise
    on_progress(keys)
    return keys


def _unlink(
    client: Any, alias: str, before: EpochRecord, new: EpochRecord, on_progress: Progress
) -> int:
    """Set the new epoch, then remove the alias' keys in small steps."""
    keys, key = keyspace(alias), record_key(alias)
    with confirm_outcome(alias, lambda now: now.replaces(before), no_reply=NO_REPLY_TO_CLEAR):
        pipeline = client.pipeline(transaction=False)
        replace_record(pipeline, key, new)
        _, raw = pipeline.get(key).execute()
        _verify(raw, before)
    removed = 0
    try:
        for number in remove_keys(client, keys):
            removed += number
            on_progress(removed)
    except RedisError as error:
        raise interrupted(error, removed) from None
    return removed


def _verify(raw: bytes | None, before: EpochRecord) -> None:
    """Check that no epoch of ``before`` is accepted; the record may be that of a later clear."""
    now = decode_record(raw)
    if now is None or not now.replaces(before):
        raise StoreUnavailable(Message(_("the store did not keep the new epoch")))


def _refuse_shared_database(aliases: list[str]) -> None:
    if aliases:
        names = ", ".join(f"'{alias}'" for alias in aliases)
        message = _(
            "SEARCH_CACHE_DEDICATED is set, but the cache alias %(names)s shares the database"
        )
        raise StoreUnavailable(Message(message, names=names))


def _can_read(alias: str, key: str, record: EpochRecord) -> bool:
    """Say whether the alias leads, by another address, to the database that holds the record.

    Epochs are random, so only this database holds this record. If the alias does not answer, its
    settings are believed.
    """
    with suppress(StoreUnavailable), operation_client(alias, timeout=PROBE_TIMEOUT) as client:
        return read_record(client, key) == record
    return False
