"""What the store keeps of breakers for their operators, turned into answers: times, not seconds.

Asks no store, and knows neither who asks nor how it is shown.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

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
from analytics_admin.services.breakers.types import (
    BreakerActivity,
    BreakerFailure,
    BreakerPeriod,
    BreakerTransition,
)


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
