"""How an operator's act speaks to the search cache's store: in what time, and in which words.

Uses none of the cache's own connections and leniency. Knows nothing of what the acts do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.entries import EpochRecord, read_record, record_key
from analytics_admin.i18n import Message, ngettext_lazy
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    OutcomeUnknown,
    StoreUnavailable,
    explain_error,
    operation_client,
)

TIMEOUT = 0.5
"""Seconds an act waits for connecting and for each reply."""
CONFIRM_TIMEOUT = 1.0
"""Seconds an act whose reply was lost waits to learn what became of it."""


NO_REPLY_TO_CLEAR = Message(_("the store fell silent in the middle of the clear"))
NO_REPLY_TO_SOFT_CLEAR = Message(_("the store fell silent in the middle of the soft clear"))
NO_REPLY_TO_UNDO = Message(_("the store fell silent in the middle of the undo"))


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable(explain_error(error)) from None


def interrupted(error: RedisError, removed: int) -> StoreUnavailable:
    """Return what is raised when the store fails after so many keys were removed."""
    words = ngettext_lazy(
        "%(reason)s; %(number)d keys were removed before that",
        "%(reason)s; %(number)d keys were removed before that",
        "number",
    )
    return StoreUnavailable(Message(words, reason=explain_error(error), number=removed))


@contextmanager
def confirm_outcome(
    alias: str, is_done: Callable[[EpochRecord], bool], *, silent: str
) -> Iterator[None]:
    """If the reply to the block's commands is lost, read the record to learn what became of them.

    ``silent`` is what is said where that stays unknown.

    Raises:
        OutcomeUnknown: they may have been carried out, or may yet be.
    """
    try:
        yield
    except (StoreTimeout, StoreConnectionError):
        with suppress(RedisError), operation_client(alias, timeout=CONFIRM_TIMEOUT) as afresh:
            now = read_record(afresh, record_key(alias))
            if now is not None and is_done(now):
                return
        raise OutcomeUnknown(silent) from None
