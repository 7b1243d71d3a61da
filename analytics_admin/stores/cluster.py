"""The way to one slot of a Redis Cluster, and the pool by which an alias lives in it.

All keys of an alias share a hash tag, and so lie on one node: its scripts and clears are those of a
single server. A cache that is larger than a node is for later.
"""

from collections.abc import Iterable
from typing import Any

from redis.connection import Connection
from redis.crc import key_slot

from analytics_admin.stores.connections import base_class
from analytics_admin.stores.routes import Address, AskedRoute, RoutedPool, addresses_of, text_of

PORT = 6379

_routes: dict[str, "SlotRoute"] = {}


class SlotRoute(AskedRoute):
    """The route to the primary of a hash tag's slot, by any node of the cluster."""

    def __init__(self, tag: str, nodes: Iterable[Address], **options: Any) -> None:
        super().__init__(nodes, **options)
        self._nodes = self._guides
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
        self._guides = tuple(dict.fromkeys((*self._guides[:1], *seen, *self._nodes)))
        return owner


def share_slot(tag: str, keys: Iterable[str]) -> bool:
    """Return whether all keys lie in the slot of the hash tag."""
    return {key_slot(key.encode()) for key in keys} == {key_slot(tag.encode())}


class SlotPool(RoutedPool):
    """The CONNECTION_POOL_CLASS of an alias in a Redis Cluster.

    ``tag`` is the hash tag of the alias' KEY_PREFIX, without its braces. ``nodes`` are further
    nodes to ask, like "host:port", where the one of LOCATION is away.
    """

    def __init__(
        self,
        connection_class: type = Connection,
        *,
        tag: str = "",
        nodes: Iterable[Any] | str = (),
        **kwargs: Any,
    ) -> None:
        if not tag or "{" in tag or "}" in tag:
            raise ValueError("SlotPool needs tag, the hash tag of the alias' KEY_PREFIX")
        first = (str(kwargs.pop("host", "localhost")), int(kwargs.pop("port", PORT)))
        guides = [first, *addresses_of(nodes, port=PORT)]
        self.tag, self.nodes = tag, guides
        route = _shared(tag, guides, base_class(connection_class), kwargs)
        super().__init__(connection_class, route=route, **kwargs)


def _shared(
    tag: str, guides: list[Address], connection_class: type, kwargs: dict[str, Any]
) -> SlotRoute:
    """Return the route; a process has one for all aliases of a tag."""
    simple = (str, int, float, bool, type(None))
    same = sorted((key, value) for key, value in kwargs.items() if isinstance(value, simple))
    key = repr((tag, guides, connection_class, same))
    if key not in _routes:
        _routes[key] = SlotRoute(tag, guides, connection_class=connection_class, kwargs=kwargs)
    return _routes[key]
