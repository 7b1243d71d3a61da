"""The way to the primary that Redis Sentinels know, and a pool that takes it."""

from collections.abc import Iterable
from typing import Any

from redis.connection import Connection

from analytics_admin.stores.connections import base_class
from analytics_admin.stores.routes import (
    OF_THE_DATA,
    Address,
    AskedRoute,
    RoutedPool,
    addresses_of,
    text_of,
)

PORT = 26379
_OF_SENTINELS = ("username", "password")

_routes: dict[str, "SentinelRoute"] = {}


class SentinelRoute(AskedRoute):
    """The route to the primary of a service. What a Sentinel names may have been demoted since.

    ``host`` replaces the one that they name.
    """

    checks_role = True

    def __init__(
        self, service: str, sentinels: Iterable[Address], *, host: str | None = None, **options: Any
    ) -> None:
        super().__init__(sentinels, **options)
        self.service = service
        self._host = host

    def _question(self) -> tuple[Any, ...]:
        return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)

    def _read(self, guide: Address, reply: Any) -> Address | None:
        if not reply:
            return None
        host, port = reply
        return self._host or text_of(host), int(port)


class ServicePool(RoutedPool):
    """A connection pool for the primary of a service.

    ``sentinels`` are addresses like "host:port"; the host of the pool's own address is one more.
    The Sentinels' user and password are not those of the servers.
    """

    def __init__(
        self,
        connection_class: type = Connection,
        *,
        service: str = "",
        sentinels: Iterable[Any] | str = (),
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not service:
            raise ValueError("ServicePool needs the name of a service")
        first = (str(kwargs.pop("host", "localhost")), int(kwargs.pop("port", PORT)))
        guides = [first, *addresses_of(sentinels, port=PORT)]
        credentials = {"username": sentinel_username, "password": sentinel_password}
        own = {key: value for key, value in kwargs.items() if key not in _OF_SENTINELS}
        route = _shared(service, guides, connection_class, own | credentials)
        super().__init__(connection_class, route=route, **kwargs)

    @property
    def service_name(self) -> str:
        """The service, as the driver's own pool calls it."""
        return str(self.route.service) if isinstance(self.route, SentinelRoute) else ""


def sentinel_route(pool: Any) -> SentinelRoute:
    """Return the route of the driver's own pool for a service."""
    manager = pool.sentinel_manager
    pools = [sentinel.connection_pool for sentinel in manager.sentinels]
    guides = [_address(each.connection_kwargs) for each in pools]
    kwargs = {
        key: value
        for key, value in pools[0].connection_kwargs.items()
        if key not in {"host", "port"}
    }
    return _shared(
        pool.service_name,
        sorted(guides),  # the driver puts first who answered last
        pools[0].connection_class,
        kwargs,
        host=manager._force_master_ip,
    )


def _shared(
    service: str,
    guides: list[Address],
    connection_class: type,
    kwargs: dict[str, Any],
    *,
    host: str | None = None,
) -> SentinelRoute:
    """Return the route; a process has one for all aliases of a service."""
    simple = (str, int, float, bool, type(None))
    same = sorted(
        (key, value)
        for key, value in kwargs.items()
        if key not in OF_THE_DATA and isinstance(value, simple)
    )
    own_class = base_class(connection_class)
    key = repr((service, guides, host, own_class, same))
    if key not in _routes:
        _routes[key] = SentinelRoute(
            service, guides, host=host, connection_class=own_class, kwargs=kwargs
        )
    return _routes[key]


def _address(kwargs: dict[str, Any]) -> Address:
    return str(kwargs.get("host") or "localhost"), int(kwargs.get("port") or PORT)
