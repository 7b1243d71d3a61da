"""Rounds of synchronisation: one at a time, which others may wait for."""

import threading
import time
from concurrent.futures import Future

from analytics_admin.stores import latency


class SyncRounds:
    """Whose turn it is to synchronise; not to be used on the other side of a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Future[None] | None = None
        self._began = 0.0

    def join(self) -> "tuple[Future[None] | None, Future[None]]":
        """Return the future of the round under way, first as this caller's own if it begins one.

        One that takes longer than a caller may wait is held up in a blocked event loop: it is left.
        """
        with self._lock:
            now = time.monotonic()
            if self._current is not None and now - self._began <= latency.MAX_WAIT_SECONDS:
                return None, self._current
            self._current, self._began = Future(), now
            self._current.set_running_or_notify_cancel()  # no waiter's cancellation ends it
            return self._current, self._current

    def end(self, mine: "Future[None]") -> None:
        """End the caller's own round and let those who wait for it go on."""
        with self._lock:
            if self._current is mine:
                self._current = None
        mine.set_result(None)
