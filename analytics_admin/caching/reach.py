"""How an operator's act speaks to the search cache's store: in what time, and in which words.

Uses none of the cache's own connections and leniency. Knows nothing of what the acts do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.entries import TokenRecord, read_record, record_key
from analytics_admin.connections import OutcomeUnknown, StoreUnavailable, act_client, explain

TIMEOUT = 0.5
"""Seconds an act waits for connecting and for each reply."""
SETTLE_TIMEOUT = 1.0
"""Seconds an act whose reply was lost waits to learn what became of it."""


@contextmanager
def failures_explained() -> Iterator[None]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable(explain(error)) from None


@contextmanager
def settled(alias: str, is_done: Callable[[TokenRecord], bool], *, act: str) -> Iterator[None]:
    """If the reply to the block's commands is lost, read the record to learn what became of them.

    Raises:
        OutcomeUnknown: they may have been carried out, or may yet be.
    """
    try:
        yield
    except (StoreTimeout, StoreConnectionError):
        with suppress(RedisError), act_client(alias, timeout=SETTLE_TIMEOUT) as afresh:
            now = read_record(afresh, record_key(alias))
            if now is not None and is_done(now):
                return
        raise OutcomeUnknown(f"the store fell silent in the middle of the {act}") from None
