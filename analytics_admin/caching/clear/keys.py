"""Clearing by key: single values, in one step."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.clear.outcome import CONFIRM_TIMEOUT, NO_REPLY_TO_CLEAR, TIMEOUT
from analytics_admin.caching.clear.rehearsal import rehearse
from analytics_admin.caching.clear.server import ask_server, keep_receipt
from analytics_admin.caching.epochs import LAYOUT, record_key
from analytics_admin.caching.keys import name_key
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    OutcomeUnknown,
    StoreUnavailable,
    is_local_memory,
    operation_client,
)

MAX_KEYS_PER_CLEAR = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyClearPreview:
    """What a clear by keys would do."""

    alias: str
    named: int
    """The keys that were named."""
    found: int
    """How many of them have a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyClearOutcome:
    """What a clear by keys did."""

    alias: str
    named: int
    found: int


def check_keys(keys: Sequence[Any]) -> list[str]:
    """Return the names of the keys, sorted, without duplicates.

    Raises:
        TypeError, ValueError: no keys, too many, or an invalid one.
    """
    if isinstance(keys, str | bytes | dict):
        raise TypeError(f"keys must be a list of keys, not a {type(keys).__name__}")
    names = sorted({name_key(key) for key in keys})
    if not 0 < len(names) <= MAX_KEYS_PER_CLEAR:
        message = _("name 1 to %(most)s keys, not %(number)s")
        raise ValueError(Message(message, most=MAX_KEYS_PER_CLEAR, number=len(names)))
    return names


def preview(names: Sequence[str]) -> KeyClearPreview:
    """Return what ``clear_keys`` would do; change nothing.

    Raises:
        StoreUnavailable: the store does not answer, or would refuse.
    """
    alias = app_settings().search_cache
    values = _values(names)
    if is_local_memory(alias):
        found = memory.count_names(alias, values)
    else:
        keys = _full(alias, values)
        with operation_client(alias, timeout=TIMEOUT) as client:
            rehearse(client, ("DEL", *keys))
            found = client.exists(*keys)
    return KeyClearPreview(alias=alias, named=len(names), found=found)


def clear_keys(names: Sequence[str], *, receipt: str = "") -> KeyClearOutcome:
    """Remove the values of these keys; computations under way will not store them.

    The store keeps the ``receipt``, by which the loss of this clear is found out later.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store did not answer during the clear.
    """
    alias = app_settings().search_cache
    values = _values(names)
    leases = [f"{LAYOUT}:lease:{name}" for name in names]
    if is_local_memory(alias):
        memory.delete_names(alias, leases)  # first: nothing is filled without its lease
        found = memory.delete_names(alias, values)
        return KeyClearOutcome(alias=alias, named=len(names), found=found)
    with operation_client(alias, timeout=TIMEOUT) as client:
        server = ask_server(client, record_key(alias))
        found = _delete(client, alias, _full(alias, values), _full(alias, leases))
        keep_receipt(client, record_key(alias), receipt, server=server.identity)
    return KeyClearOutcome(alias=alias, named=len(names), found=found)


def _delete(client: Any, alias: str, values: list[str], leases: list[str]) -> int:
    """Remove all of them in one step; return how many values there were."""
    try:
        transaction = client.pipeline(transaction=True)
        transaction.exists(*values).delete(*values, *leases)
        found, _removed = transaction.execute()
    except (StoreTimeout, StoreConnectionError):
        # Whether a value was stored since cannot be told: only that there is none settles it.
        with suppress(StoreUnavailable), operation_client(alias, timeout=CONFIRM_TIMEOUT) as retry:
            if not retry.exists(*values, *leases):
                return 0
        raise OutcomeUnknown(NO_REPLY_TO_CLEAR) from None
    return int(found)


def _values(names: Sequence[str]) -> list[str]:
    return [f"{LAYOUT}:value:{name}" for name in names]


def _full(alias: str, names: Sequence[str]) -> list[str]:
    return [caches[alias].make_key(name) for name in names]
