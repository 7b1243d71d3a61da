"""A breaker as this process last read it, and the successes that the store does not have yet."""

import threading
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from analytics_admin.breakers.policy import BreakerPolicy, encode_policy
from analytics_admin.breakers.state import Control, Results, Snapshot, State
from analytics_admin.breakers.state_machine import control_in_force
from analytics_admin.breakers.stores.base import NO_RESULTS, Report

NEVER = float("-inf")

if TYPE_CHECKING:
    _Count = count[int]  # generic to the type checker alone
else:
    _Count = count


class SuccessCounter(_Count):
    """Successes of one generation in one second of the store's clock: ``next()`` counts one.

    ``itertools.count`` advances in one step of the interpreter, so no thread's count is lost.
    """

    __slots__ = ("_reported", "generation", "second")
    generation: str
    second: int
    _reported: int

    def take(self) -> int:
        """Return the number counted since the last ``take``."""
        counted = next(self)  # reading is a step too, which the next reading subtracts
        number = counted - self._reported
        self._reported = counted + 1
        return number


def _new_counter(generation: str, second: int) -> SuccessCounter:
    counter = SuccessCounter()
    counter.generation = generation
    counter.second = second
    counter._reported = 0
    return counter


class LocalState:
    """One breaker as this process knows it.

    Calls before ``passes_until`` (monotonic seconds) pass without a further check. They count
    themselves with ``next(counter)``, if ``counter`` is still the one with which they began.
    """

    __slots__ = (
        "_lock",
        "_old_counters",
        "_read_now",
        "counter",
        "name",
        "newest_success",
        "offset",
        "passes_until",
        "policy",
        "policy_reported_at",
        "read_at",
        "rejections",
        "slow_after",
        "snapshot",
        "spare_permit",
        "used_at",
    )

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self._lock = threading.Lock()
        self.snapshot: Snapshot | None = None
        self.read_at = NEVER
        self._read_now = NEVER
        self.offset = 0.0
        self.used_at = NEVER
        self.spare_permit: Snapshot | None = None
        self.passes_until = NEVER
        self.newest_success = NEVER
        self.counter = _new_counter("", 0)
        self._old_counters: list[SuccessCounter] = []
        self.rejections = _new_counter("", 0)
        self.policy = policy
        self.slow_after = float("inf")
        self.apply_policy(policy)

    def apply_policy(self, policy: BreakerPolicy) -> None:
        """Use this policy from now on."""
        self.policy = policy
        self.policy_reported_at = NEVER
        if policy.slow_call_rate_threshold is not None:
            self.slow_after = policy.slow_call_duration_threshold
        else:
            self.slow_after = float("inf")
        self.expire()

    def expire(self) -> None:
        """Treat what was read before as too old."""
        self.read_at = self.passes_until = self._read_now = NEVER

    def last_used_at(self) -> float:
        """Return when a call last used the breaker (monotonic seconds)."""
        return max(self.used_at, self.newest_success)

    def store_time(self, at: float) -> float:
        """Return the store's time at a monotonic instant of this process."""
        return at + self.offset

    def read(self, snapshot: Snapshot | None, store_now: float, at: float, interval: float) -> None:
        """Apply a reading of the store's time ``store_now`` that arrived at monotonic ``at``.

        Replies can overtake one another: one up to a second older than the last is ignored.
        Successes of another generation are dropped. A generation that begins in the future, since
        the store's clock was set back, counts from when it was first seen.
        """
        with self._lock:
            if self._read_now - 1.0 < store_now < self._read_now:
                return
            if snapshot is not None and snapshot.entered_at > store_now:
                snapshot = replace(snapshot, entered_at=self._first_seen(snapshot, store_now))
            self.snapshot = snapshot
            self._read_now = store_now
            self.read_at = at
            self.offset = store_now - at
            generation = "" if snapshot is None else snapshot.generation
            if generation != self.counter.generation:
                self._old_counters.clear()
                self.counter = _new_counter(generation, int(store_now))
            self._open_gate(at, interval)

    def take_spare(self) -> Snapshot | None:
        """Return the permit granted for a caller that could not wait, if it is still valid."""
        with self._lock:
            spare, self.spare_permit = self.spare_permit, None
            current = self.snapshot.generation if self.snapshot else None
            return spare if spare is not None and spare.generation == current else None

    def latest(self) -> Snapshot | None:
        """Return the last reading; a later success here ends its consecutive failures."""
        snapshot = self.snapshot
        if snapshot and self.store_time(self.newest_success) > snapshot.last_failure_at:
            return replace(snapshot, consecutive_failures=0)
        return snapshot

    def roll(self, at: float, interval: float) -> None:
        """Begin the counter of the current second, if the last second is over."""
        with self._lock:
            self._open_gate(at, interval)

    def count_success(self, generation: str, at: float) -> None:
        """Count a success that ended at monotonic ``at``, unless its generation is over."""
        with self._lock:
            second = int(self.store_time(at))
            if self.counter.generation != generation:
                return
            self._begin_counter(second)
            next(self.counter)
            self.newest_success = max(self.newest_success, at)

    def report(self, *, with_policy: bool = False) -> Report:
        """Return the successes and rejections since the last report."""
        with self._lock:
            counters = [*self._old_counters, self.counter]
            batches = tuple(
                (counter.second, number) for counter in counters if (number := counter.take())
            )
            # A thread may be about to count into a counter just replaced, so it is read again.
            del self._old_counters[:-2]
            rejected = self.rejections.take()
            results = Results(rejected=rejected) if rejected else NO_RESULTS
            if batches:
                newest = self.store_time(self.newest_success)
                results = Results(successes=batches, newest_success_at=newest, rejected=rejected)
            return Report(
                name=self.name,
                window=self.policy.window,
                generation=self.counter.generation,
                results=results,
                policy_text=encode_policy(self.policy) if with_policy else None,
            )

    def forget_pending(self) -> None:
        """Drop what is not reported yet."""
        self.report()

    def after_fork(self) -> None:
        """Start as a child: the parent reports its successes and may have held the lock."""
        self._lock = threading.Lock()
        self.forget_pending()

    def _first_seen(self, snapshot: Snapshot, store_now: float) -> float:
        before = self.snapshot
        if (
            before is None
            or before.generation != snapshot.generation
            or before.entered_at > store_now
        ):
            return store_now
        return before.entered_at

    def _open_gate(self, at: float, interval: float) -> None:
        """Set until when calls pass unchecked: within the interval and the current second."""
        self.passes_until = NEVER
        snapshot, now = self.snapshot, self.store_time(at)
        if snapshot is None or self.policy.record_result:
            return
        ends = float("inf")
        if snapshot.hold is not None:
            if control_in_force(snapshot, now) not in (Control.DISABLED, Control.METRICS_ONLY):
                return
            ends = snapshot.hold.until or ends
        elif snapshot.state is not State.CLOSED:
            return
        self._begin_counter(int(now))
        self.passes_until = min(self.read_at + interval, min(int(now) + 1, ends) - self.offset)

    def _begin_counter(self, second: int) -> None:
        if self.counter.second != second:
            self._old_counters.append(self.counter)
            self.counter = _new_counter(self.counter.generation, second)
