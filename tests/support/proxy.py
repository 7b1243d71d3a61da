"""A TCP proxy before a real store server, for the faults of networks: late, cut or lost replies."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls the first ``times`` requests that hold ``word``, and their connections."""

    word: bytes
    deliver: bool = True
    """Whether the request still reaches the server."""
    cut: bool = False
    """One byte of its reply comes through before the connection ends; else it falls silent."""
    deaf_afterwards: bool = False
    """Whether later connections are never answered."""
    times: int = 1


@dataclass(slots=True)
class _Connection:
    client: socket.socket
    server: socket.socket
    silent: bool = False
    cut_next: bool = False
    replies: "SimpleQueue[tuple[float, bytes]]" = field(default_factory=SimpleQueue)
    """What the server has sent, and when."""


class Proxy:
    """Listens on a loopback port and carries bytes to and from the server's unix socket.

    ``delay``: seconds that each reply is held back. ``swallow``: replies are lost. ``cut_after``:
    bytes of the next reply that still come through before its connection is cut. ``fault``: what
    befalls one request. ``rewrite`` changes all that is sent.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        fault: Fault | None = None,
        rewrite: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.delay = 0.0
        self.swallow = False
        self.cut_after: int | None = None
        self.fault = fault
        self.faults = 0
        self.connections = 0
        self._deaf = False
        self._rewrite = rewrite
        self._socket_path = socket_path
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Carry everything again, at once."""
        self.delay, self.swallow, self.cut_after, self.fault = 0.0, False, None, None

    def move_to(self, socket_path: str) -> None:
        """Stand before another server from now on; cut what leads to the one before."""
        self._socket_path = socket_path
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._deaf:
                self._open.append(client)
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._socket_path)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open += [client, server]
            connection = _Connection(client, server)
            for carry in (self._carry_requests, self._receive_replies, self._carry_replies):
                threading.Thread(target=carry, args=(connection,), daemon=True).start()

    def _carry_requests(self, connection: _Connection) -> None:
        with suppress(OSError):
            while data := connection.client.recv(65536):
                data = self._rewrite(data)
                if connection.silent:
                    continue
                if fault := self._strike(data):
                    connection.silent, connection.cut_next = not fault.cut, fault.cut
                    if not fault.deliver:
                        continue
                connection.server.sendall(data)
        self._end(connection)

    def _receive_replies(self, connection: _Connection) -> None:
        """Note when each reply came: held-back ones are under way at the same time."""
        with suppress(OSError):
            while data := connection.server.recv(65536):
                connection.replies.put((time.monotonic(), data))
        connection.replies.put((0.0, b""))

    def _carry_replies(self, connection: _Connection) -> None:
        with suppress(OSError):
            while True:
                came_at, data = connection.replies.get()
                if not data:
                    break
                time.sleep(max(0.0, came_at + self.delay - time.monotonic()))
                if self.swallow or connection.silent:
                    continue
                limit = 1 if connection.cut_next else self.cut_after
                connection.client.sendall(data[:limit])
                if limit is not None:
                    break
        self._end(connection)

    def _strike(self, data: bytes) -> Fault | None:
        """Return the fault that these bytes meet, if they do; it befalls no other ones."""
        fault = self.fault
        if fault is None or fault.word not in data:
            return None
        self.fault = replace(fault, times=fault.times - 1) if fault.times > 1 else None
        self.faults, self._deaf = self.faults + 1, fault.deaf_afterwards
        return fault

    def _end(self, connection: _Connection) -> None:
        for end in (connection.client, connection.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(ValueError):
                self._open.remove(end)
                end.close()
