"""How long a process waits for a store before it goes on without it.

It is told when a request was sent and when its answer came. Delays of the process' own, for lack of
processor time, are not blamed on the store.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from analytics_admin.i18n import Message, gettext_noop

T = TypeVar("T")

MAX_WAIT_SECONDS = 0.15
"""Longest time that a call waits for the store. Consecutive slow answers share this budget."""
SLOW_ANSWER_SECONDS = 0.05
"""An answer that takes longer is slow. A store that stays slow is treated as lost."""
SILENT_SECONDS = 0.04
"""A call goes on without the store when no byte of an answer has come by then. A store that is
silent again and again until MAX_WAIT_SECONDS are spent is treated as lost."""
BUSY_SHARE = 0.5
"""Share of a core from which the process counts as busy: its threads wait for each other."""
MAX_QUEUE_SECONDS = 0.6
"""Longest time that a caller waits for its turn while its process is not busy: then the store
delays the callers before it."""
LATE_SECONDS = 0.015
"""A thread or event loop that resumes this much later than planned lacks processor time."""

LONG_AGO = -1e9

TOO_SLOW = Message(gettext_noop("the store answers too slowly"))
NO_REPLY = Message(gettext_noop("the store did not answer in time"))


class RequestStart:
    """The moment at which a request was sent to a store."""

    __slots__ = ("at", "cpu_used")

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.cpu_used = time.process_time()

    def was_busy(self, until: float) -> bool:
        """Return whether this process has been busy since then."""
        return time.process_time() - self.cpu_used > BUSY_SHARE * (until - self.at)


class LatencyBudget:
    """The time that one process may still spend on slow answers of one store.

    Replace it after a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = 0.0
        self._charged_until = 0.0
        self._quick_sent_at = LONG_AGO  # when the last quickly answered request was sent
        self.progress_at = LONG_AGO
        """When the last queued job ended (monotonic seconds)."""
        self.was_slow = False
        """Whether answers came, but slowly."""

    @property
    def is_reduced(self) -> bool:
        """Whether slow answers have used up a part of it."""
        return self._spent > 0

    @property
    def left(self) -> float:
        """Seconds that the next answer may take."""
        return max(0.001, MAX_WAIT_SECONDS - self._spent)

    def charge(self, start: RequestStart, *, transfer: float = 0.0) -> bool:
        """Charge an answer that has just come, if it was slow; return whether the budget is spent.

        ``transfer`` are seconds that its size may take on a slow line: it is judged by when it
        began to come.

        Overlapping answers are charged once. Each quick answer gives SLOW_ANSWER_SECONDS back, so
        rare delays do not add up.
        """
        now = time.monotonic()
        is_slow = now - start.at - transfer > SLOW_ANSWER_SECONDS
        if not is_slow:
            self._quick_sent_at = start.at
            if not self._spent:
                return False
        elif start.was_busy(now) or _lacks_processor():
            return False
        with self._lock:
            if not is_slow:
                self._spent = max(0.0, self._spent - SLOW_ANSWER_SECONDS)
            elif self._quick_sent_at > start.at:
                return False  # a later request was answered sooner: threads wait for each other
            else:
                self.was_slow = True
                if start.at >= self._charged_until:
                    self._spent += now - start.at
                    self._charged_until = now
            return self._spent >= MAX_WAIT_SECONDS

    def charge_silence(self, start: RequestStart, seconds: float = MAX_WAIT_SECONDS) -> bool:
        """Charge a request that was given up after so much silence; return whether all is spent.

        The kernel says that nothing has come, also to a thread that wakes up late: a process that
        lacks processor time is no excuse. Silences that overlap are charged once.
        """
        now = time.monotonic()
        with self._lock:
            if self._quick_sent_at <= start.at:
                since = max(start.at, self._charged_until, now - seconds)
                self._spent += max(0.0, now - since)
                self._charged_until = max(now, self._charged_until)
            # What is left would not do for the next answer.
            return self._spent > MAX_WAIT_SECONDS - SILENT_SECONDS / 2

    def note_progress(self) -> None:
        """Note that a queued job has ended."""
        self.progress_at = time.monotonic()


class CallerWait:
    """The time that one caller may still wait for answers, in all its requests together.

    A busy process blames itself for slow answers, not the store; still its callers wait no longer.
    """

    __slots__ = ("_since", "_spent", "is_cut")

    def __init__(self) -> None:
        self._since = LONG_AGO
        self._spent = 0.0
        self.is_cut = False
        """Whether an answer was given less time because of those before it."""

    @property
    def is_over(self) -> bool:
        """Whether to send no more requests."""
        return self._spent >= MAX_WAIT_SECONDS

    def begin(self, at: float) -> None:
        """Note that a request is sent at this monotonic instant."""
        self._since = at

    def end(self) -> None:
        """Charge the request, which is answered or given up."""
        self._spent, self._since = self._waited(), LONG_AGO

    def forgive(self, seconds: float) -> None:
        """Take so much of the present request for the process' own delay.

        At most SLOW_ANSWER_SECONDS are left by that: the caller has waited, whyever.
        """
        excess = self._waited() - (MAX_WAIT_SECONDS - SLOW_ANSWER_SECONDS)
        self._since += max(0.0, min(seconds, excess))

    def renew(self) -> None:
        """Allow all the time again, after a pause of the caller's own."""
        self._spent = 0.0

    @property
    def left(self) -> float:
        """Seconds for which it may still wait."""
        return max(0.001, MAX_WAIT_SECONDS - self._waited())

    def allowance(self) -> float | None:
        """Return the seconds that the next answer may take; None: as usual."""
        waited = self._waited()
        if waited <= SLOW_ANSWER_SECONDS:
            return None
        self.is_cut = True
        return self.left

    def _waited(self) -> float:
        if self._since == LONG_AGO:
            return self._spent
        return self._spent + time.monotonic() - self._since


class QueuedWait:
    """A caller's wait for a queued job: first for its turn, then for the store's answer."""

    def __init__(
        self,
        budget: LatencyBudget,
        caller: CallerWait | None = None,
        *,
        limit: float | None = None,
    ) -> None:
        self._budget = budget
        self._limit = limit
        if caller is not None and (allowed := caller.allowance()) is not None:
            self._limit = allowed if limit is None else min(limit, allowed)
        self._start = self._queued = RequestStart()
        self._is_begun = self._is_extended = False
        self.queued_for = 0.0
        """Seconds for which the job waited for its turn."""
        self.is_given_up = False
        """Whether nobody wants the answer any more: a job whose turn comes later need not begin."""

    def begin(self) -> None:
        """Note that the request is sent to the store now."""
        self._start, self._is_begun = RequestStart(), True
        self.queued_for = self._start.at - self._queued.at

    @property
    def start(self) -> RequestStart:
        """When the request was sent or, before that, when the job was queued."""
        return self._start

    def wait_for(self, job: "Future[T]") -> T:
        """Return the job's result.

        Raises:
            TimeoutError: the job did not end in time.
        """
        while True:
            until = time.monotonic() + (limit := max(0.0, self.left))
            try:
                return job.result(timeout=limit)
            except TimeoutError:
                if job.done():  # at this very moment, or the job itself raised it
                    return job.result()
                if not self.may_continue(until):
                    raise

    async def await_for(self, job: "Future[T]") -> T:
        """Do what ``wait_for`` does without blocking the event loop."""
        wrapped = asyncio.wrap_future(job)
        while True:
            until = time.monotonic() + (limit := max(0.0, self.left))
            try:
                return await asyncio.wait_for(asyncio.shield(wrapped), limit)
            except TimeoutError:
                if job.done():
                    return job.result()
                if not self.may_continue(until):
                    wrapped.cancel()  # its result is no longer needed
                    raise

    @property
    def left(self) -> float:
        """Seconds for which to go on waiting; stop at 0 or less."""
        since = self._start.at
        if not self._is_begun:
            since = max(since, self._budget.progress_at)
        limit = self._budget.left
        if self._limit is not None:
            limit = min(limit, self._limit)
        return since + limit - time.monotonic()

    def may_continue(self, until: float) -> bool:
        """Return whether to go on after a wait that should have ended at ``until``.

        A caller that resumes late, or whose process was busy, has delayed the executor's threads as
        well. The wait is extended once for that, by SLOW_ANSWER_SECONDS.
        """
        now = time.monotonic()
        if self.left > 0:
            waits_long = not self._is_begun and now - self._queued.at > MAX_QUEUE_SECONDS
            return not waits_long or self._queued.was_busy(now)
        if self._is_extended or not (now - until > LATE_SECONDS or self._start.was_busy(now)):
            return False
        self._start, self._is_extended = RequestStart(), True
        self._limit = SLOW_ANSWER_SECONDS
        return True


def is_quick(check: Callable[[], None]) -> bool:
    """Return whether a store passes the check quickly more often than not."""
    durations = []
    for _ in range(3):
        began = time.monotonic()
        check()
        durations.append(time.monotonic() - began)
    return statistics.median(durations) <= SLOW_ANSWER_SECONDS


def _lacks_processor() -> bool:
    """Return whether this thread waits for processor time, so that it cannot measure the store."""
    began = time.monotonic()
    time.sleep(0.001)
    return time.monotonic() - began > LATE_SECONDS
