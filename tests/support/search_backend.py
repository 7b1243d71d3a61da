"""What the search cache stands in front of: a backend of so many slots, which notes what it did.

It lives in the process of the test; the processes of the site ask it over a socket.
"""

import json
import socket
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PADDING = "a search result " * 120
"""What makes a value about 2 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """One answer of the backend: from which version of its data, and when (monotonic seconds)."""

    query: int
    version: int
    began: float
    ended: float


class Backend:
    """Answers each query in so many seconds, ``slots`` at once; others wait for their turn.

    An answer tells the ``version`` that the data had when its turn began.
    """

    def __init__(self, *, slots: int, seconds: float) -> None:
        self.version = 0
        self.log: list[Computation] = []
        self._seconds = seconds
        self._turns = threading.Semaphore(slots)
        self._folder = tempfile.TemporaryDirectory(prefix="aa-backend-")
        self.path = str(Path(self._folder.name) / "s.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(4096)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(asking,), daemon=True).start()

    def _answer(self, asking: socket.socket) -> None:
        with asking, suppress(OSError):
            query = int(asking.recv(64))
            with self._turns:
                began, version = time.monotonic(), self.version
                time.sleep(self._seconds)
                ended = time.monotonic()
            self.log.append(Computation(query=query, version=version, began=began, ended=ended))
            asking.sendall(json.dumps({"query": query, "version": version}).encode())


def compute(path: str, query: int) -> dict[str, Any]:
    """Ask the backend at ``path``; return a value of about 2 KB with the version it tells."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(path)
        asking.sendall(str(query).encode())
        answer: dict[str, Any] = json.loads(asking.recv(256))
    return {**answer, "results": PADDING}
