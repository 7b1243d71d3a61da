"""Sends signals from a thread of its own, so that no receiver delays a protected call.

Under gevent it is a greenlet: receivers may use what belongs to the process' greenlets alone.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from analytics_admin.breakers.bell import Bell
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks
from analytics_admin.stores.threads import run_in_greenlet, start_thread

logger = logging.getLogger("analytics_admin.breakers")

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
        if run_in_greenlet(self._deliver_in_greenlet):
            return
        if not self._has_thread and not self._start():
            self._deliver_all()
        self._bell.ring()

    def flush(self) -> None:
        """Wait a moment for what is still to be delivered."""
        self.drain(latency.MAX_WAIT_SECONDS)

    def drain(self, timeout: float) -> bool:
        """Return whether everything is delivered in time."""
        until = time.monotonic() + timeout
        while self._events or self._is_delivering:
            if time.monotonic() >= until:
                return False
            time.sleep(0.001)
        return True

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent delivers its own events."""
        self._events: deque[Any] = deque()
        self._bell = Bell()
        self._has_thread = self._is_delivering = False
        self._dropped = 0

    def _start(self) -> bool:
        self._has_thread = True
        try:
            start_thread(self._work, self._bell, name="circuit breaker signals")
        except RuntimeError:  # no thread to be had
            self._has_thread = False
        return self._has_thread

    def _deliver_in_greenlet(self) -> None:
        if not self._is_delivering:
            self._deliver_all()

    def _work(self, bell: Bell) -> None:
        while bell is self._bell:
            self._deliver_all()
            bell.wait(None)

    def _deliver_all(self) -> None:
        while self._events:
            self._is_delivering = True
            try:
                with suppress(IndexError):
                    self._deliver(self._events.popleft())
            # Receivers' errors are caught one by one; this keeps the thread for the rest.
            except Exception:
                logger.exception("circuit breakers: an event could not be delivered")
            finally:
                self._is_delivering = False
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.error(
                    "circuit breakers: receivers are too slow; %d signals were dropped", dropped
                )
