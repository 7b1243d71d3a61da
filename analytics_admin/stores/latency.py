"""How long a process' callers bear with a store before they go on without it.

Knows no store: it is told when an answer was asked for and when it came. What a process has kept
waiting itself, for it had no processor to spare, is not held against the store.
"""

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

MAX_WAIT_SECONDS = 0.15
"""Seconds that a call waits for the store at most; slow answers that follow one another cost a
process no more than that in all."""
SLOW_ANSWER_SECONDS = 0.05
"""Seconds: an answer that takes longer is slow. A store that goes on like that is as good as away.
"""
BUSY_SHARE = 0.5
"""Share of a core used meanwhile from which on a process' threads have waited for each other."""
MAX_QUEUE_SECONDS = 0.6
"""Seconds that a caller waits for its turn at most while its process has a processor to spare: then
it is the store that keeps those before it."""
LATE_SECONDS = 0.015
"""Seconds by which a thread, or an event loop, that comes later than it should is starved."""

LONG_AGO = -1e9


@dataclass(frozen=True, slots=True)
class RequestStart:
    """The moment at which a store was asked."""

    at: float = field(default_factory=time.monotonic)
    cpu_used: float = field(default_factory=time.process_time)

    def was_busy(self, until: float) -> bool:
        """Say whether this process has used a processor all the while."""
        return time.process_time() - self.cpu_used > BUSY_SHARE * (until - self.at)


class LatencyBudget:
    """One process' patience with one store; not to be used on the other side of a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slow = 0.0
        self._charged_until = 0.0
        self._quick_asked_at = LONG_AGO  # the last of the quick answers
        self._progress_at = LONG_AGO

    @property
    def is_reduced(self) -> bool:
        """Say whether slow answers have used up some of it."""
        return self._slow > 0

    @property
    def left(self) -> float:
        """Return the seconds that the next answer may take."""
        return max(0.001, MAX_WAIT_SECONDS - self._slow)

    def charge(self, asked: RequestStart) -> bool:
        """Charge the answer that has come if it was slow; return whether the patience is spent.

        Answers that overlap delay calls but once. Each quick one takes SLOW_ANSWER_SECONDS off the
        charge, so hiccups far apart do not add up.
        """
        now = time.monotonic()
        is_slow = now - asked.at > SLOW_ANSWER_SECONDS
        if not is_slow:
            self._quick_asked_at = asked.at
            if not self._slow:
                return False
        elif asked.was_busy(now) or _is_starved():
            return False
        with self._lock:
            if not is_slow:
                self._slow = max(0.0, self._slow - SLOW_ANSWER_SECONDS)
            elif self._quick_asked_at > asked.at:
                return False  # one asked later was answered sooner: threads wait for their turn
            elif asked.at >= self._charged_until:
                self._slow += now - asked.at
                self._charged_until = now
            return self._slow >= MAX_WAIT_SECONDS

    def note_progress(self) -> None:
        """Be told that one of the jobs that callers queue for has come to its end."""
        self._progress_at = time.monotonic()

    @property
    def progress_at(self) -> float:
        return self._progress_at


class QueuedWait:
    """A caller's wait for a queued job: first for its turn, then for the store's answer.

    Slow answers that follow one another are weighed, and end either.
    """

    def __init__(self, patience: LatencyBudget) -> None:
        self._latency = patience
        self._asked = self._queued = RequestStart()
        self._is_begun = self._is_excused = False

    def begin(self) -> None:
        """Be told that the store is being asked now."""
        self._asked, self._is_begun = RequestStart(), True

    @property
    def asked(self) -> RequestStart:
        """When the store was asked, or the job was queued."""
        return self._asked

    def wait_for(self, sent: "Future[T]") -> T:
        """Return what comes of the job.

        Raises:
            TimeoutError: it has not come to its end in time.
        """
        while True:
            until = time.monotonic() + (limit := max(0.0, self.left))
            try:
                return sent.result(timeout=limit)
            except TimeoutError:
                if sent.done():  # in this moment, or the job itself raised it
                    return sent.result()
                if not self.may_continue(until):
                    raise

    async def await_for(self, sent: "Future[T]") -> T:
        """Do what ``wait_for`` does without blocking the event loop."""
        wrapped = asyncio.wrap_future(sent)
        while True:
            until = time.monotonic() + (limit := max(0.0, self.left))
            try:
                return await asyncio.wait_for(asyncio.shield(wrapped), limit)
            except TimeoutError:
                if sent.done():
                    return sent.result()
                if not self.may_continue(until):
                    wrapped.cancel()  # nobody waits for it any more
                    raise

    @property
    def left(self) -> float:
        """Return the seconds for which to go on waiting; 0 or less: for no longer."""
        since = self._asked.at
        if not self._is_begun:
            since = max(since, self._latency.progress_at)
        return since + self._latency.left - time.monotonic()

    def may_continue(self, until: float) -> bool:
        """Say whether to wait on after a wait that was to end at ``until``.

        Who comes late from it, or was busy all the while, has kept the courier's threads from
        running, too: that is excused once.
        """
        now = time.monotonic()
        if self.left > 0:
            waits_long = not self._is_begun and now - self._queued.at > MAX_QUEUE_SECONDS
            return not waits_long or self._queued.was_busy(now)
        if self._is_excused or not (now - until > LATE_SECONDS or self._asked.was_busy(now)):
            return False
        self._asked, self._is_excused = RequestStart(), True
        return True


def _is_starved() -> bool:
    """Say whether this thread waits for its turn to run, so that it cannot tell who was slow."""
    began = time.monotonic()
    time.sleep(0.001)
    return time.monotonic() - began > LATE_SECONDS
