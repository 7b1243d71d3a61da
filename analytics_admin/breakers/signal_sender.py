"""Sends signals from a thread of its own, so that no receiver delays a protected call.

Under gevent it is a greenlet: receivers may use what belongs to the process' greenlets alone.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from analytics_admin.breakers.bell import Bell
from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.stores import latency
from analytics_admin.stores.interruption import is_raised_by_handler
from analytics_admin.stores.process_hooks import register_process_hooks
from analytics_admin.stores.threads import (
    KeptThread,
    allocate_lock,
    run_in_greenlet,
    start_thread,
)

THREAD_NAME = "circuit breaker signals"
MAX_WAITING = 1000
"""Events that wait for slow receivers; the oldest of more are dropped, which the log says."""


class SignalSender:
    """Delivers events in order, one at a time. Call it with an event; it never waits."""

    def __init__(self, deliver: Callable[[Any], None]) -> None:
        self._deliver = deliver
        self.after_fork()
        register_process_hooks(self)

    def __call__(self, event: Any) -> None:
        if len(self._events) >= MAX_WAITING:
            with suppress(IndexError):
                self._events.popleft()
                self._dropped += 1
        self._events.append(event)
        if run_in_greenlet(self._deliver_all):
            return
        if self._thread.begin(start_thread):
            self._bell.ring()
        else:
            self._deliver_all()

    def flush(self) -> None:
        """Wait a moment for what is still to be delivered."""
        self.drain(latency.MAX_WAIT_SECONDS)

    def drain(self, timeout: float) -> bool:
        """Return whether everything is delivered in time."""
        until = time.monotonic() + timeout
        while self._events or self._delivers.locked():
            if time.monotonic() >= until:
                return False
            time.sleep(0.001)
        return True

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent delivers its own events."""
        self._events: deque[Any] = deque()
        self._bell = Bell()
        self._thread = KeptThread(self._work, self._bell, name=THREAD_NAME)
        self._delivers = allocate_lock()
        self._dropped = 0

    def _work(self, bell: Bell) -> None:
        while bell is self._bell:
            with suppress(BaseException):
                self._deliver_all((BaseException,))  # none can be meant for this thread
            if not self._events or self._delivers.locked():
                bell.wait(None)

    def _deliver_all(
        self, caught: tuple[type[BaseException], ...] = (Exception, SystemExit)
    ) -> None:
        """Deliver what waits, unless a thread does: it takes the new ones too."""
        while self._events and self._delivers.acquire(blocking=False):
            try:
                with suppress(IndexError):
                    self._deliver(self._events.popleft())
            # Receivers' errors are caught one by one, but for a SystemExit.
            except caught as error:
                if is_raised_by_handler(error):
                    raise
                logger.exception("circuit breakers: an event could not be delivered")
            finally:
                self._delivers.release()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.error(
                    "circuit breakers: receivers are too slow; %d signals were dropped", dropped
                )
