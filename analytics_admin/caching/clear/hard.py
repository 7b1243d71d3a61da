"""The hard clear: a new epoch first, then the keys; and its preview.

The database is flushed where it is proven to be the cache's alone. Else ``scan`` finds and unlinks
the keys. Once the epoch has changed, the clear is done, whatever becomes of the keys. If a reply is
lost, the epoch record tells the outcome. This module never uses the cache's own ``clear()`` or
``delete_pattern()``, nor the alias' time-outs.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from django.conf import settings
from redis.exceptions import NoPermissionError, RedisError

from analytics_admin.caching.clear.outcome import (
    NO_REPLY_TO_CLEAR,
    TIMEOUT,
    Progress,
    confirm_outcome,
)
from analytics_admin.caching.clear.ownership import Findings, examine
from analytics_admin.caching.clear.rehearsal import rehearse
from analytics_admin.caching.clear.scan import remove_keys
from analytics_admin.caching.clear.server import Server, ask_server
from analytics_admin.caching.epochs import (
    EpochRecord,
    decode_record,
    record_key,
    replace_record,
)
from analytics_admin.caching.inspection.survey import OtherKeys, Survey, survey
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.statistics.queries import Load, foresee_load
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    StoreUnavailable,
    cluster_tag,
    explain_error,
    is_local_memory,
    operation_client,
)

REMOVAL_SECONDS = 15.0
"""How long a clear removes keys: half of what workers of web servers get for a request."""
FLUSH_REFUSED = Message(_("the store's user may not flush the database"))
IN_CLUSTER = Message(_("the store is a cluster, whose nodes hold other data, too"))
INTERRUPTED = Message(_("the removal was interrupted"))
OUT_OF_TIME = Message(_("its time was over"))

Way = Literal["flush", "unlink", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutcome:
    """What a clear did."""

    alias: str
    dedicated: bool
    keys: int
    way: Way
    """``unlink`` on a dedicated database: ``not_flushed`` says why."""
    not_flushed: str = ""
    finished: bool = True
    """False: not all keys are removed; ``stopped`` says why. What is left counts no more."""
    stopped: str = ""
    keys_before: int | None = None
    """About how many keys there were, if not all are removed; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPreview:
    """What a clear would remove now, and the load that it would put on the backend."""

    alias: str
    dedicated: bool
    way: Way
    """How it would remove the keys."""
    not_flushed: str
    """Why it would not flush a dedicated database; else empty."""
    keys: int
    exact: bool
    """False: ``keys`` is an estimate from a sample."""
    bytes: int | None
    """About the memory that these keys take; None: unknown."""
    foreign: tuple[OtherKeys, ...] | None
    """The ten most frequent kinds of other keys in the database. A flush removes them too.
    None: unknown."""
    load: Load | None
    """None: unknown, for the reason ``load_unknown``."""
    load_unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How the keys are removed."""

    way: Literal["flush", "unlink"]
    not_flushed: str = ""
    findings: Findings | None = None
    """Of a dedicated database."""


def preview(*, exact: bool = False) -> ClearPreview:
    """Return what a clear would remove; change nothing.

    ``exact`` counts every key, which takes about a second per million keys in the database.

    Raises:
        StoreUnavailable: the store does not answer, or a clear would be refused.
    """
    alias, dedicated = _target()
    way: Way
    if is_local_memory(alias):
        keys = memory.count(alias, keyspace(alias))
        content = Survey(keys=keys, exact=True, bytes=None, foreign=None)
        way, not_flushed = "memory", ""
    else:
        with operation_client(alias, timeout=TIMEOUT) as client:
            plan = _plan(client, alias, dedicated=dedicated)
            way, not_flushed = plan.way, plan.not_flushed
            if way == "unlink":
                key = record_key(alias)
                rehearse(client, ("SET", key, ""), ("GET", key), ("SCAN", 0), ("UNLINK", key))
            known = plan.findings.keys if plan.findings is not None else None
            content = survey(client, alias, dedicated=way == "flush", exact=exact, known=known)
    return ClearPreview(
        alias=alias,
        dedicated=dedicated,
        way=way,
        not_flushed=not_flushed,
        keys=content.keys,
        exact=content.exact,
        bytes=content.bytes,
        foreign=content.foreign,
        **foresee_load(),
    )


def clear(*, on_progress: Progress | None = None, receipt: str = "") -> ClearOutcome:
    """Empty the search cache; ``on_progress`` gets the number of keys removed so far.

    The store keeps the ``receipt``, by which the loss of this clear is found out later.

    Raises:
        StoreUnavailable: the store refused or did not answer, or holds data that must survive and
            cannot be told from the cache. Nothing was cleared.
        OutcomeUnknown: the store did not answer during the clear.
    """
    alias, dedicated = _target()
    if is_local_memory(alias):
        keys = memory.clear(alias, keyspace(alias))
        return ClearOutcome(alias=alias, dedicated=dedicated, keys=keys, way="memory")
    on_progress = on_progress or (lambda removed: None)
    with operation_client(alias, timeout=TIMEOUT) as client:
        plan = _plan(client, alias, dedicated=dedicated)
        server = ask_server(client, record_key(alias))
        new = server.record.with_receipts(receipt, server=server.identity)
        new = new.emptied(server=server.identity)
        outcome = ClearOutcome(
            alias=alias, dedicated=dedicated, keys=0, way=plan.way, not_flushed=plan.not_flushed
        )
        if plan.way == "flush":
            _flush(client, alias, server, new)
            keys = (plan.findings.size if plan.findings is not None else None) or 0
            on_progress(keys)
            return replace(outcome, keys=keys)
        _set_epoch(client, alias, server.record, new)
        return replace(outcome, **_unlink(client, alias, on_progress))


def _target() -> tuple[str, bool]:
    """Return the alias to clear and whether its database is said to be dedicated to it.

    Raises:
        StoreUnavailable: it also holds data that must survive a clear.
    """
    site = app_settings()
    alias, dedicated = site.search_cache, site.search_cache_dedicated
    if is_local_memory(alias):
        return alias, dedicated
    if alias == site.breaker_cache:
        raise StoreUnavailable(Message(_("the circuit breakers live in the same cache alias")))
    if has_sessions(alias):
        raise StoreUnavailable(Message(_("the sessions live in the same cache alias")))
    return alias, dedicated


def has_sessions(alias: str) -> bool:
    """Return whether the site keeps its sessions in the alias, so that a clear ends them."""
    if alias != settings.SESSION_CACHE_ALIAS:
        return False
    try:
        store = getattr(import_module(settings.SESSION_ENGINE), "SessionStore", None)
    except ImportError:  # then there are no sessions at all
        return False
    return hasattr(store, "cache_key_prefix")


def _plan(client: Any, alias: str, *, dedicated: bool) -> _Plan:
    """Return how to remove the keys.

    Raises:
        StoreUnavailable: the alias' keys cannot be told from others, or another alias shares a
            database that is said to be dedicated.
    """
    if not dedicated:
        keyspace(alias)
        return _Plan(way="unlink")
    if cluster_tag(alias) is not None:
        keyspace(alias)
        return _Plan(way="unlink", not_flushed=IN_CLUSTER)
    findings = examine(client, alias)
    reason: str = findings.neighbour or ""
    if not reason and (refusal := findings.refusal) is not None:
        if not isinstance(refusal, NoPermissionError) and "unknown command" not in str(refusal):
            raise refusal
        reason = FLUSH_REFUSED
    if not reason:
        return _Plan(way="flush", findings=findings)
    keyspace(alias)
    return _Plan(way="unlink", not_flushed=reason, findings=findings)


def _flush(client: Any, alias: str, server: Server, new: EpochRecord) -> None:
    """Empty the database in one transaction; only the record stays."""
    key, before = record_key(alias), server.record
    with confirm_outcome(alias, lambda now: now.replaces(before), no_reply=NO_REPLY_TO_CLEAR):
        transaction = client.pipeline(transaction=True)
        transaction.flushdb(asynchronous=True)
        replace_record(transaction, key, new)
        *_, raw = transaction.get(key).execute()
        _verify(raw, before)


def _set_epoch(client: Any, alias: str, before: EpochRecord, new: EpochRecord) -> None:
    key = record_key(alias)
    with confirm_outcome(alias, lambda now: now.replaces(before), no_reply=NO_REPLY_TO_CLEAR):
        pipeline = client.pipeline(transaction=False)
        replace_record(pipeline, key, new)
        _, raw = pipeline.get(key).execute()
        _verify(raw, before)


def _unlink(client: Any, alias: str, on_progress: Progress) -> dict[str, Any]:
    """Remove the alias' keys in small steps; return what became of them.

    The cache is cleared by now: neither the store nor Ctrl-C can make that undone.
    """
    removed, share, is_last, stopped = 0, 0.0, False, ""
    try:
        for step in remove_keys(client, keyspace(alias), seconds=REMOVAL_SECONDS):
            removed, share, is_last = removed + step.removed, step.share, step.is_last
            if step.removed:
                on_progress(removed)
    except RedisError as error:
        stopped = explain_error(error)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    if is_last:
        return {"keys": removed}
    return {
        "keys": removed,
        "finished": False,
        "stopped": stopped or OUT_OF_TIME,
        "keys_before": max(removed, round(removed / share)) if share and removed else None,
    }


def _verify(raw: bytes | None, before: EpochRecord) -> None:
    """Check that no epoch of ``before`` is accepted; the record may be that of a later clear."""
    now = decode_record(raw)
    if now is None or not now.replaces(before):
        raise StoreUnavailable(Message(_("the store did not keep the new epoch")))
