"""What operators' clears share: time-outs, error messages, and how a lost reply is resolved.

Operators' clears use connections of their own, never the cache's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.epochs import EpochRecord, read_record, record_key
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    OutcomeUnknown,
    StoreUnavailable,
    explain_error,
    operation_client,
)

TIMEOUT = 0.5
"""Seconds that an operation waits for connecting and for each reply."""
CONFIRM_TIMEOUT = 1.0
"""Seconds that an operation whose reply was lost waits to learn its outcome."""

Progress = Callable[[int], None]
"""Called during an operation with the number of keys done so far."""

NO_REPLY_TO_CLEAR = Message(_("the store did not answer during the clear"))
NO_REPLY_TO_SOFT_CLEAR = Message(_("the store did not answer during the soft clear"))
NO_REPLY_TO_UNDO = Message(_("the store did not answer during the undo"))


def interrupted(error: RedisError, removed: int) -> StoreUnavailable:
    """Return the exception for a store that fails after so many keys were removed."""
    message = _("%(reason)s; keys removed before that: %(number)d")
    return StoreUnavailable(Message(message, reason=explain_error(error), number=removed))


@contextmanager
def confirm_outcome(
    alias: str, is_done: Callable[[EpochRecord], bool], *, no_reply: str
) -> Iterator[None]:
    """If the reply to the block's commands is lost, read the epoch record to learn the outcome.

    ``no_reply`` is the reason to give if the outcome stays unknown.

    Raises:
        OutcomeUnknown: the commands were carried out, or will be, or not.
    """
    try:
        yield
    except (StoreTimeout, StoreConnectionError):
        with suppress(StoreUnavailable), operation_client(alias, timeout=CONFIRM_TIMEOUT) as client:
            record = read_record(client, record_key(alias))
            if record is not None and is_done(record):
                return
        raise OutcomeUnknown(no_reply) from None
