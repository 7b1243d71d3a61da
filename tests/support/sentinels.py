"""A primary, its replica and three Sentinels that watch them, as real servers on loopback."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from tests.support.servers import StoreServer, free_port

SERVICE = "catalog-store"
QUORUM = 2


class SentinelServer(StoreServer):
    """A Sentinel of the same program. It needs a file of its own, which it rewrites."""

    def __init__(self, *, lines: Callable[[str], Sequence[str]], **options: Any) -> None:
        super().__init__(port=free_port(), **options)
        self.id = secrets.token_hex(20)
        self._lines = lines

    def arguments(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            lines = [f"{name} {value}" for name, value in self.options().items()]
            file.write_text(
                "\n".join([*lines, f"sentinel myid {self.id}", *self._lines(self.id)]) + "\n"
            )
        return [str(file), "--sentinel"]

    def options(self) -> dict[str, str | int]:
        kept = ("unixsocket", "port", "bind", "dir", "requirepass")
        return {name: value for name, value in super().options().items() if name in kept}


class SentinelGroup:
    """Starts them and stops them; ``fail_over`` takes about ``down_after`` seconds and a half."""

    def __init__(self, *, down_after: float = 0.5, **config: Any) -> None:
        self._stack = ExitStack()
        self.servers = [StoreServer(port=free_port(), **config) for _ in range(2)]
        self.primary = self.servers[0]
        password = config.get("requirepass", "")
        for server in self.servers:
            server.config |= {"repl_diskless_sync_delay": 0}
            server.config |= {"masterauth": password} if password else {}
        self.sentinels: list[SentinelServer] = []
        for _ in range(3):
            self.sentinels.append(SentinelServer(lines=self._monitor))
        self._down_after, self._password = down_after, password

    def _monitor(self, own_id: str) -> list[str]:
        """Return what this Sentinel has to know; it need not look for the others."""
        primary, replica = self.servers
        return [
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {SERVICE} 3000",
            *([f"sentinel auth-pass {SERVICE} {self._password}"] if self._password else []),
            f"sentinel known-replica {SERVICE} 127.0.0.1 {replica.port}",
            *(
                f"sentinel known-sentinel {SERVICE} 127.0.0.1 {other.port} {other.id}"
                for other in self.sentinels
                if other.id != own_id
            ),
        ]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    def primary_port(self, *, of: int = 1) -> int:
        """Return the port of the primary, as one of the Sentinels says."""
        sentinel = self.sentinels[of]
        address = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(address[1])

    def await_primary(self, *, other_than: int, seconds: float = 20) -> StoreServer:
        """Return the new primary, once it takes writes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(Exception):
                port = self.primary_port()
                server = next(server for server in self.servers if server.port == port)
                if port != other_than and server.ask("ROLE")[0] == b"master":
                    return server
            time.sleep(0.01)
        raise AssertionError("the Sentinels did not fail over")

    def __enter__(self) -> "SentinelGroup":
        primary, replica = (self._stack.enter_context(server) for server in self.servers)
        replica.follow(primary)
        for sentinel in self.sentinels:
            self._stack.enter_context(sentinel)
        deadline = time.monotonic() + 10
        while not all(self._is_ready(sentinel) for sentinel in self.sentinels):
            assert time.monotonic() < deadline, "the Sentinels do not see each other"
            time.sleep(0.01)
        return self

    def _is_ready(self, sentinel: SentinelServer) -> bool:
        """Return whether it could fail over now."""
        replicas = sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
        peers = sentinel.ask("SENTINEL", "SENTINELS", SERVICE)
        up = [replica for replica in replicas if _field(replica, "master-link-status") == "ok"]
        linked = [peer for peer in peers if _field(peer, "flags") == "sentinel"]
        return bool(up) and len(linked) == len(self.sentinels) - 1

    def __exit__(self, *args: object) -> None:
        self._stack.close()


def _field(fields: Any, name: str) -> str:
    value = fields.get(name.encode(), b"")
    return str(value.decode())
