"""The server that a clear has reached, and how many of its replicas have heard of the clear."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from analytics_admin.caching.epochs import EpochRecord, decode_record, ensure_record
from analytics_admin.stores.client import load_script, read_string
from analytics_admin.stores.identity import COMMANDS, identity_of, replicas_of

WAIT_SECONDS = 0.3
"""How long a clear waits for its replicas: less than the time-out for a reply."""
MAX_ATTEMPTS = 10

_REPLACE = load_script("analytics_admin.caching.stores", "replace_record")


class Server(NamedTuple):
    """What an operation knows of the server that its client has reached."""

    identity: str
    """"" if the store's user may not ask for it."""
    replicas: int | None
    """None: unknown."""
    record: EpochRecord
    """The epoch record, which was created if it was missing."""
    others: Sequence[Any] = ()
    """What the other keys hold that were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far a clear has come."""

    replicas: int | None = None
    """The replicas of the store; None: unknown."""
    replicas_behind: int = 0
    """Those that had not confirmed the clear in time. If one takes over now, the clear is lost."""


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
    return Server(identity, replicas_of(replies), record, replies[3] if others else ())


def spread(client: Any, key: str, server: Server, *, receipt: str | None = None) -> Spread:
    """Wait a moment until all replicas have what this store holds now.

    ``receipt`` is first written into the epoch record, without which a clear leaves no trace there.
    The clear is done by then: a store that fails leaves the answer unknown.
    """
    if receipt is None and not server.replicas:
        return Spread(replicas=server.replicas)
    try:
        for _ in range(MAX_ATTEMPTS):
            raw = read_string(client, key)
            record = decode_record(raw)
            if record is None:
                return Spread(replicas=server.replicas, replicas_behind=server.replicas or 0)
            after = raw if receipt is None else replace(record, receipt=receipt).encode()
            # WAIT is about the last write of its own connection: both go over one.
            pipeline = client.pipeline(transaction=False)
            pipeline.eval(_REPLACE, 1, key, raw, after)
            if server.replicas:
                pipeline.wait(server.replicas, round(WAIT_SECONDS * 1000))
            is_replaced, *confirmed = pipeline.execute()
            if is_replaced:
                behind = max(0, (server.replicas or 0) - sum(confirmed))
                return Spread(replicas=server.replicas, replicas_behind=behind)
    except RedisError:
        pass
    return Spread(replicas=None)
