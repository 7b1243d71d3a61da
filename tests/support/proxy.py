"""A TCP proxy before a real store server, for the faults of networks: late, cut or lost replies."""

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Listens on a loopback port and carries bytes to and from the server's unix socket.

    ``delay``: seconds that each reply is held back. ``swallow``: replies are lost. ``cut_after``:
    bytes of the next reply that still come through before its connection is cut.
    """

    def __init__(self, socket_path: str) -> None:
        self.delay = 0.0
        self.swallow = False
        self.cut_after: int | None = None
        self.connections = 0
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
        self.delay, self.swallow, self.cut_after = 0.0, False, None

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
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
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._socket_path)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open += [client, server]
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()
            threading.Thread(target=self._reply, args=(server, client), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while part := client.recv(65536):
                server.sendall(part)
        self._end(client, server)

    def _reply(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while part := server.recv(65536):
                time.sleep(self.delay)
                if self.swallow:
                    continue
                if self.cut_after is not None:
                    client.sendall(part[: self.cut_after])
                    break
                client.sendall(part)
        self._end(client, server)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(ValueError):
                self._open.remove(end)
                end.close()
