"""What the queries about circuit breakers return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics_admin.breakers import status
from analytics_admin.breakers.history import (
    PERIOD_SECONDS,
    Activity,
    FailureRecord,
    Period,
    Tally,
    TransitionRecord,
    oldest_period,
)
from analytics_admin.breakers.state import Counts, Snapshot, State
from analytics_admin.breakers.state_machine import WOULD_OPEN
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.services.obedience import Obedience
from analytics_admin.services.values import as_time

BreakerStatus = status.BreakerStatus

PERIODS_PER_MINUTE = 60 // PERIOD_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPage:
    """One page of a list; ``count`` is how many breakers all ``pages`` have."""

    count: int
    page: int
    pages: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    """How many of all registered breakers are in each state."""
    at: datetime
    """When the store was read, by its clock; ``retry_after`` counts from then."""
    activity: "Mapping[str, BreakerActivity]"
    """By name, if requested; else empty."""
    processes: Obedience | None
    """How many processes are up to date, if requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTransition:
    """A change of state or hold; ``actor`` is the operator who made it, if one did."""

    at: datetime
    from_state: str
    to_state: str
    cause: str
    actor: str
    consecutive_failures: int
    counts: Counts
    """The calls counted before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFailure:
    """One of the last failures, and the process where it happened."""

    at: datetime
    error: str
    """The exception's class; empty if there was none."""
    message: str
    """The exception's text, truncated; empty if the site does not store texts."""
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPeriod:
    """The calls of ten seconds from ``at`` on."""

    at: datetime
    counts: Counts
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerActivity:
    """A listed breaker's recent activity."""

    last_change: BreakerTransition | None
    """Its newest stored transition, if any."""
    since: datetime | None
    """When it entered its state; None for a breaker that was never used."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps. The newest period is incomplete."""

    @property
    def failure_rate(self) -> float | None:
        """Percent of the calls in ``history``; None without calls."""
        calls = sum(period.counts.calls for period in self.history)
        failures = sum(period.counts.failures for period in self.history)
        return 100 * failures / calls if calls else None

    @property
    def calls_per_minute(self) -> float:
        """Calls in the last six complete periods, without rejected ones."""
        minute = self.history[-1 - PERIODS_PER_MINUTE : -1]
        return float(sum(period.counts.calls for period in minute))

    @property
    def rejected(self) -> int:
        """Rejected calls in ``history``."""
        return sum(period.rejected for period in self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerDetail:
    """One breaker in detail."""

    status: BreakerStatus
    at: datetime
    """When the store was read, by its clock; ``retry_after`` counts from then."""
    since: datetime | None
    """When it entered its state; None for a breaker that was never used."""
    policy: Mapping[str, Any]
    """Every option, as a process reported it last. Exceptions and functions are named."""
    other_policies: Sequence[Mapping[str, Any]]
    """Policies that other processes reported in the last two hours, as during a deploy."""
    window: Counts | None
    """The calls that the rates are computed from; None if the policy has no rate."""
    failure_rate: float | None
    """Percent in the window; None below the policy's minimum number of calls."""
    slow_call_rate: float | None
    opened: BreakerTransition | None
    """The transition by which it opened, or would have opened under metrics_only."""
    last_used: datetime | None
    """When a process last reported that it uses it, as each does hourly; None: never."""
    failures: Sequence[BreakerFailure]
    """The last ten, newest first, across generations."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps. The newest period is incomplete."""
    transitions: Sequence[BreakerTransition]
    """The last twenty, newest first."""


def as_activities(reading: Reading, names: Sequence[str]) -> dict[str, BreakerActivity]:
    """Return the activity of these breakers, by name, from a reading that has it."""
    empty = tuple(as_history([], reading.now))
    return {
        name: _activity(reading.activity[name], reading.snapshots[name], empty) for name in names
    }


def _activity(
    activity: Activity, snapshot: Snapshot | None, empty: Sequence[BreakerPeriod]
) -> BreakerActivity:
    return BreakerActivity(
        last_change=as_transition(activity.last_change) if activity.last_change else None,
        since=entered_at(snapshot),
        history=_with_calls(empty, activity.tallies) if activity.tallies else empty,
    )


def _with_calls(empty: Sequence[BreakerPeriod], tallies: Sequence[Tally]) -> list[BreakerPeriod]:
    """Return the periods with these calls. Empty periods are shared: a list has many."""
    history, first = list(empty), round(empty[0].at.timestamp())
    for at, calls, failures, slow, rejected in tallies:
        place = (at - first) // PERIOD_SECONDS
        if 0 <= place < len(empty):  # the clock may have advanced since the reading
            history[place] = BreakerPeriod(
                at=empty[place].at,
                counts=Counts(calls=calls, failures=failures, slow=slow),
                rejected=rejected,
            )
    return history


def entered_at(snapshot: Snapshot | None) -> datetime | None:
    """Return when the breaker entered its state; None for one that was never used."""
    return as_time(snapshot.entered_at) if snapshot and snapshot.entered_at else None


def as_transition(record: TransitionRecord) -> BreakerTransition:
    return BreakerTransition(
        at=as_time(record.at),
        from_state=record.from_state,
        to_state=record.to_state,
        cause=record.cause,
        actor=record.actor,
        consecutive_failures=record.consecutive_failures,
        counts=record.counts,
    )


def find_opening(
    status: BreakerStatus, transitions: Sequence[BreakerTransition]
) -> BreakerTransition | None:
    """Return the transition that explains an open or half-open state, or ``would_open``."""
    if status.would_open:
        to_state = WOULD_OPEN
    elif status.state in (State.OPEN, State.HALF_OPEN):
        to_state = State.OPEN.value
    else:
        return None
    return next((transition for transition in transitions if transition.to_state == to_state), None)


def as_failure(record: FailureRecord) -> BreakerFailure:
    return BreakerFailure(
        at=as_time(record.at),
        error=record.error,
        message=record.message,
        host=record.host,
        pid=record.pid,
    )


def as_history(periods: Sequence[Period], now: float) -> list[BreakerPeriod]:
    """Return every period of the last five minutes, also those without calls."""
    by_time = {period.at: period for period in periods}
    every = range(oldest_period(now), int(now) + 1, PERIOD_SECONDS)
    return [
        BreakerPeriod(at=as_time(at), counts=period.calls, rejected=period.rejected)
        for at in every
        for period in [by_time.get(at) or Period(at=at)]
    ]
