"""The circuit breaker's rules, pure: what may pass, what is due, what a reset makes.

Knows no clock, no store and no process: ``now`` is an argument, in seconds of the store's clock,
and a snapshot goes in and a snapshot comes out.
"""

import secrets
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from analytics_admin.breakers.policy import BreakerPolicy


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(Enum):
    """What a caller may do next."""

    PASSES = 1
    PROBES = 2  # after winning a permit from the store
    REJECTED = 3


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
    successes: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What calls of one generation have come to, not yet told to the store.

    Within one report the successes came before the failures.
    """

    failures: int = 0
    successes: int = 0
    newest_success_at: float = 0.0


def first_generation() -> str:
    """Return a generation for a new record; random, so that an emptied store never repeats one."""
    return f"{secrets.token_hex(8)}:1"


def next_generation(generation: str) -> str:
    """Return the generation that follows, unequal to every earlier one of its record."""
    identity, _, counter = generation.rpartition(":")
    return f"{identity}:{int(counter) + 1}"


def new_record() -> Snapshot:
    """Return a closed breaker that never counted anything."""
    return Snapshot(generation=first_generation())


def retry_after(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> float:
    """Return the seconds until a probe may pass; 0 when one may pass now.

    A store whose clock has stepped back never makes a breaker wait longer than it was to.
    """
    if snapshot.state is State.CLOSED:
        return 0.0
    if snapshot.state is State.OPEN:
        return min(max(0.0, snapshot.entered_at + snapshot.wait - now), snapshot.wait)
    if snapshot.permits < policy.permitted_number_of_calls_in_half_open_state:
        return 0.0
    limit = policy.max_wait_duration_in_half_open_state
    return min(max(0.0, snapshot.entered_at + limit - now), limit)


def judge(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> Verdict:
    """Say what a caller who sees this snapshot may do."""
    if snapshot.state is State.CLOSED:
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


def due_transition(snapshot: Snapshot, policy: BreakerPolicy) -> Snapshot | None:
    """Return what the counts make of the breaker, or None while they change nothing."""
    if snapshot.state is State.CLOSED:
        tripped = snapshot.consecutive_failures >= policy.failure_threshold
        return _open(snapshot, policy) if tripped else None
    if snapshot.state is State.HALF_OPEN:
        if snapshot.failures:
            return _open(snapshot, policy)
        if snapshot.successes >= policy.permitted_number_of_calls_in_half_open_state:
            return _enter(snapshot, State.CLOSED)
    return None


def reset(snapshot: Snapshot) -> Snapshot:
    """Return the breaker closed, with zero counts, in a new generation."""
    return _enter(snapshot, State.CLOSED)


def apply_results(snapshot: Snapshot, results: Results, now: float) -> Snapshot:
    """Return the snapshot with the results counted, as the store does it at its time ``now``.

    A batch of successes ends the run of failures only when its newest is later than the last
    failure counted: results of different processes have no other order.
    """
    run = snapshot.consecutive_failures
    if results.successes and results.newest_success_at > snapshot.last_failure_at:
        run = 0
    return replace(
        snapshot,
        consecutive_failures=run + results.failures,
        last_failure_at=now if results.failures else snapshot.last_failure_at,
        successes=snapshot.successes + results.successes,
        failures=snapshot.failures + results.failures,
    )


def _open(snapshot: Snapshot, policy: BreakerPolicy) -> Snapshot:
    wait = policy.wait_duration_in_open_state
    return _enter(snapshot, State.OPEN, attempts=snapshot.attempts + 1, wait=wait)


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
