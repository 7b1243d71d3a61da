"""A PING by which a process learns without waiting whether a server answers."""

import errno
import select
import socket
import time
from contextlib import suppress
from typing import Any

PATIENCE_SECONDS = 5.0
"""A PING that is not answered by then is given up."""
_ON_ITS_WAY = (0, errno.EINPROGRESS, errno.EALREADY)


class Ping:
    """One PING, to a socket's address. Any answer counts, also an error.

    A server that speaks TLS may answer what is not TLS by closing the connection.
    """

    def __init__(self, family: int, address: Any, *, is_tls: bool = False) -> None:
        self._began_at = time.monotonic()
        self._is_tls = is_tls
        self._is_sent = False
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._error = self._socket.connect_ex(address)

    def look(self) -> bool | None:
        """Return whether there is an answer; None: not yet. Afterwards this one is over."""
        answers = self._look()
        if answers is None and time.monotonic() - self._began_at > PATIENCE_SECONDS:
            answers = False
        if answers is not None:
            self._socket.close()
        return answers

    def _look(self) -> bool | None:
        if self._error not in _ON_ITS_WAY:
            return False
        with suppress(BlockingIOError):
            try:
                if self._is_sent:
                    return bool(self._socket.recv(64)) or self._is_tls
                if not self._is_writable():
                    return None
                self._socket.sendall(b"PING\r\n")
                self._is_sent = True
            except BlockingIOError:
                raise
            except OSError:
                return False
        return None

    def _is_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(0))
