"""The connections that the clients of this app use, made from those of an alias.

With a route a connection asks, whenever it connects, which server has the data now. It is closed
after its use once that server has said that it is not the one for a request.
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from redis.connection import Connection, SSLConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as StoreConnectionError

from analytics_admin.stores.tls import HandshakeTimeout, shared_context

ELSEWHERE = (ReadOnlyError, MasterDownError, AskError, TryAgainError, ClusterDownError)
"""What a server answers that is not the primary of the data, or not at present."""
_ELSEWHERE_IN_TEXT = ("READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING", "CLUSTERDOWN")
"""In the text of an error that a script met, or for which the driver has no class."""
_HEAD_CHARS = 200
LEFT = "another server has the data now"
_DROPPED = ("retry", "maint_notifications")


class Route(Protocol):
    """The way to the server that has the data of an alias, which may change."""

    checks_role: bool
    """Whether what it finds may turn out to be a replica."""

    def find(self, timeout: float | None) -> tuple[str, int]:
        """Return host and port of the server; raise a RedisError if nobody knows it."""

    def doubt(self, address: tuple[str, int], error: Exception | None = None) -> None:
        """Note that this server was not the right one, and what it answered."""

    def has_left(self, address: tuple[str, int], since: float) -> bool:
        """Return whether another server than this one has been named since (monotonic seconds)."""

    def claim_look(self) -> bool:
        """Return whether the caller is to ``look``, in a thread that may wait."""

    def look(self) -> None:
        """Ask once whether another server has the data now. Raises nothing."""


def is_elsewhere(error: BaseException) -> bool:
    """Return whether a server answers so that is not the one for the request, or not now."""
    if isinstance(error, ELSEWHERE):
        return True
    if not isinstance(error, ResponseError):
        return False
    text = str(error)[:_HEAD_CHARS]
    return any(code in text for code in _ELSEWHERE_IN_TEXT)


class _SharedTls:
    """Uses one TLS context with all connections of the same parameters: to make one is slow."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        connection: Any = self
        if connection.ssl_validate_ocsp or connection.ssl_validate_ocsp_stapled:
            parent: Any = super()
            return parent._wrap_socket_with_ssl(sock)
        context = shared_context(connection)
        try:
            return context.wrap_socket(sock, server_hostname=connection.host)
        except TimeoutError as error:
            raise HandshakeTimeout from error


class Routed:
    """Connects to wherever the route leads. Once that is elsewhere, it sends nothing more.

    The server may be well: an old primary takes requests until it is told that it is one.
    """

    def __init__(self, *, route: Route, **kwargs: Any) -> None:
        self._route = route
        self._found_at = 0.0
        super().__init__(**kwargs)

    def claim_look(self) -> bool:
        """Return whether the caller is to ``look``, in a thread that may wait."""
        return self._route.claim_look()

    def look(self) -> None:
        """Ask whether another server has the data now."""
        self._route.look()

    def look_and_leave(self) -> None:
        """Before a request: look if that is due, and connect to another server if need be."""
        if self.claim_look():
            self.look()
        if self._has_left():
            connection: Any = self
            connection.disconnect()

    def _has_left(self) -> bool:
        connection: Any = self
        address = connection.host, connection.port
        return connection.is_connected and self._route.has_left(address, self._found_at)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._has_left():
            connection: Any = self
            connection.disconnect()
            raise StoreConnectionError(LEFT)
        parent: Any = super()
        parent.send_packed_command(command, check_health=check_health)

    def _connect(self) -> Any:
        connection: Any = self
        parent: Any = super()
        self._found_at = time.monotonic()
        connection.host, connection.port = self._route.find(connection.socket_connect_timeout)
        try:
            return parent._connect()
        except OSError:
            self._route.doubt((connection.host, connection.port))
            raise

    def on_connect_check_health(self, check_health: bool = True) -> None:
        parent: Any = super()
        parent.on_connect_check_health(check_health)
        if self._route.checks_role:
            self._require_primary()

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        try:
            return parent.read_response(*args, **kwargs)
        except ResponseError as error:
            if is_elsewhere(error):
                self._leave(error)
            raise

    def _leave(self, error: ResponseError) -> None:
        """Close the connection after its use, and have the next one lead elsewhere."""
        connection: Any = self
        connection.mark_for_reconnect()
        self._route.doubt((connection.host, connection.port), error)

    def _require_primary(self) -> None:
        connection: Any = self
        connection.send_command("ROLE", check_health=False)
        try:
            role, *_rest = connection.read_response()
        except ResponseError as error:
            if is_elsewhere(error):
                raise
            return  # its user may not ask
        if role not in (b"master", "master"):
            demoted = ReadOnlyError("the server is a replica")
            self._leave(demoted)
            raise demoted


@cache
def own_class(original: type, *, is_routed: bool = False) -> type:
    """Return the class of an alias' connections, with what this app adds to it."""
    added: list[type] = []
    if is_routed and not issubclass(original, Routed):
        added.append(Routed)
    if issubclass(original, SSLConnection) and not issubclass(original, _SharedTls):
        added.append(_SharedTls)
    return type(f"Own{original.__name__}", (*added, original), {}) if added else original


def own_kwargs(kwargs: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    """Return an alias' connection options with time-outs of our own, and without retries."""
    kept = {key: value for key, value in kwargs.items() if not key.startswith(_DROPPED)}
    return kept | {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # RESP3 costs two round trips per connection and lets a server extend the time-outs.
        "protocol": 2,
        "driver_info": None,  # two more round trips, which name the client library
        "decode_responses": False,
    }


def base_class(original: type) -> type:
    """Return the driver's class for a connection whose own way to its server is not used."""
    return SSLConnection if issubclass(original, SSLConnection) else Connection


def new_owner(error: Exception | None) -> tuple[str, int] | None:
    """Return which server has the data, if the error tells it."""
    if isinstance(error, MovedError) and error.host:
        return str(error.host), int(error.port)
    return None
