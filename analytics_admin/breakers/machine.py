"""The circuit breaker's rules, pure: what may pass, what is due, what a reset makes.

Knows no clock, no store and no process: ``now`` is an argument, in seconds of the store's clock,
and a snapshot goes in and a snapshot comes out.
"""

import math
import secrets
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from analytics_admin.breakers.policy import BreakerPolicy

LONGEST_BACKOFF = 86_400.0
"""Seconds at which a back-off without a maximum of its own stops growing."""

# Why a breaker moved.
CONSECUTIVE_FAILURES = "consecutive_failures"
FAILURE_RATE = "failure_rate"
SLOW_CALL_RATE = "slow_call_rate"
WAIT_OVER = "wait_over"
PROBE_FAILED = "probe_failed"
PROBES_SUCCEEDED = "probes_succeeded"
RESET = "reset"


class State(StrEnum):
    """What a breaker does with calls.

    UNKNOWN: its record cannot be read (another release wrote it, say). Calls pass and nothing is
    due, until a reset writes it anew.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    UNKNOWN = "unknown"


_PASSING = (State.CLOSED, State.UNKNOWN)


class Verdict(Enum):
    """What a caller may do next."""

    PASSES = 1
    PROBES = 2  # after winning a permit from the store
    REJECTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of calls; a slow one that failed is in both ``failures`` and ``slow``."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def failure_rate(self) -> float:
        """Per cent of the calls; 0 without any."""
        return 100 * self.failures / self.calls if self.calls else 0.0

    def slow_rate(self) -> float:
        """Per cent of the calls; 0 without any."""
        return 100 * self.slow / self.calls if self.calls else 0.0


NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A breaker as the store holds it at one instant.

    ``generation`` is compared for equality only; every transition and reset makes a new one, and
    the counts belong to it.
    """

    generation: str
    state: State = State.CLOSED
    entered_at: float = 0.0
    """Store time at which this generation began."""
    wait: float = 0.0
    """Seconds that this open state lasts."""
    attempts: int = 0
    """Times it has opened without closing in between."""
    permits: int = 0
    """Probe permits granted in this half-open round."""
    consecutive_failures: int = 0
    last_failure_at: float = 0.0
    counts: Counts = NO_COUNTS
    """All calls of this generation."""
    window: Counts = NO_COUNTS
    """Those in the window that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What calls of one generation have come to, not yet told to the store.

    Within one report the quick successes came first and the failures last.
    """

    successes: tuple[tuple[int, int], ...] = ()
    """Quick successes: (second of the store's clock, how many), oldest first."""
    newest_success_at: float = 0.0
    slow_successes: int = 0
    failures: int = 0
    slow_failures: int = 0

    @property
    def all_successes(self) -> int:
        return self.slow_successes + sum(number for _, number in self.successes)

    @property
    def all_failures(self) -> int:
        return self.failures + self.slow_failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where a breaker is to go, and the rule that sends it there."""

    new: Snapshot
    cause: str


def first_generation() -> str:
    """Return a generation for a new record; random, so that an emptied store never repeats one."""
    return f"{secrets.token_hex(8)}:1"


def next_generation(generation: str) -> str:
    """Return the generation that follows, unequal to every earlier one of its record."""
    identity, _, counter = generation.rpartition(":")
    if not identity or not counter.isdecimal():  # nothing that this release has written
        return first_generation()
    return f"{identity}:{int(counter) + 1}"


def new_record() -> Snapshot:
    """Return a closed breaker that never counted anything."""
    return Snapshot(generation=first_generation())


def retry_after(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> float:
    """Return the seconds until a probe may pass; 0 when one may pass now.

    A store whose clock has stepped back never makes a breaker wait longer than it was to.
    """
    if snapshot.state in _PASSING:
        return 0.0
    if snapshot.state is State.OPEN:
        return min(max(0.0, snapshot.entered_at + snapshot.wait - now), snapshot.wait)
    if snapshot.permits < policy.permitted_number_of_calls_in_half_open_state:
        return 0.0
    limit = policy.max_wait_duration_in_half_open_state
    return min(max(0.0, snapshot.entered_at + limit - now), limit)


def judge(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> Verdict:
    """Say what a caller who sees this snapshot may do."""
    if snapshot.state in _PASSING:
        return Verdict.PASSES
    return Verdict.REJECTED if retry_after(snapshot, policy, now) > 0 else Verdict.PROBES


def grant_permit(snapshot: Snapshot, policy: BreakerPolicy) -> Snapshot:
    """Return the snapshot that holds one permit more, for a caller judged PROBES.

    The first permit after the open time begins half-open; when all are granted, it begins a new
    round, in which probes that never reported are forgiven.
    """
    limit = policy.permitted_number_of_calls_in_half_open_state
    if snapshot.state is State.HALF_OPEN and snapshot.permits < limit:
        return replace(snapshot, permits=snapshot.permits + 1)
    return _enter(snapshot, State.HALF_OPEN, attempts=snapshot.attempts, permits=1)


def return_permit(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after a probe that came to nothing gave its permit back."""
    return replace(snapshot, permits=max(0, snapshot.permits - 1))


def due_transition(
    snapshot: Snapshot, policy: BreakerPolicy, now: float, *, settling: float, chance: float = 0.5
) -> Transition | None:
    """Return what the counts make of the breaker, or None while they change nothing.

    ``settling`` (seconds): rates of a younger generation are not judged, since other processes
    still hold successes of theirs. ``chance`` (0 to 1) places the wait in its random spread.
    """
    if snapshot.state is State.CLOSED:
        cause = _trip_cause(snapshot, policy, settled=now - snapshot.entered_at >= settling)
        return _opening(snapshot, policy, cause, chance) if cause else None
    if snapshot.state is State.HALF_OPEN:
        cause = _probe_cause(snapshot.counts, policy)
        if cause == PROBES_SUCCEEDED:
            return Transition(new=_enter(snapshot, State.CLOSED), cause=cause)
        return _opening(snapshot, policy, cause, chance) if cause else None
    return None


def reset(snapshot: Snapshot) -> Snapshot:
    """Return the breaker closed, with zero counts, in a new generation."""
    return _enter(snapshot, State.CLOSED)


def count_run(snapshot: Snapshot, results: Results) -> int:
    """Return the run of failures after the results.

    A batch of successes ends the run only when its newest is later than the last failure
    counted: results of different processes have no other order.
    """
    ended = results.all_successes and results.newest_success_at > snapshot.last_failure_at
    return (0 if ended else snapshot.consecutive_failures) + results.all_failures


def open_wait(policy: BreakerPolicy, attempts: int, chance: float) -> float:
    """Return the seconds to stay open at the given consecutive opening, the first being 1."""
    longest = policy.max_wait_duration_in_open_state or max(
        LONGEST_BACKOFF, policy.wait_duration_in_open_state
    )
    try:
        growth = policy.open_state_backoff_multiplier ** min(attempts - 1, 64)
    except OverflowError:
        growth = math.inf
    wait = min(policy.wait_duration_in_open_state * growth, longest)
    return wait * (1 + policy.randomized_wait_factor * (2 * chance - 1))


def _trip_cause(snapshot: Snapshot, policy: BreakerPolicy, *, settled: bool) -> str | None:
    limit = policy.failure_threshold
    if limit is not None and snapshot.consecutive_failures >= limit:
        return CONSECUTIVE_FAILURES
    if not settled or snapshot.window.calls < policy.calls_needed:
        return None
    return _rate_cause(snapshot.window, policy)


def _rate_cause(counts: Counts, policy: BreakerPolicy) -> str | None:
    failure_limit = policy.failure_rate_threshold
    if failure_limit is not None and counts.failure_rate() >= failure_limit:
        return FAILURE_RATE
    slow_limit = policy.slow_call_rate_threshold
    if slow_limit is not None and counts.slow_rate() >= slow_limit:
        return SLOW_CALL_RATE
    return None


def _probe_cause(counts: Counts, policy: BreakerPolicy) -> str | None:
    """Say what the round's results come to: one failure opens, unless a rate is to judge them."""
    if policy.failure_rate_threshold is None and counts.failures:
        return PROBE_FAILED
    needed = policy.permitted_number_of_calls_in_half_open_state
    if policy.window is not None:
        needed = min(needed, policy.calls_needed)
    if counts.calls < needed:
        return None
    return PROBE_FAILED if _rate_cause(counts, policy) else PROBES_SUCCEEDED


def _opening(snapshot: Snapshot, policy: BreakerPolicy, cause: str, chance: float) -> Transition:
    attempts = snapshot.attempts + 1
    wait = open_wait(policy, attempts, chance)
    return Transition(new=_enter(snapshot, State.OPEN, attempts=attempts, wait=wait), cause=cause)


def _enter(
    snapshot: Snapshot, state: State, *, attempts: int = 0, wait: float = 0.0, permits: int = 0
) -> Snapshot:
    """Begin a new generation; the store stamps when."""
    return Snapshot(
        generation=next_generation(snapshot.generation),
        state=state,
        attempts=attempts,
        wait=wait,
        permits=permits,
    )
