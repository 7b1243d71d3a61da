"""Clear the results of some tags, in one step however many values carry them.

A tag's token goes; what was stored under it counts no more, and the next value draws a new one.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.clear.outcome import (
    CONFIRM_TIMEOUT,
    NO_REPLY_TO_CLEAR,
    TIMEOUT,
    translate_redis_errors,
)
from analytics_admin.caching.keys import name_tags
from analytics_admin.caching.stores import local_memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    OutcomeUnknown,
    StoreUnavailable,
    is_local_memory,
    operation_client,
)

MAX_TAGS_PER_CLEAR = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TagClearOutcome:
    """What a clear by tags did, or would do."""

    alias: str
    tags: int
    in_use: int
    """How many of the tags results may have carried; the others are new to the cache."""


def check_tags(tags: Sequence[str]) -> list[str]:
    """Return the tags, sorted, each once.

    Raises:
        TypeError, ValueError: they are none, too many, or no tags.
    """
    if isinstance(tags, str | bytes):
        raise TypeError(f"tags must be several texts, as in [{tags!r}], not one")
    found = list(tags)
    for tag in found:
        name_tags([tag])
    if not 0 < len(set(found)) <= MAX_TAGS_PER_CLEAR:
        words = _("name 1 to %(most)s tags, not %(number)s")
        raise ValueError(Message(words, most=MAX_TAGS_PER_CLEAR, number=len(set(found))))
    return sorted(set(found))


def preview(tags: Sequence[str]) -> TagClearOutcome:
    """Say what ``clear_tags`` would do; changes nothing.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias = app_settings().search_cache
    names = _names(tags)
    if is_local_memory(alias):
        in_use = local_memory.count_names(alias, names)
    else:
        with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
            in_use = client.exists(*_keys(alias, names))
    return TagClearOutcome(alias=alias, tags=len(names), in_use=in_use)


def clear_tags(tags: Sequence[str]) -> TagClearOutcome:
    """Have every value with one of the tags count no more.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store fell silent in the act.
    """
    alias = app_settings().search_cache
    names = _names(tags)
    if is_local_memory(alias):
        in_use = local_memory.delete_names(alias, names)
    else:
        keys = _keys(alias, names)
        with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
            in_use = _delete(client, alias, keys)
    return TagClearOutcome(alias=alias, tags=len(names), in_use=in_use)


def _delete(client: Any, alias: str, keys: list[str]) -> int:
    before = _tokens(client, keys)
    try:
        removed: int = client.delete(*keys)  # one command, so all of them or none
        after = _tokens(client, keys)
    except (StoreTimeout, StoreConnectionError):
        with suppress(RedisError), operation_client(alias, timeout=CONFIRM_TIMEOUT) as afresh:
            if _are_gone(before, _tokens(afresh, keys)):
                return sum(token is not None for token in before)
        raise OutcomeUnknown(NO_REPLY_TO_CLEAR) from None
    if not _are_gone(before, after):
        raise StoreUnavailable(Message(_("the store did not let go of the tags")))
    return removed


def _tokens(client: Any, keys: list[str]) -> list[bytes | None]:
    tokens: list[bytes | None] = client.mget(keys)
    return tokens


def _are_gone(before: list[bytes | None], after: list[bytes | None]) -> bool:
    """Say whether no tag has the token that it had; values stored since have drawn others."""
    return all(old is None or old != new for old, new in zip(before, after, strict=True))


def _names(tags: Sequence[str]) -> list[str]:
    return [f"tag:{name_tags([tag])[0]}" for tag in tags]


def _keys(alias: str, names: list[str]) -> list[str]:
    return [caches[alias].make_key(name) for name in names]
