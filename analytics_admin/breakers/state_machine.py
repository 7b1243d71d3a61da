"""The rules of a circuit breaker as pure functions from one snapshot to the next.

``now`` is an argument everywhere, in seconds of the store's clock.
"""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from analytics_admin.breakers.policy import BreakerPolicy, Rates
from analytics_admin.breakers.state import (
    RUN_TIMES,
    Control,
    Counts,
    Hold,
    Results,
    Snapshot,
    State,
    Transition,
)

MAX_BACKOFF_SECONDS = 86_400.0
"""Longest wait of a growing back-off whose policy sets no maximum."""

# Causes of transitions.
CONSECUTIVE_FAILURES = "consecutive_failures"
FAILURE_RATE = "failure_rate"
SLOW_CALL_RATE = "slow_call_rate"
WAIT_OVER = "wait_over"
PROBE_FAILED = "probe_failed"
PROBES_SUCCEEDED = "probes_succeeded"
RESET = "reset"
CONTROL = "control"
HOLD_OVER = "hold_over"
PROBE_ALLOWED = "probe_allowed"

LATE_SHARE = 1 / 6
"""Part of the delay by which a success is reported at the latest: within an interval its process
looks at the new generation, within another it reports. Rates at the end of the delay are at most a
fifth too high."""
CLOSE_SHARE = 0.5
"""Part of a rate's limit from which successes are told as they are where a rate is at its limit."""

HOLD_RETRY_SECONDS = 60.0
"""``retry_after`` of a breaker that is held open until an operator releases it."""

WOULD_OPEN = "would_open"
"""Recorded state of a breaker under METRICS_ONLY that its rules would have opened."""

_PASSING = (State.CLOSED, State.UNKNOWN)


class Admission(Enum):
    """What a caller may do next."""

    ALLOW = 1
    PROBE = 2  # once the store has granted a permit
    REJECT = 3


def first_generation() -> str:
    """Return a random generation for a new record, so that an emptied store never repeats one."""
    return f"{secrets.token_hex(8)}:1:{draw_suffix()}"


def next_generation(generation: str) -> str:
    """Return a generation that follows; it differs from every other one.

    Two moves from the same generation, made by a server and by one that took its place without
    having heard of them, begin two generations.
    """
    identity, counter = _parts(generation)
    return f"{identity}:{counter + 1}:{draw_suffix()}" if counter else first_generation()


def is_new_record(generation: str, known: str) -> bool:
    """Return whether this is the first generation of another record than the known one's."""
    identity, counter = _parts(generation)
    return counter == 1 and identity != _parts(known)[0]


def count_moves(generation: str) -> int | None:
    """Return how often the record of this generation has moved; None: not known here."""
    _, counter = _parts(generation)
    return counter - 1 if counter else None


def is_earlier(snapshot: Snapshot, known: Snapshot) -> bool:
    """Return whether the breaker was as in ``snapshot`` before it was as in ``known``."""
    identity, counter = _parts(snapshot.generation)
    known_identity, known_counter = _parts(known.generation)
    is_before = 0 < counter < known_counter and snapshot.entered_at < known.entered_at
    return identity == known_identity and is_before


def draw_suffix() -> str:
    """Return what makes a generation differ from others of its record and number."""
    return secrets.token_hex(4)


def _parts(generation: str) -> tuple[str, int]:
    """Return the record's identity, and a number that grows by each move; 0: not known here."""
    identity, _, rest = generation.partition(":")
    counter = rest.partition(":")[0]
    return identity, int(counter) if counter.isdecimal() else 0


def new_record() -> Snapshot:
    """Return a closed breaker without counts."""
    return Snapshot(generation=first_generation())


def control_in_force(snapshot: Snapshot, now: float) -> Control:
    """Return the control in force; an expired hold is none."""
    if snapshot.hold is None or snapshot.hold.is_over(now):
        return Control.AUTOMATIC
    return snapshot.hold.control


def display_state(snapshot: Snapshot | None, now: float) -> str:
    """Return the state that calls meet: the hold in force, else the state.

    A breaker without a record is closed. An expired hold shows the state that follows it, even
    before a process has recorded it.
    """
    if snapshot is None:
        return State.CLOSED.value
    control = control_in_force(snapshot, now)
    if control is not Control.AUTOMATIC:
        return control.value
    return _after_hold(snapshot).state.value if snapshot.hold else snapshot.state.value


def would_have_opened(snapshot: Snapshot) -> bool:
    """Return whether METRICS_ONLY has kept the breaker from opening."""
    hold = snapshot.hold
    return hold is not None and hold.control is Control.METRICS_ONLY and snapshot.permits > 0


def label(snapshot: Snapshot) -> str:
    """Return the recorded name of the breaker's state: the hold, expired or not, else the state."""
    return snapshot.hold.control.value if snapshot.hold else snapshot.state.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of one breaker, to be made if it is still at ``expected`` (None: no record).

    A move with a ``cause`` is recorded among the breaker's transitions, with a random
    ``attempt`` id and the name of the operator, if there is one.
    """

    name: str
    expected: Snapshot | None
    new: Snapshot
    cause: str = ""
    attempt: str = field(default_factory=lambda: secrets.token_hex(8))
    actor: str = ""
    prober: str = ""
    """The id of the process that wins or returns the permits; "" if no process is to answer for
    them."""

    @property
    def from_label(self) -> str:
        return "" if self.expected is None else label(self.expected)

    @property
    def to_label(self) -> str:
        """The state or hold that begins; a permit under METRICS_ONLY stands for an opening."""
        begins = self.expected is None or self.expected.generation != self.new.generation
        hold = self.new.hold
        if hold is not None and hold.control is Control.METRICS_ONLY and not begins:
            return WOULD_OPEN
        return label(self.new)

    def applies_to(self, current: Snapshot | None) -> bool:
        """Compare only the generation and the permits granted."""
        return _identity(current) == _identity(self.expected)


def retry_after(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> float:
    """Return the seconds until a probe may pass; 0 when one may pass now.

    A store whose clock was set back never extends the wait. A hold without an end counts as
    HOLD_RETRY_SECONDS.
    """
    if snapshot.hold is not None:
        return _hold_retry(snapshot.hold, now)
    if snapshot.state in _PASSING:
        return 0.0
    if snapshot.state is State.OPEN:
        return min(max(0.0, snapshot.entered_at + snapshot.wait - now), snapshot.wait)
    if not _is_fully_granted(snapshot, policy):
        return 0.0
    limit = policy.max_wait_duration_in_half_open_state
    return min(max(0.0, snapshot.entered_at + limit - now), limit)


def admission(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> Admission:
    """Return what a caller that sees this snapshot may do."""
    if snapshot.hold is not None:
        return _admission_under_hold(snapshot.hold, now)
    if snapshot.state in _PASSING:
        return Admission.ALLOW
    if snapshot.state is State.HALF_OPEN and _is_fully_granted(snapshot, policy):
        return Admission.REJECT  # until a probe's result is there, or the round is over
    return Admission.REJECT if retry_after(snapshot, policy, now) > 0 else Admission.PROBE


def grant_permit(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with one more permit, for a caller whose admission is PROBE.

    The first permit after the open wait begins the half-open state.
    """
    if snapshot.hold is None and snapshot.state is State.HALF_OPEN:
        return replace(snapshot, permits=snapshot.permits + 1)
    return _enter(snapshot, State.HALF_OPEN, attempts=snapshot.attempts, permits=1)


def begin_round_anew(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> Snapshot:
    """Return a new half-open round in place of an old one all of whose permits were returned.

    What is left of its time may be too short for a probe.
    """
    is_round = snapshot.state is State.HALF_OPEN and snapshot.hold is None
    age = now - snapshot.entered_at
    if not is_round or snapshot.permits or age < policy.max_wait_duration_in_half_open_state / 2:
        return snapshot
    return _enter(snapshot, State.HALF_OPEN, attempts=snapshot.attempts)


def return_permit(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after a probe without a result has returned its permit."""
    return replace(snapshot, permits=max(0, snapshot.permits - 1))


def due_transition(
    snapshot: Snapshot,
    policy: BreakerPolicy,
    now: float,
    *,
    rate_delay: float,
    run_delay: float = 0.0,
    chance: float = 0.5,
) -> Transition | None:
    """Return the transition that the counts require, or None.

    A failure is reported at once, a success later. So the rates of a generation younger than
    ``rate_delay`` seconds are evaluated with the successes that other processes may not have
    reported yet; 0: all results are reported. ``chance`` (0 to 1) selects the wait within its
    random spread.

    A run of failures counts ``run_delay`` seconds after it has reached the threshold: until then
    another process may report a success that came between them.
    """
    if snapshot.hold is not None:
        if snapshot.hold.is_over(now):
            return Transition(old=snapshot, new=_after_hold(snapshot), cause=HOLD_OVER)
        return _shadow_opening(snapshot, policy, now, rate_delay, run_delay)
    if snapshot.state is State.CLOSED:
        cause = _trip_cause(snapshot, policy, now, rate_delay, run_delay)
        return _opening(snapshot, policy, cause, chance) if cause else None
    if snapshot.state is State.HALF_OPEN:
        cause = _probe_cause(snapshot.counts, policy)
        if cause is None and _is_round_over(snapshot, policy, now):
            cause = PROBE_FAILED
        if cause == PROBES_SUCCEEDED:
            return Transition(old=snapshot, new=_enter(snapshot, State.CLOSED), cause=cause)
        return _opening(snapshot, policy, cause, chance) if cause else None
    return None


def reset(snapshot: Snapshot) -> Snapshot:
    """Return the breaker closed and without a hold, with zero counts, in a new generation."""
    return _enter(snapshot, State.CLOSED)


def allow_probe(snapshot: Snapshot) -> Snapshot | None:
    """Return the breaker half-open before its wait is over; None unless its own rules opened it."""
    if snapshot.hold is not None or snapshot.state is not State.OPEN:
        return None
    return _enter(snapshot, State.HALF_OPEN, attempts=snapshot.attempts)


def control(snapshot: Snapshot, hold: Hold | None) -> Snapshot:
    """Return the breaker under this hold, or released from its hold (None).

    Both begin new counts. A release also replaces a record that cannot be read. A forced open
    breaker is released into half-open, so that probes test its backend; the others into closed.
    """
    if hold is None:
        is_free = snapshot.hold is None and snapshot.state is not State.UNKNOWN
        return snapshot if is_free else _after_hold(snapshot)
    return replace(
        _enter(snapshot, snapshot.state, attempts=snapshot.attempts, wait=snapshot.wait), hold=hold
    )


def _identity(snapshot: Snapshot | None) -> tuple[str, int]:
    return ("", 0) if snapshot is None else (snapshot.generation, snapshot.permits)


def _admission_under_hold(hold: Hold, now: float) -> Admission:
    if hold.control is not Control.FORCED_OPEN:
        return Admission.ALLOW
    return Admission.PROBE if hold.is_over(now) else Admission.REJECT


def _hold_retry(hold: Hold, now: float) -> float:
    if hold.control is not Control.FORCED_OPEN:
        return 0.0
    return HOLD_RETRY_SECONDS if hold.until is None else max(0.0, hold.until - now)


def _after_hold(snapshot: Snapshot) -> Snapshot:
    forced = snapshot.hold is not None and snapshot.hold.control is Control.FORCED_OPEN
    return _enter(
        snapshot,
        State.HALF_OPEN if forced else State.CLOSED,
        attempts=snapshot.attempts if forced else 0,
    )


def count_run(snapshot: Snapshot, results: Results, now: float = math.inf) -> Snapshot:
    """Return the snapshot with its consecutive failures after these results.

    Results of different processes are ordered by their times, whenever they are reported: a success
    takes the failures before it out of the run. At the same instant, successes came first. Times
    are whole microseconds since the generation began, and not ahead of ``now``.
    """
    began = snapshot.entered_at

    def since(at: float) -> int:
        return max(0, math.floor((min(at, now) - began) * 1e6 + 0.5))

    success = since(snapshot.last_success_at) if snapshot.last_success_at else 0
    newest_success = results.newest_success_at if results.all_successes else 0.0
    if newest_success:
        success = max(success, since(newest_success))
    kept = [since(at) for at in snapshot.run_times]
    run = [at for at in kept if at >= success]
    # Of a long run, only some times are kept: the others count while none of these goes.
    earlier = snapshot.consecutive_failures - len(kept)
    if len(run) < len(kept) or newest_success > snapshot.last_failure_at:
        earlier = 0
    failed = results.all_failures - results.ended_failures
    failed_at = results.failed_at or (now,) * min(results.all_failures, RUN_TIMES)
    own = failed_at[-failed:] if failed else ()
    earlier += failed - len(own)
    run = sorted([*run, *(at for at in map(since, own) if at >= success)])
    newest = min(failed_at[-1], now) if results.all_failures else 0.0
    return replace(
        snapshot,
        consecutive_failures=earlier + len(run),
        run_times=tuple(began + at / 1e6 for at in _thinned(run)),
        last_success_at=began + success / 1e6 if success else 0.0,
        last_failure_at=max(snapshot.last_failure_at, newest),
    )


def _thinned(run: Sequence[int]) -> Sequence[int]:
    """Return the times of the run that are kept."""
    half = RUN_TIMES // 2
    return run if len(run) <= RUN_TIMES else [*run[:half], *run[-half:]]


def run_reached_at(snapshot: Snapshot, limit: int) -> float | None:
    """Return the store time at which the run reached so many failures; None: it did not.

    Further failures do not put it off, as long as RUN_TIMES tell it.
    """
    run, times = snapshot.consecutive_failures, snapshot.run_times
    if run < limit:
        return None
    if not times:
        return snapshot.last_failure_at
    if limit > RUN_TIMES // 2 and run > len(times):  # among those that are not kept
        return times[min(max(RUN_TIMES // 2, limit - 1 - (run - len(times))), len(times) - 1)]
    return times[min(limit, len(times)) - 1]


def closeness(counts: Counts, rates: Rates) -> int:
    """Return 2 if a rate of these calls is at its limit, 1 if it may soon be, else 0.

    It may be from CLOSE_SHARE of its limit on. Calls that it needs and that are missing count as
    harmless for that.
    """
    close = 0
    for hits, limit in ((counts.failures, rates.failures), (counts.slow, rates.slow_calls)):
        if not hits or not limit:
            continue
        if counts.calls >= rates.calls_needed and 100 * hits / counts.calls >= limit:
            return 2
        if 100 * hits >= CLOSE_SHARE * limit * max(counts.calls, rates.calls_needed):
            close = 1
    return close


def open_wait(policy: BreakerPolicy, attempts: int, chance: float) -> float:
    """Return the seconds to stay open at this opening since the last close; the first is 1."""
    max_wait = policy.max_wait_duration_in_open_state or max(
        MAX_BACKOFF_SECONDS, policy.wait_duration_in_open_state
    )
    try:
        growth = policy.open_state_backoff_multiplier ** min(attempts - 1, 64)
    except OverflowError:
        growth = math.inf
    wait = min(policy.wait_duration_in_open_state * growth, max_wait)
    return wait * (1 + policy.randomized_wait_factor * (2 * chance - 1))


def _trip_cause(
    snapshot: Snapshot, policy: BreakerPolicy, now: float, rate_delay: float, run_delay: float
) -> str | None:
    age, limit = now - snapshot.entered_at, policy.failure_threshold
    reached_at = None if limit is None else run_reached_at(snapshot, limit)
    if reached_at is not None and now - reached_at >= run_delay:
        return CONSECUTIVE_FAILURES
    if policy.window is None or snapshot.window.calls < policy.calls_needed:
        return None
    if age >= rate_delay:
        return _rate_cause(snapshot.window, policy)
    late = LATE_SHARE * rate_delay
    if age <= late:
        return None
    # At an even pace, this part of the generation's successes is reported.
    reported = 1 - late / age
    calls = reported * max(snapshot.counts.calls, snapshot.window.calls)
    if calls < policy.calls_needed:
        return None
    # Once the window began later than that, earlier successes come in for those that are late.
    is_covered = (age - late if policy.window.timed else calls) >= policy.window.size
    return _rate_cause(snapshot.window, policy, 1.0 if is_covered else reported)


def _rate_cause(counts: Counts, policy: BreakerPolicy, reported: float = 1.0) -> str | None:
    """Evaluate the rates of counts that hold this part, over 0, of the successes."""
    failure_limit = policy.failure_rate_threshold
    if failure_limit is not None and _rate(counts.failures, counts, reported) >= failure_limit:
        return FAILURE_RATE
    slow_limit = policy.slow_call_rate_threshold
    if slow_limit is not None and _rate(counts.slow, counts, reported) >= slow_limit:
        return SLOW_CALL_RATE
    return None


def _rate(hits: int, counts: Counts, reported: float) -> float:
    return 100 * hits / (hits + (counts.calls - hits) / reported)


def _probe_cause(counts: Counts, policy: BreakerPolicy) -> str | None:
    """Evaluate a half-open round: without a failure rate rule, one failure opens the breaker."""
    if policy.failure_rate_threshold is None and counts.failures:
        return PROBE_FAILED
    needed = policy.permitted_number_of_calls_in_half_open_state
    if policy.window is not None:
        needed = min(needed, policy.calls_needed)
    if counts.calls < needed:
        return None
    return PROBE_FAILED if _rate_cause(counts, policy) else PROBES_SUCCEEDED


def _is_fully_granted(snapshot: Snapshot, policy: BreakerPolicy) -> bool:
    return snapshot.permits >= policy.permitted_number_of_calls_in_half_open_state


def _is_round_over(snapshot: Snapshot, policy: BreakerPolicy, now: float) -> bool:
    """Return whether the results of a half-open round should have come by now."""
    if not _is_fully_granted(snapshot, policy):
        return False
    return now - snapshot.entered_at >= policy.max_wait_duration_in_half_open_state


def _opening(snapshot: Snapshot, policy: BreakerPolicy, cause: str, chance: float) -> Transition:
    attempts = snapshot.attempts + 1
    wait = open_wait(policy, attempts, chance)
    new = _enter(snapshot, State.OPEN, attempts=attempts, wait=wait)
    return Transition(old=snapshot, new=new, cause=cause)


def _shadow_opening(
    snapshot: Snapshot, policy: BreakerPolicy, now: float, rate_delay: float, run_delay: float
) -> Transition | None:
    """Return the mark that METRICS_ONLY kept the breaker from opening: a permit, once per hold.

    From then on its calls would have been rejected, so that later counts prove nothing.
    """
    if would_have_opened(snapshot) or snapshot.hold is None:
        return None
    if snapshot.hold.control is not Control.METRICS_ONLY:
        return None
    cause = _trip_cause(snapshot, policy, now, rate_delay, run_delay)
    return (
        Transition(old=snapshot, new=replace(snapshot, permits=1), cause=cause) if cause else None
    )


def _enter(
    snapshot: Snapshot, state: State, *, attempts: int = 0, wait: float = 0.0, permits: int = 0
) -> Snapshot:
    """Begin a new generation; the store sets its time."""
    return Snapshot(
        generation=next_generation(snapshot.generation),
        state=state,
        attempts=attempts,
        wait=wait,
        permits=permits,
    )
