"""The way to a server that changes: whom to ask for it, and for how long an answer is good."""

import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from analytics_admin.stores.connections import (
    ELSEWHERE,
    base_class,
    new_owner,
    own_class,
    own_kwargs,
)

Address = tuple[str, int]

QUICK_SECONDS = 0.05
"""For the answer of each of those who can be asked, at first."""
LONG_SECONDS = 0.5
"""For the answer of each, where all were silent."""
SHARED_SECONDS = 0.2
"""Connections that are opened within so long share an answer."""
LOOK_SECONDS = 1.0
"""After so long who uses a connection asks again whether it leads to the right server."""
DOUBT_SECONDS = 5.0
"""For so long who still names a server that was not the right one is believed last."""
OF_THE_DATA = ("db", "client_name", "route")
"""Options of a connection to the data that none to a guide has."""


class NoGuide(StoreConnectionError):
    """Nobody who could tell the server's address can be reached."""


class NoPrimary(StoreConnectionError):
    """Those who can be reached know of no server for the data."""


class AskedRoute:
    """A route that asks one of several guides at each connection, first who answered last.

    ``kwargs`` are those of a connection to a guide. Each is asked once in a round, and nothing is
    retried. An address that was good before is used while no guide can be reached.
    """

    checks_role = False

    def __init__(
        self, guides: Iterable[Address], *, connection_class: type, kwargs: Mapping[str, Any]
    ) -> None:
        self._guides = tuple(dict.fromkeys(guides))
        self._class = own_class(base_class(connection_class))
        self._kwargs = {key: value for key, value in kwargs.items() if key not in OF_THE_DATA}
        self._answer: tuple[Address, float] | None = None
        self._last: Address | None = None
        self._doubted: tuple[Address, float] | None = None
        self._left: dict[Address, float] = {}
        self._looked_at = 0.0

    def find(self, timeout: float | None) -> Address:
        """Return the address of the server that has the data now.

        Raises:
            NoGuide, NoPrimary
        """
        if (answer := self._answer) is not None and time.monotonic() - answer[1] < SHARED_SECONDS:
            return answer[0]
        error: RedisError | OSError | None = None
        has_answered, doubted = False, None
        quick = min(QUICK_SECONDS, timeout or LONG_SECONDS)
        long = min(LONG_SECONDS, timeout or LONG_SECONDS)
        for seconds in (quick, long):
            for guide in self._guides:
                try:
                    address = self._ask(guide, seconds)
                except (RedisError, OSError) as problem:
                    error = problem
                    self._guides = _last_of(self._guides, guide)
                    continue
                has_answered = True
                if address is not None and not self._is_doubted(address):
                    self._guides = tuple(dict.fromkeys((guide, *self._guides)))
                    self._note(address)
                    return address
                doubted = address or doubted
            if doubted is not None:
                return doubted
            if has_answered:
                raise NoPrimary
        if self._last is not None:
            return self._last
        raise NoGuide from error

    def doubt(self, address: Address, error: Exception | None = None) -> None:
        """Ask again, unless the server has told who has the data.

        For a while guides are preferred that name another one: the others may not have heard.
        """
        if (owner := new_owner(error)) is not None:
            self._note(owner)
            return
        self._answer, self._doubted = None, (address, time.monotonic())

    def has_left(self, address: Address, since: float) -> bool:
        """Return whether another server than this one has been named since (monotonic seconds)."""
        return bool(self._left) and self._left.get(address, since) > since

    def claim_look(self) -> bool:
        """Return whether the caller is to ``look``, in a thread that may wait.

        An old primary that lives takes requests until it is told.
        """
        now = time.monotonic()
        if not self.checks_role or now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        return True

    def look(self) -> None:
        """Ask once whether another server has the data now. Raises nothing."""
        for guide in self._guides:
            try:
                address = self._ask(guide, QUICK_SECONDS)
            except (RedisError, OSError):
                self._guides = _last_of(self._guides, guide)
                continue
            if address is not None and not self._is_doubted(address):
                self._note(address)
            return

    def _is_doubted(self, address: Address) -> bool:
        doubted = self._doubted
        if doubted is None or time.monotonic() - doubted[1] > DOUBT_SECONDS:
            return False
        return doubted[0] == address

    def _note(self, address: Address) -> None:
        now, last = time.monotonic(), self._last
        # A node of a cluster says itself that another one has the data now.
        if self.checks_role and last is not None and last != address:
            self._left[last] = now
        self._answer, self._last = (address, now), address

    def _ask(self, guide: Address, timeout: float) -> Address | None:
        host, port = guide
        kwargs = own_kwargs(self._kwargs, timeout=timeout)
        connection: Any = self._class(**kwargs | {"host": host, "port": port})
        try:
            connection.connect()
            connection.send_command(*self._question(), check_health=False)
            return self._read(guide, connection.read_response())
        finally:
            connection.disconnect()

    def _question(self) -> tuple[Any, ...]:
        """Return the command that asks a guide."""
        raise NotImplementedError

    def _read(self, guide: Address, reply: Any) -> Address | None:
        """Return the address that a guide's reply tells; None: it knows none."""
        raise NotImplementedError


class RoutedPool(ConnectionPool):
    """A pool whose connections each ask where the data are."""

    def __init__(self, connection_class: type, *, route: AskedRoute, **kwargs: Any) -> None:
        self.route = route
        retry = Retry(NoBackoff(), 1, supported_errors=ELSEWHERE)
        super().__init__(
            connection_class=own_class(connection_class, is_routed=True),
            **{"retry": retry, **kwargs, "route": route},
        )


def addresses_of(given: Iterable[Any] | str, *, port: int) -> list[Address]:
    """Return addresses from "host:port" and (host, port), also of several in one text.

    Raises:
        ValueError
    """
    items = given.split(",") if isinstance(given, str) else given
    return [_address_of(item, port) for item in items if item]


def _address_of(given: Any, port: int) -> Address:
    if not isinstance(given, str):
        host, number = given
        return str(host), int(number)
    parts = urlsplit(f"//{given.strip()}")
    if not parts.hostname or parts.path or "@" in given:
        raise ValueError("an address is host:port")
    return parts.hostname, parts.port or port


def text_of(value: Any) -> str:
    """Return what a server calls something."""
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _last_of(guides: tuple[Address, ...], guide: Address) -> tuple[Address, ...]:
    return (*(other for other in guides if other != guide), guide)
