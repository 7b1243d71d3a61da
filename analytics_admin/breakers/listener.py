"""The thread of a process that gets every change of the fleet's breakers pushed.

Each second the store proves that no message was missed. Without proof the process polls.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress

from analytics_admin.breakers.bell import Bell
from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.breakers.stores.base import Channel, Push, StoreUnavailable
from analytics_admin.stores.threads import KeptThread, start_thread

PROOF_SECONDS = 1.0
PROOF_WAIT_SECONDS = 0.25
"""Time that a proof may take before the process polls; from a slow store twice that of the last."""
FIRST_RETRY_SECONDS = 0.2
THREAD_NAME = "circuit breakers' messages"


def _ignore(push: Push) -> None:
    """Leave it to who takes it."""


class Listener:
    """Messages about changes, for the reporter to take.

    ``ring`` is called when there is something to take, and when ``gets_pushes`` changes; it must
    not wait. ``timeout`` (seconds) is how long an answer may take, ``retry_interval`` the longest
    wait before the next connection.
    """

    def __init__(
        self,
        ring: Callable[[], None],
        *,
        timeout: Callable[[], float],
        retry_interval: Callable[[], float],
    ) -> None:
        self._ring = ring
        self._timeout = timeout
        self._retry_interval = retry_interval
        self._forget()

    def _forget(self) -> None:
        self.gets_pushes = False
        """Whether every change is pushed to this process within a moment."""
        self._pushes: deque[Push] = deque()
        self._obey: Callable[[Push], None] = _ignore
        self._stop = Bell()
        self._channel: Channel | None = None
        self._thread: KeptThread | None = None
        self._has_no_channel = False

    def start(
        self, new_channel: Callable[[], Channel | None], obey: Callable[[Push], None] = _ignore
    ) -> bool:
        """Listen on channels that ``new_channel`` makes, unless that is done already.

        ``obey`` receives each push at once, in the listener's thread; it must not wait. Returns
        whether to try again: no thread was to be had.
        """
        if self._has_no_channel:
            return False
        if self._thread is None:
            self._obey = obey
            if new_channel() is None:
                self._has_no_channel = True
                return False
            self._thread = KeptThread(self._work, new_channel, self._stop, name=THREAD_NAME)
        return not self._thread.begin(start_thread)

    def stop(self) -> None:
        """Hear nothing more, until ``start``."""
        channel, stop = self._channel, self._stop
        self._forget()
        stop.ring()
        if channel is not None:
            channel.interrupt()

    def after_fork(self) -> None:
        """Begin as a child: thread and connection are the parent's."""
        if self._channel is not None:
            self._channel.close()
        self._forget()

    def take(self) -> list[Push]:
        """Return what was pushed since the last ``take``, in order."""
        pushes = []
        with suppress(IndexError):
            while True:
                pushes.append(self._pushes.popleft())
        return pushes

    def _work(self, new_channel: Callable[[], Channel | None], stop: Bell) -> None:
        retries = 0
        while stop is self._stop:
            wait = FIRST_RETRY_SECONDS * 2**retries
            # Whatever goes wrong here, the process polls, and this thread tries again: no exception
            # can be meant for it.
            try:
                if (channel := new_channel()) is None:
                    return
                with closing(channel):
                    last = channel.open()
                    retries, wait = 0, FIRST_RETRY_SECONDS
                    self._listen(channel, last, stop)
            except StoreUnavailable as error:
                logger.debug("circuit breakers: no messages from the store: %s", error.reason)
            except BaseException as error:
                with suppress(BaseException):
                    name = type(error).__name__
                    logger.error("circuit breakers: internal error: %s", name, exc_info=error)
            with suppress(BaseException):
                self._note(stop, gets_pushes=False)
            with suppress(BaseException):
                wait = min(wait, self._retry_interval())
            retries = min(retries + 1, 16)
            stop.wait(wait * random.uniform(0.5, 1.0))

    def _listen(self, channel: Channel, last: int, stop: Bell) -> None:
        """Hear of all changes after this one, until the channel breaks."""
        self._channel = channel
        self._put(stop, _gap(last))
        self._note(stop, gets_pushes=True)
        proved_at, asked_at, limit = time.monotonic(), None, PROOF_WAIT_SECONDS
        while stop is self._stop:
            now = time.monotonic()
            if asked_at is None and now - proved_at >= PROOF_SECONDS:
                channel.request_proof()
                asked_at = now
            message = channel.receive(self._patience(now, proved_at, asked_at, limit))
            if isinstance(message, Push) and message.is_question:
                self._put(stop, message)
            elif isinstance(message, Push):
                self._put(stop, message if message.sequence == last + 1 else _gap(message.sequence))
                last = message.sequence
            elif isinstance(message, int):
                proved_at = time.monotonic()
                if asked_at is not None:
                    limit = max(PROOF_WAIT_SECONDS, 2 * (proved_at - asked_at))
                asked_at = None
                if message != last:
                    last = message
                    self._put(stop, _gap(last))
                self._note(stop, gets_pushes=True)
            elif asked_at is not None and time.monotonic() - asked_at >= limit:
                self._note(stop, gets_pushes=False)
                if time.monotonic() - asked_at >= self._timeout():
                    return

    def _patience(
        self, now: float, proved_at: float, asked_at: float | None, limit: float
    ) -> float:
        """Return the seconds until there is something to do without a message."""
        if asked_at is None:
            return max(0.0, proved_at + PROOF_SECONDS - now)
        return max(0.0, asked_at + (limit if self.gets_pushes else self._timeout()) - now)

    def _put(self, stop: Bell, push: Push) -> None:
        if stop is self._stop:
            self._obey(push)
            self._pushes.append(push)
            self._ring()

    def _note(self, stop: Bell, *, gets_pushes: bool) -> None:
        if stop is self._stop and self.gets_pushes is not gets_pushes:
            self.gets_pushes = gets_pushes
            self._ring()


def _gap(sequence: int) -> Push:
    return Push(sequence=sequence, is_gap=True)
