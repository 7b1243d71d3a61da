"""Connections of the search cache's own, used in the caller's thread with no more than they need.

A connection is opened by another thread, for looking up a name has no time-out. Nothing is retried
but on a connection that was found closed, which costs no wait.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

MAX_IDLE_CONNECTIONS = 64
"""Connections kept for later: as many as threads were seen to call at once, up to this."""


class ConnectionPool:
    """Idle connections to one server.

    ``bounded`` runs a function within the caller's patience; ``patience`` tells how many seconds
    that is for a reply if less than usual.
    """

    def __init__(
        self,
        client: Any,
        *,
        bounded: Callable[[Callable[[], Any]], Any],
        patience: Callable[[], float | None],
    ) -> None:
        self._pool = client.connection_pool
        self._bounded = bounded
        self._latency = patience
        self._idle: deque[Any] = deque()
        self._closed = False

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        return self.call_all([command])[0]

    def call_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._exchange(self._bounded(self._open), commands)
        try:
            return self._exchange(connection, commands)
        except StoreConnectionError:  # the server closed it while it lay idle, and others with it
            self._drop_idle()
        return self._exchange(self._bounded(self._open), commands)

    def close(self) -> None:
        """Close the idle connections now and those in use afterwards."""
        self._closed = True
        self._drop_idle()

    def _open(self) -> Any:
        # Not by make_connection(): the pool counts what it made, and never those that are closed.
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()
        return connection

    def _exchange(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        limit = self._latency()
        how = {} if limit is None else {"timeout": limit}
        refusal: ResponseError | None = None
        replies: list[Any] = []
        try:
            packed = connection.pack_command(*commands[0])
            for command in commands[1:]:
                packed = [*packed, *connection.pack_command(*command)]
            connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                try:
                    replies.append(connection.read_response(**how))
                except ResponseError as error:
                    refusal = error
        except BaseException:
            connection.disconnect()
            raise
        if len(self._idle) < MAX_IDLE_CONNECTIONS and not self._closed:
            self._idle.append(connection)
        else:
            connection.disconnect()
        if refusal is not None:
            raise refusal
        return replies

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return
