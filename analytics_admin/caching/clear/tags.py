"""Clearing by tags and by functions: one step, however many values carry them.

A clear deletes the epochs of the tags. Values stored under them count no more; the next value
stored creates new ones.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.clear.outcome import (
    CONFIRM_TIMEOUT,
    NO_REPLY_TO_CLEAR,
    NO_REPLY_TO_SOFT_CLEAR,
    NO_REPLY_TO_UNDO,
    TIMEOUT,
)
from analytics_admin.caching.clear.rehearsal import rehearse
from analytics_admin.caching.clear.server import ask_server, keep_receipt
from analytics_admin.caching.epochs import LAYOUT, new_epoch, record_key
from analytics_admin.caching.keys import MAX_TAG_CHARS, name_function, name_tags
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    OutcomeUnknown,
    StoreUnavailable,
    is_local_memory,
    load_script,
    operation_client,
)

MAX_TAGS_PER_CLEAR = 100

_SOFT = load_script("analytics_admin.caching.stores", "soft_tags")
_UNDO = load_script("analytics_admin.caching.stores", "undo_tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagClearPreview:
    """What a clear by tags would do."""

    alias: str
    tags: int
    """Tags and functions."""
    in_use: int
    """How many of the tags may be in use; the others are new to the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagClearOutcome:
    """What a clear by tags did."""

    alias: str
    tags: int
    """Tags and functions."""
    in_use: int
    """How many of the tags may have been in use; the others are new to the cache."""


def check_tags(tags: Sequence[str]) -> list[str]:
    """Return the tags, sorted, without duplicates.

    Raises:
        TypeError, ValueError: no tags, too many, or an invalid one.
    """
    if isinstance(tags, str | bytes):
        raise TypeError(f"tags must be a list of strings, as in [{tags!r}], not one string")
    tags = list(tags)
    for tag in tags:
        name_tags([tag])
    distinct = sorted(set(tags))
    if not 0 < len(distinct) <= MAX_TAGS_PER_CLEAR:
        message = _("name 1 to %(most)s tags, not %(number)s")
        raise ValueError(Message(message, most=MAX_TAGS_PER_CLEAR, number=len(distinct)))
    return distinct


def check_functions(functions: Sequence[str]) -> list[str]:
    """Return the names of functions, sorted, without duplicates.

    Raises:
        TypeError, ValueError: no names, too many, or an invalid one.
    """
    if isinstance(functions, str | bytes):
        raise TypeError(f"functions must be a list, as in [{functions!r}], not one string")
    for name in functions:
        if not isinstance(name, str):
            raise TypeError(f"a function is named by a string, not {type(name).__name__}")
    distinct = sorted(set(functions))
    if not 0 < len(distinct) <= MAX_TAGS_PER_CLEAR or not all(
        0 < len(name) <= MAX_TAG_CHARS for name in distinct
    ):
        message = _("name 1 to %(most)s functions, each with 1 to %(chars)s characters")
        raise ValueError(Message(message, most=MAX_TAGS_PER_CLEAR, chars=MAX_TAG_CHARS))
    return distinct


def preview(tags: Sequence[str], functions: Sequence[str] = ()) -> TagClearPreview:
    """Return what ``clear_tags`` would do; change nothing.

    Raises:
        StoreUnavailable: the store does not answer, or would refuse.
    """
    alias = app_settings().search_cache
    names = _names(tags, functions)
    if is_local_memory(alias):
        in_use = memory.count_names(alias, names)
    else:
        keys = _keys(alias, names)
        with operation_client(alias, timeout=TIMEOUT) as client:
            rehearse(client, ("MGET", *keys), ("DEL", *keys))
            in_use = client.exists(*keys)
    return TagClearPreview(alias=alias, tags=len(names), in_use=in_use)


def clear_tags(
    tags: Sequence[str], functions: Sequence[str] = (), *, receipt: str = ""
) -> TagClearOutcome:
    """Clear every value that carries one of the tags, or is a result of one of the functions.

    The store keeps the ``receipt``, by which the loss of this clear is found out later.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store did not answer during the clear.
    """
    alias = app_settings().search_cache
    names = _names(tags, functions)
    if is_local_memory(alias):
        in_use = memory.delete_names(alias, names)
    else:
        keys = _keys(alias, names)
        with operation_client(alias, timeout=TIMEOUT) as client:
            server = ask_server(client, record_key(alias), *keys)
            in_use = _delete(client, alias, keys, server.others)
            keep_receipt(client, record_key(alias), receipt, server=server.identity)
    return TagClearOutcome(alias=alias, tags=len(names), in_use=in_use)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTagClearOutcome:
    """What a soft clear by tags did."""

    alias: str
    tags: int
    """Tags and functions."""
    in_use: int
    """How many of them were in use."""
    stale_for: float
    """Seconds for which the cleared values may still be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagUndoOutcome:
    """What an undo by tags did, or would do."""

    alias: str
    tags: int
    undone: int
    """How many of them had a soft clear that can be taken back."""


def clear_tags_softly(
    tags: Sequence[str], functions: Sequence[str] = (), *, receipt: str = ""
) -> SoftTagClearOutcome:
    """Make every value stale that carries one of the tags, for SEARCH_CACHE_SOFT_CLEAR_GRACE.

    Of a tag that was cleared softly before, within that time, the older values count no more.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store did not answer during the clear.
    """
    site = app_settings()
    alias, seconds = site.search_cache, float(site.search_cache_soft_clear_grace)
    names = _names(tags, functions)
    if is_local_memory(alias):
        in_use = memory.clear_names_softly(alias, names, seconds=seconds)
    else:
        keys = _keys(alias, names)
        with operation_client(alias, timeout=TIMEOUT) as client:
            server = ask_server(client, record_key(alias), *keys)
            epochs = [new_epoch() for _ in keys]
            milliseconds = max(1, round(seconds * 1000))
            script = (_SOFT, len(keys), *keys, milliseconds, *epochs)
            in_use = _change(client, alias, keys, server.others, script, NO_REPLY_TO_SOFT_CLEAR)
            keep_receipt(client, record_key(alias), receipt, server=server.identity)
    return SoftTagClearOutcome(alias=alias, tags=len(names), in_use=in_use, stale_for=seconds)


def find_undoable(tags: Sequence[str], functions: Sequence[str] = ()) -> TagUndoOutcome:
    """Return what ``undo_tags`` would do; change nothing.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias, names = app_settings().search_cache, _names(tags, functions)
    if is_local_memory(alias):
        undone = memory.restore_names(alias, names, only_count=True)
    else:
        keys = _keys(alias, names)
        with operation_client(alias, timeout=TIMEOUT) as client:
            rehearse(client, ("SET", keys[0], ""))
            undone = client.eval(_UNDO, len(keys), *keys, 0)
    return TagUndoOutcome(alias=alias, tags=len(names), undone=undone)


def undo_tags(tags: Sequence[str], functions: Sequence[str] = ()) -> TagUndoOutcome:
    """Make the values from before the last soft clear of each tag fresh again.

    Those stored since count no more.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was undone.
        OutcomeUnknown: the store did not answer during the undo.
    """
    alias, names = app_settings().search_cache, _names(tags, functions)
    if is_local_memory(alias):
        undone = memory.restore_names(alias, names)
    else:
        keys = _keys(alias, names)
        with operation_client(alias, timeout=TIMEOUT) as client:
            before = _epochs(client, keys)
            script = (_UNDO, len(keys), *keys, 1)
            undone = _change(client, alias, keys, before, script, NO_REPLY_TO_UNDO)
    return TagUndoOutcome(alias=alias, tags=len(names), undone=undone)


def _change(
    client: Any,
    alias: str,
    keys: list[str],
    before: Sequence[bytes | None],
    script: tuple[Any, ...],
    no_reply: Message,
) -> int:
    """Run a script that changes the tags; if its reply is lost, read them to learn the outcome."""
    try:
        return int(client.eval(*script))
    except (StoreTimeout, StoreConnectionError):
        with suppress(StoreUnavailable), operation_client(alias, timeout=CONFIRM_TIMEOUT) as retry:
            after = _epochs(retry, keys)
            if _all_changed(before, after):
                return sum(old != new for old, new in zip(before, after, strict=True))
        raise OutcomeUnknown(no_reply) from None


def _delete(client: Any, alias: str, keys: list[str], before: Sequence[bytes | None]) -> int:
    try:
        pipeline = client.pipeline(transaction=False)
        pipeline.delete(*keys)  # one command: all of them or none
        removed: int
        removed, after = pipeline.mget(keys).execute()
    except (StoreTimeout, StoreConnectionError):
        with suppress(StoreUnavailable), operation_client(alias, timeout=CONFIRM_TIMEOUT) as retry:
            if _all_changed(before, _epochs(retry, keys)):
                return sum(epoch is not None for epoch in before)
        raise OutcomeUnknown(NO_REPLY_TO_CLEAR) from None
    if not _all_changed(before, after):
        raise StoreUnavailable(Message(_("the store did not remove the tags")))
    return removed


def _epochs(client: Any, keys: list[str]) -> list[bytes | None]:
    epochs: list[bytes | None] = client.mget(keys)
    return epochs


def _all_changed(before: Sequence[bytes | None], after: Sequence[bytes | None]) -> bool:
    """Say whether no tag still has its old epoch; values stored since have created new ones."""
    return all(old is None or old != new for old, new in zip(before, after, strict=True))


def _names(tags: Sequence[str], functions: Sequence[str]) -> list[str]:
    named = [name_tags([tag])[0] for tag in tags] + list(map(name_function, functions))
    return [f"{LAYOUT}:tag:{name}" for name in named]


def _keys(alias: str, names: list[str]) -> list[str]:
    return [caches[alias].make_key(name) for name in names]
