"""A Redis Cluster of real servers on loopback: primaries that share the slots, and replicas."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from redis.crc import key_slot

from tests.support.servers import StoreServer, free_port

SLOTS = 16384
BUS_OFFSET = 10_000


class Cluster:
    """Starts it, and stops it. A primary that is silent for ``node_timeout`` seconds fails."""

    def __init__(
        self, *, primaries: int = 3, replicas: int = 0, node_timeout: float = 1.0, **config: Any
    ) -> None:
        self._stack = ExitStack()
        more = {"cluster_enabled": "yes", "cluster_node_timeout": round(node_timeout * 1000)}
        more |= {"repl_diskless_sync_delay": 0, "cluster_replica_validity_factor": 0}
        self.primaries = [_server(more | config) for _ in range(primaries)]
        self.replicas = [_server(more | config) for _ in range(replicas)]

    @property
    def servers(self) -> list[StoreServer]:
        return [*self.primaries, *self.replicas]

    def owner(self, key: str) -> StoreServer:
        """Return the primary that has the slot of the key now, as the others say."""
        slot = key_slot(key.encode())
        for node in self.servers:
            if node.process is None:
                continue
            for first, last, (_host, port, *_), *_replicas in node.ask("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def begin_move(self, key: str, target: StoreServer) -> tuple[StoreServer, int]:
        """Have the slot of the key on its way to another primary; return the source, the slot."""
        source, slot = self.owner(key), key_slot(key.encode())
        target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", _id(source))
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", _id(target))
        return source, slot

    def move_keys(self, source: StoreServer, slot: int, target: StoreServer) -> int:
        """Move the keys of the slot, as redis-cli does; return how many there were."""
        moved = 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10"):
            names = [key.decode() for key in keys]
            port = str(target.port)
            source.ask("MIGRATE", "127.0.0.1", port, "", "0", "5000", "REPLACE", "KEYS", *names)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, target: StoreServer) -> None:
        """Tell every primary who has the slot now; the one that gets it first."""
        for server in sorted(self.primaries, key=lambda server: server is not target):
            if server.process is not None:
                server.ask("CLUSTER", "SETSLOT", str(slot), "NODE", _id(target))

    def move_slot(self, key: str, target: StoreServer) -> None:
        """Move the slot of the key with all that is in it."""
        source, slot = self.begin_move(key, target)
        self.move_keys(source, slot, target)
        self.end_move(slot, target)

    def __enter__(self) -> "Cluster":
        for server in self.servers:
            self._stack.enter_context(server)
        share = SLOTS // len(self.primaries)
        for place, server in enumerate(self.primaries):
            first = place * share
            last = SLOTS if server is self.primaries[-1] else first + share
            server.ask("CLUSTER", "ADDSLOTS", *map(str, range(first, last)))  # 6.2 knows no ranges
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
        for server in self.servers[1:]:
            port, bus = str(self.primaries[0].port), str(self.primaries[0].port + BUS_OFFSET)
            server.ask("CLUSTER", "MEET", "127.0.0.1", port, bus)
        _await(lambda: all(_number_known(server) == len(self.servers) for server in self.servers))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", _id(primary))
        _await(lambda: all(_is_well(server) for server in self.servers))
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.close()


def _server(config: dict[str, Any]) -> StoreServer:
    """Return a node that is not started: nobody listens on its port and on the one of its bus."""
    while True:
        port = free_port()
        with suppress(OSError, OverflowError), socket.socket() as bus:
            bus.bind(("127.0.0.1", port + BUS_OFFSET))
            return StoreServer(port=port, **config)


def _id(server: StoreServer) -> str:
    return str(server.ask("CLUSTER", "MYID").decode())


def _number_known(server: StoreServer) -> int:
    """Return of how many nodes it knows, with itself; one in its handshake has no id yet."""
    lines = server.ask("CLUSTER", "NODES").decode().splitlines()
    return sum("handshake" not in line for line in lines)


def _is_well(server: StoreServer) -> bool:
    if b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
        return False
    replication = server.ask("INFO", "replication")
    return replication["role"] == "master" or replication["master_link_status"] == "up"


def _await(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "the cluster did not come together"
        time.sleep(0.01)
