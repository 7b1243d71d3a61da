"""Connections of the search cache, used in the caller's thread with little overhead.

Another thread opens each connection, since a host name lookup has no time-out. Only a connection
that turns out to be closed is tried again, which costs no wait.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.stores.client import CommandPacker
from analytics_admin.stores.connections import Routed, is_elsewhere

MAX_IDLE_CONNECTIONS = 64
"""Connections kept for later use."""
MAX_IDLE_SECONDS = 60.0
"""A connection that was idle for longer is closed: those on the way to the server forget it."""
DOUBTFUL_IDLE_SECONDS = 10.0
"""Silence over a connection that was idle for longer is no proof against the server."""
LARGE_BYTES = 65_536
"""Replies that together are larger take time for their transfer."""
_PACKER = CommandPacker()
OnOpen = Callable[[Callable[[Sequence[Sequence[Any]]], list[Any]], bool], None]


class ConnectionPool:
    """Idle connections to one server.

    ``run_bounded`` runs a function that may hang within the caller's time limit. ``reply_timeout``
    returns the seconds that a reply may take, or None for the client's own time-out. ``on_open``
    gets each new connection, as a function that exchanges commands for replies, and whether the
    pool is new or has lost a connection. ``on_bytes`` gets the size of large replies.
    ``run_later`` runs a function that nobody waits for.

    ``silence`` is the longest that the next byte of an answer may take over a connection that is
    open already. Large requests are on their way for longer, and have the client's own time-out.
    """

    def __init__(
        self,
        client: Any,
        *,
        run_bounded: Callable[[Callable[[], Any]], Any],
        reply_timeout: Callable[[], float | None],
        on_open: OnOpen | None = None,
        on_bytes: Callable[[int], None] = lambda number: None,
        run_later: Callable[[Callable[[], object]], object] | None = None,
        silence: float | None = None,
    ) -> None:
        self._pool = client.connection_pool
        self._run_bounded = run_bounded
        self._reply_timeout = reply_timeout
        self._on_open = on_open
        self._on_bytes = on_bytes
        # Only a connection with a route leads elsewhere one day.
        is_routed = issubclass(self._pool.connection_class, Routed)
        self._run_later = run_later if is_routed else None
        self._timeout: float = self._pool.connection_kwargs.get("socket_timeout") or math.inf
        self._silence = self._timeout if silence is None else min(silence, self._timeout)
        self._is_return = True
        self._idle: deque[tuple[Any, float]] = deque()
        """Connections, and when each was used last."""
        self._closed = False

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        return self.call_all([command])[0]

    def gives_up_after(self, size: int) -> float:
        """Return the seconds after which a request of so many bytes, sent now, is given up."""
        usual = self._timeout if size > LARGE_BYTES else self._silence
        timeout = self._reply_timeout()
        return usual if timeout is None else min(usual, timeout)

    def call_all(
        self, commands: Sequence[Sequence[Any]], *, keep_refusals: bool = False
    ) -> list[Any]:
        """Send commands in one round trip and return their replies.

        The error of a refused one is raised, or with ``keep_refusals`` is its reply.
        """
        replies = self.call_packed(pack(commands), len(commands))
        if not keep_refusals:
            for reply in replies:
                if isinstance(reply, ResponseError):
                    raise reply
        return replies

    def call_packed(self, packed: bytes, number: int) -> list[Any]:
        """Send commands that are packed already; return their replies, also errors."""
        connection, idle_for = self._take_idle()
        if connection is None:
            connection, is_new = self._run_bounded(self._take_or_open)
            if is_new:
                return self._exchange(connection, packed, number)
        elif self._run_later is not None and connection.claim_look():
            self._run_later(connection.look)
        try:
            return self._exchange(connection, packed, number)
        except StoreConnectionError:  # the server closed it while it was idle, and others with it
            self._drop_idle()
        except StoreTimeout:
            if idle_for < DOUBTFUL_IDLE_SECONDS:
                raise
            self._drop_idle()
        return self._exchange(self._run_bounded(self._open), packed, number)

    def _take_idle(self) -> tuple[Any, float]:
        """Return a connection, if there is one, and for how long it was idle.

        A firewall or load balancer may have forgotten one that was idle for long; what is sent over
        it is never answered.
        """
        now = time.monotonic()
        while self._idle:
            try:
                connection, used_at = self._idle.pop()
            except IndexError:
                break
            if now - used_at < MAX_IDLE_SECONDS:
                return connection, now - used_at
            connection.disconnect()
        return None, 0.0

    def close(self) -> None:
        """Close the idle connections now, and those in use after their reply."""
        self._closed = True
        self._drop_idle()

    def _take_or_open(self) -> tuple[Any, bool]:
        """Return a connection that was given back meanwhile, else a new one; and whether it is new.

        Many callers at once queue for new ones: most of them need none when their turn comes.
        """
        connection, _ = self._take_idle()
        return (self._open(), True) if connection is None else (connection, False)

    def _open(self) -> Any:
        # make_connection() would count each new connection and never a closed one.
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()
        if self._on_open is not None:
            try:
                self._on_open(partial(_talk, connection), self._is_return)
            except BaseException:
                connection.disconnect()
                raise
            self._is_return = False
        if self._silence < self._timeout:
            connection.update_current_socket_timeout(self._silence)
        return connection

    def _exchange(
        self, connection: Any, packed: bytes, number: int, *, is_last: bool = False
    ) -> list[Any]:
        is_large = len(packed) > LARGE_BYTES and self._silence < self._timeout
        limit, options = self._reply_timeout(), {}
        if limit is not None:
            options = {"timeout": min(limit, self._timeout if is_large else self._silence)}
        replies: list[Any] = []
        is_elsewhere_now = False
        try:
            if is_large:
                connection.update_current_socket_timeout(self._timeout)
            connection.send_packed_command((packed,), check_health=False)
            for _ in range(number):
                try:
                    replies.append(connection.read_response(**options))
                except ResponseError as error:
                    replies.append(error)
                    is_elsewhere_now = is_elsewhere_now or is_elsewhere(error)
        except BaseException:
            connection.disconnect()
            self._is_return = True
            raise
        if is_elsewhere_now:  # another server has, or will have, what was asked for
            connection.disconnect()
            self._is_return = True
            self._drop_idle()
            if is_last or not isinstance(connection, Routed):
                return replies
            return self._exchange(self._run_bounded(self._open), packed, number, is_last=True)
        size = sum([len(reply) for reply in replies if type(reply) is bytes])
        if size > LARGE_BYTES:
            self._on_bytes(size)
        if is_large:
            connection.update_current_socket_timeout(self._silence)
        self._give_back(connection)
        return replies

    def _give_back(self, connection: Any) -> None:
        if len(self._idle) < MAX_IDLE_CONNECTIONS and not self._closed:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.disconnect()

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop()[0].disconnect()
            except IndexError:
                return


def pack(commands: Sequence[Sequence[Any]]) -> bytes:
    """Return the commands as they are sent, in one piece."""
    return b"".join([part for command in commands for part in _PACKER.pack(*command)])


def _talk(connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send commands and return their replies, an error for each that is refused."""
    for command in commands:
        connection.send_command(*command, check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
