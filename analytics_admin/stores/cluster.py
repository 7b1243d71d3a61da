"""The way to one slot of a Redis Cluster, and the pool by which an alias lives in it.

All keys of an alias share a hash tag, and so lie on one node: its scripts and clears are those of a
single server. A cache that is larger than a node is for later.
"""

from collections.abc import Iterable
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool
from redis.crc import key_slot
from redis.retry import Retry

from analytics_admin.stores.connections import ELSEWHERE, base_class, own_class
from analytics_admin.stores.routes import Address, AskedRoute, text_of

_routes: dict[str, "SlotRoute"] = {}


class SlotRoute(AskedRoute):
    """The route to the primary of a hash tag's slot, by any node of the cluster."""

    def __init__(self, tag: str, nodes: Iterable[Address], **options: Any) -> None:
        super().__init__(nodes, **options)
        self.tag = tag
        self.nodes = self._guides
        self._slot = key_slot(tag.encode())

    def _question(self) -> tuple[Any, ...]:
        return ("CLUSTER", "SLOTS")

    def _read(self, guide: Address, reply: Any) -> Address | None:
        owner, seen = None, []
        for first, last, *nodes in reply:
            # A node that does not know its own name leaves it out.
            addresses = [(text_of(node[0]) or guide[0], int(node[1])) for node in nodes]
            seen += addresses
            if addresses and int(first) <= self._slot <= int(last):
                owner = addresses[0]
        # The nodes of the settings stay: they may outlive those of today.
        self._guides = tuple(dict.fromkeys((*self._guides[:1], *seen, *self.nodes)))
        return owner


def share_slot(tag: str, keys: Iterable[str]) -> bool:
    """Return whether all keys lie in the slot of the hash tag."""
    return {key_slot(key.encode()) for key in keys} == {key_slot(tag.encode())}


class SlotPool(ConnectionPool):
    """The CONNECTION_POOL_CLASS of an alias in a Redis Cluster.

    ``tag`` is the hash tag of the alias' KEY_PREFIX, without its braces. ``nodes`` are further
    nodes to ask, as "host:port", where the one of LOCATION is away.
    """

    def __init__(
        self,
        connection_class: type = Connection,
        *,
        tag: str = "",
        nodes: Iterable[Any] | str = (),
        route: SlotRoute | None = None,
        **kwargs: Any,
    ) -> None:
        if route is None:
            route = _route(connection_class, tag, nodes, kwargs)
            retry = Retry(NoBackoff(), 1, supported_errors=ELSEWHERE)
            kwargs = {"retry": retry, **kwargs}
        self.route = route
        super().__init__(
            connection_class=own_class(connection_class, is_routed=True), route=route, **kwargs
        )


def _route(
    connection_class: type, tag: str, nodes: Iterable[Any] | str, kwargs: dict[str, Any]
) -> SlotRoute:
    if not tag or "{" in tag or "}" in tag:
        raise ValueError("SlotPool needs tag, the hash tag of the alias' KEY_PREFIX")
    first = str(kwargs.pop("host", "localhost")), int(kwargs.pop("port", 6379))
    others = nodes.split(",") if isinstance(nodes, str) else nodes
    addresses = [first, *(_address(node) for node in others if node)]
    options = {"connection_class": base_class(connection_class), "kwargs": kwargs}
    simple = {key: value for key, value in kwargs.items() if isinstance(value, str | int | float)}
    key = repr((tag, addresses, options["connection_class"], sorted(simple.items())))
    if key not in _routes:
        _routes[key] = SlotRoute(tag, addresses, **options)
    return _routes[key]


def _address(node: Any) -> Address:
    if isinstance(node, str):
        host, _, port = node.rpartition(":")
        return host.strip("[] "), int(port)
    host, port = node
    return str(host), int(port)
