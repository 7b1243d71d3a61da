"""A connection on which the server says which of the keys that were read over it have changed."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from analytics_admin.caching.entries import MAX_HEAD_BYTES
from analytics_admin.caching.stores.base import (
    MAX_EPOCH_BYTES,
    MAX_RECORD_BYTES,
    EntryKeys,
    Reading,
)
from analytics_admin.stores.client import translate_errors
from analytics_admin.stores.connections import Routed
from analytics_admin.stores.pool import pack

OnChange = Callable[[Iterable[str] | None], None]


class RedisTrackingLink:
    """The TrackingLink protocol: answers and invalidations come in one order (RESP3)."""

    def __init__(self, client: Any, on_change: OnChange, *, max_value_bytes: int) -> None:
        pool = client.connection_pool
        self._connection = pool.connection_class(**pool.connection_kwargs | {"protocol": 3})
        self._pushes: deque[Any] = deque()
        # Without a handler the driver returns None for an invalidation, as if it were a reply.
        self._connection._parser.set_invalidation_push_handler(self._pushes.append)
        self._on_change = on_change
        self._max_entry_bytes = max_value_bytes + MAX_HEAD_BYTES
        self._open()

    @translate_errors
    def read(self, entries: list[EntryKeys]) -> tuple[float, list[Reading]]:
        commands: list[tuple[Any, ...]] = []
        for keys in entries:
            commands.append(("GETRANGE", keys.record, 0, MAX_RECORD_BYTES))
            commands.append(("GETRANGE", keys.entry, 0, self._max_entry_bytes))
            commands += [("GETRANGE", tag, 0, MAX_EPOCH_BYTES) for tag in keys.tags]
        commands.append(("TIME",))  # last: what has changed before is told before its answer
        connection = self._connection
        if isinstance(connection, Routed) and connection.claim_look():
            # Nobody else may: a process whose calls are all near hits sends nothing elsewhere. An
            # old primary proves what it holds, but does not hear of clears on the new one.
            connection.look()
        sent_at = time.monotonic()
        self._connection.send_packed_command((pack(commands),), check_health=False)
        replies = [self._reply() for _ in commands]
        seconds, micros = replies.pop()
        now = int(seconds) + int(micros) / 1_000_000
        readings, place = [], iter(replies)
        for keys in entries:
            record, entry = next(place), next(place)
            readings.append(Reading(now, record, [next(place) for _ in keys.tags], entry))
        return sent_at, readings

    def close(self) -> None:
        with suppress(RedisError, OSError):
            self._connection.disconnect()

    @translate_errors
    def _open(self) -> None:
        self._connection.connect()
        self._connection.send_command("CLIENT", "TRACKING", "ON", check_health=False)
        reply = self._reply(keep=True)
        if isinstance(reply, ResponseError):
            self._connection.disconnect()
            raise reply

    def _reply(self, *, keep: bool = False) -> Any:
        """Return the next reply, None for a key of another type; tell of the changes before it."""
        while True:
            try:
                reply = self._connection.read_response(push_request=True)
            except ResponseError as error:
                if not keep and not str(error).startswith("WRONGTYPE"):
                    raise
                reply = error
            while self._pushes:
                _, names = self._pushes.popleft()
                self._on_change(None if names is None else [name.decode() for name in names])
            if isinstance(reply, ResponseError):
                return reply if keep else None
            if reply is not None:  # it was a push: no command here is answered with nil
                return reply or None
