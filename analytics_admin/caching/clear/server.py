"""The server that a clear reaches: what its epoch record says, and which copies have the clear."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from analytics_admin.caching.clear.outcome import TIMEOUT
from analytics_admin.caching.epochs import EpochRecord, decode_record, ensure_record, record_key
from analytics_admin.conf import app_settings
from analytics_admin.stores import copies
from analytics_admin.stores.client import (
    StoreUnavailable,
    is_local_memory,
    load_script,
    operation_client,
    read_string,
)
from analytics_admin.stores.copies import Copies
from analytics_admin.stores.identity import COMMANDS, identity_of

MAX_ATTEMPTS = 10

_REPLACE = load_script("analytics_admin.caching.stores", "replace_record")


class Server(NamedTuple):
    """What an operation knows of the server that its client has reached."""

    identity: str
    """"" if the store's user may not ask for it."""
    record: EpochRecord
    """The epoch record, which was created if it was missing."""
    others: Sequence[Any] = ()
    """What the other keys hold that were asked for."""


def ask_server(client: Any, key: str, *others: str) -> Server:
    """Return the server that the client has reached, its epoch record, and what other keys hold.

    Raises:
        RedisError
    """
    pipeline = client.pipeline(transaction=False)
    for command in COMMANDS:
        pipeline.execute_command(*command)
    pipeline.get(key)
    if others:
        pipeline.mget(others)
    replies = pipeline.execute(raise_on_error=False)
    identity, raw = identity_of(replies[:2]), replies[2]
    if others and isinstance(replies[3], RedisError):
        raise replies[3]
    record = decode_record(raw) if isinstance(raw, bytes) else None
    if record is None:  # missing, damaged, or refused: then this is refused, too
        record = ensure_record(client, key, server=identity)
    return Server(identity, record, replies[3] if others else ())


def keep_receipt(client: Any, key: str, receipt: str, *, server: str) -> None:
    """Write the receipt, if there is one, into the epoch record: the clear's only trace there.

    ``server`` is the identity of the server that the client has reached.

    The clear is done by then: a store that fails is another matter.
    """
    if not receipt:
        return
    try:
        for _ in range(MAX_ATTEMPTS):
            raw = read_string(client, key)
            record = decode_record(raw)
            if record is None:
                return
            after = record.with_receipts(receipt, server=server).encode()
            if client.eval(_REPLACE, 1, key, raw, after):
                return
    except RedisError:
        pass


def await_copies() -> Copies | None:
    """Wait a moment until all copies have what the store of the search cache holds now.

    Raises nothing. None: the cache is in this process' memory.
    """
    alias = app_settings().search_cache
    if is_local_memory(alias):
        return None
    key = record_key(alias)
    try:
        with operation_client(alias, timeout=TIMEOUT) as client:

            def touch() -> Sequence[Any] | None:
                raw = read_string(client, key)
                return None if raw is None else ("EVAL", _REPLACE, 1, key, raw, raw)

            return copies.await_copies(client, touch)
    except StoreUnavailable:
        return copies.UNKNOWN
