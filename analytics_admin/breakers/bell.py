"""A bell that wakes one thread."""

import threading
from contextlib import suppress

from analytics_admin.stores.threads import allocate_lock


class Bell:
    """Wakes the thread that waits for it, at once or when it next waits.

    Unlike a threading.Event it takes no lock to ring, so that a signal handler may ring the bell in
    whose middle it came.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiting thread. Never waits."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread has rung it meanwhile
                self._lock.release()

    def wait(self, timeout: float | None) -> None:
        """Wait until it rings, or for ``timeout`` seconds; it is then silent again."""
        if timeout is None:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
