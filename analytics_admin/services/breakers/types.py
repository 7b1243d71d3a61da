"""What the queries about circuit breakers return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
from analytics_admin.breakers.status import BreakerStatus
from analytics_admin.breakers.stores.base import WOULD_OPEN, Reading

__all__ = [
    "BreakerActivity",
    "BreakerDetail",
    "BreakerFailure",
    "BreakerPage",
    "BreakerPeriod",
    "BreakerStatus",
    "BreakerTransition",
    "as_activities",
    "as_failure",
    "as_history",
    "as_time",
    "as_transition",
    "entered_at",
    "find_opening",
]

PERIODS_A_MINUTE = 60 // PERIOD_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPage:
    """One page of a list; ``count`` is how many breakers all ``pages`` have."""

    count: int
    page: int
    pages: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    """How many of all the site's breakers are in each state, listed or not."""
    at: datetime
    """When the store was read, by its clock: ``retry_after`` counts from then on."""
    activity: "Mapping[str, BreakerActivity]"
    """Of each of ``breakers`` by name, if it was asked for; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTransition:
    """A breaker's move from one state or hold to another; ``actor`` is the operator behind it."""

    at: datetime
    from_state: str
    to_state: str
    cause: str
    actor: str
    consecutive_failures: int
    counts: Counts
    """What had been counted until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFailure:
    """One of the last failures, in the process that saw it."""

    at: datetime
    error: str
    """The exception's class; empty where no exception told of the failure."""
    message: str
    """The exception's text, cut; empty where the site does not keep texts."""
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
    """What a listed breaker has been doing lately."""

    last_change: BreakerTransition | None
    """The newest of its transitions that is kept; None: none is."""
    since: datetime | None
    """When it came to be so; None for one that nobody has used yet."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps; the newest period is not over yet."""

    @property
    def failure_rate(self) -> float | None:
        """Per cent of the calls in ``history``; None without any."""
        calls = sum(period.counts.calls for period in self.history)
        failures = sum(period.counts.failures for period in self.history)
        return 100 * failures / calls if calls else None

    @property
    def calls_per_minute(self) -> float:
        """Calls of the newest minute whose periods are all over, those rejected not among them."""
        minute = self.history[-1 - PERIODS_A_MINUTE : -1]
        return float(sum(period.counts.calls for period in minute))

    @property
    def rejected(self) -> int:
        """Calls that were rejected in ``history``."""
        return sum(period.rejected for period in self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerDetail:
    """All that is known of one breaker."""

    status: BreakerStatus
    at: datetime
    """When the store was read, by its clock: ``retry_after`` counts from then on."""
    since: datetime | None
    """When it came to be so; None for one that nobody has used yet."""
    policy: Mapping[str, Any]
    """Every option, exceptions and functions by their names, as the fleet last told it."""
    other_policies: Sequence[Mapping[str, Any]]
    """Those that other processes told in the last two hours: during a deploy there are several."""
    window: Counts | None
    """Those that the rates are taken of; None when the policy asks for no rate."""
    failure_rate: float | None
    """Per cent in the window; None while it holds fewer calls than the policy's minimum."""
    slow_call_rate: float | None
    opened: BreakerTransition | None
    """Why it is open or half-open, or would be but for metrics_only: the move that made it so."""
    last_used: datetime | None
    """When a process last said that it uses it, which each does hourly; None: none ever did."""
    failures: Sequence[BreakerFailure]
    """The last ten, newest first; of earlier generations too."""
    history: Sequence[BreakerPeriod]
    """The last five minutes, oldest first, without gaps; the newest period is not over yet."""
    transitions: Sequence[BreakerTransition]
    """The last twenty, newest first."""


def as_activities(reading: Reading, names: Sequence[str]) -> dict[str, BreakerActivity]:
    """Return what these breakers have been doing, by name, from a reading that has it."""
    quiet = tuple(as_history([], reading.now))
    return {
        name: _activity(reading.activity[name], reading.snapshots[name], quiet) for name in names
    }


def _activity(
    seen: Activity, snapshot: Snapshot | None, quiet: Sequence[BreakerPeriod]
) -> BreakerActivity:
    return BreakerActivity(
        last_change=as_transition(seen.last_change) if seen.last_change else None,
        since=entered_at(snapshot),
        history=_with_calls(quiet, seen.tallies) if seen.tallies else quiet,
    )


def _with_calls(quiet: Sequence[BreakerPeriod], tallies: Sequence[Tally]) -> list[BreakerPeriod]:
    """Return the periods with these calls; those without any are shared, for a list has many."""
    history, first = list(quiet), round(quiet[0].at.timestamp())
    for at, calls, failures, slow, rejected in tallies:
        place = (at - first) // PERIOD_SECONDS
        if 0 <= place < len(quiet):  # not if the clock has gone on since it was read
            history[place] = BreakerPeriod(
                at=quiet[place].at,
                counts=Counts(calls=calls, failures=failures, slow=slow),
                rejected=rejected,
            )
    return history


def entered_at(snapshot: Snapshot | None) -> datetime | None:
    """Return when the breaker came to be as it is; None for one that nobody has used yet."""
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
    """Return the newest move into open, if that is still why calls meet what they meet."""
    if status.would_open:
        wanted = WOULD_OPEN
    elif status.state in (State.OPEN, State.HALF_OPEN):
        wanted = State.OPEN.value
    else:
        return None
    return next((move for move in transitions if move.to_state == wanted), None)


def as_failure(record: FailureRecord) -> BreakerFailure:
    return BreakerFailure(
        at=as_time(record.at),
        error=record.error,
        message=record.message,
        host=record.host,
        pid=record.pid,
    )


def as_history(periods: Sequence[Period], now: float) -> list[BreakerPeriod]:
    """Return every period of the five minutes, also those without calls."""
    found = {period.at: period for period in periods}
    every = range(oldest_period(now), int(now) + 1, PERIOD_SECONDS)
    return [
        BreakerPeriod(at=as_time(at), counts=period.calls, rejected=period.rejected)
        for at in every
        for period in [found.get(at) or Period(at=at)]
    ]


def as_time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
