"""The way to the primary that Redis Sentinels know, for aliases of django-redis that ask them."""

from typing import Any

from analytics_admin.stores.routes import Address, AskedRoute, text_of

_routes: dict[str, "SentinelRoute"] = {}


class SentinelRoute(AskedRoute):
    """The route to the primary of a service. What a Sentinel names may have been demoted since."""

    checks_role = True

    def __init__(self, pool: Any) -> None:
        manager = pool.sentinel_manager
        pools = [sentinel.connection_pool for sentinel in manager.sentinels]
        addresses = [_address(each.connection_kwargs) for each in pools]
        super().__init__(
            addresses,
            connection_class=pools[0].connection_class,
            kwargs=pools[0].connection_kwargs,
        )
        self._service = pool.service_name
        self._host = manager._force_master_ip

    def _question(self) -> tuple[Any, ...]:
        return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)

    def _read(self, guide: Address, reply: Any) -> Address | None:
        if not reply:
            return None
        host, port = reply
        return self._host or text_of(host), int(port)


def sentinel_route(pool: Any) -> SentinelRoute:
    """Return the route of an alias' pool; this process has one for all aliases of a service."""
    manager = pool.sentinel_manager
    guides = [sentinel.connection_pool.connection_kwargs for sentinel in manager.sentinels]
    known = [sorted(_plain(kwargs).items()) for kwargs in guides]
    key = repr((pool.service_name, manager._force_master_ip, known))
    return _routes.setdefault(key, SentinelRoute(pool))


def _address(kwargs: dict[str, Any]) -> Address:
    return str(kwargs.get("host") or "localhost"), int(kwargs.get("port") or 26379)


def _plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are the same for the same Sentinels, in every pool."""
    simple = (str, int, float, bool, type(None))
    return {key: value for key, value in kwargs.items() if isinstance(value, simple)}
