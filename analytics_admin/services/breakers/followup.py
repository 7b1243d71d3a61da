"""What became of the breakers that an operation changed: open again, still open, held or closed.

Read from their transitions and from what they are now. What the store no longer knows is unknown,
never well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from analytics_admin.breakers import runtime
from analytics_admin.breakers.history import MAX_TRANSITIONS, RETENTION_SECONDS
from analytics_admin.breakers.state import Control, Snapshot, State
from analytics_admin.breakers.state_machine import HOLD_OVER, WOULD_OPEN, display_state, label
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import is_storable
from analytics_admin.services.breakers.timeline import (
    CAUSE_OF,
    MAX_CLOCK_SKEW,
    could_have_caused,
    ended_at,
)
from analytics_admin.services.breakers.types import (
    BreakerTransition,
    as_transition,
    entered_at,
)
from analytics_admin.services.obedience import OBEYED_KINDS
from analytics_admin.services.values import as_time

Kind, Status = Operation.Kind, Operation.Status

MAX_BREAKERS_FOLLOWED = 100
RETENTION = timedelta(seconds=RETENTION_SECONDS)
NOT_BY_RULES = {HOLD_OVER, *CAUSE_OF.values()}


class FollowUp(StrEnum):
    """What became of a breaker after the operation, the worst first."""

    REOPENED = "reopened"
    STILL_OPEN = "still_open"
    """Open, or half-open with its probes undecided."""
    UNKNOWN = "unknown"
    """The store has no record of it, or too little of its past."""
    HELD = "held"
    CLOSED = "closed"


SEVERITY = {follow_up: rank for rank, follow_up in enumerate(FollowUp)}
"""Ranks, 0 the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFollowUp:
    """What became of one breaker; the same on every reading until something happens."""

    name: str
    follow_up: FollowUp = FollowUp.UNKNOWN
    state: str = State.UNKNOWN.value
    """What calls meet now."""
    at: datetime | None = None
    """When it reopened; None if it did not."""
    after: timedelta | None = None
    """From the operation until it reopened; None if it may have reopened before."""
    cause: str = ""
    """The rule by which it reopened."""
    held_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpReport:
    """What became of an operation's breakers; ``omitted`` is how many are left out."""

    breakers: Sequence[BreakerFollowUp]
    omitted: int


def follow_up_breakers(operation: Operation) -> FollowUpReport | None:
    """Return what became of the breakers that the operation changed or named, at most 100.

    None for other kinds of operations, and for one that reached no breaker.

    Raises:
        StoreUnavailable
    """
    if operation.kind not in OBEYED_KINDS or operation.status not in (Status.DONE, Status.FAILED):
        return None
    is_done = operation.status == Status.DONE
    moved = operation.moved_breakers
    others = operation.target_names if is_done else operation.reached_names
    names = list(dict.fromkeys([*moved, *(others or ())]))
    if not names and not (is_done and operation.moved_count == 0):
        return None
    followed = names[:MAX_BREAKERS_FOLLOWED]
    readable = [name for name in followed if is_storable(name)]
    reading = Reading(now=0.0, snapshots={})
    if readable:
        reading = runtime.operator_store().read_transitions(readable)
    count = operation.moved_count if is_done else operation.reached_count
    return FollowUpReport(
        breakers=[_follow_up(name, operation, moved.get(name), reading) for name in followed],
        omitted=max(len(names), count or 0) - len(followed),
    )


def _follow_up(
    name: str, operation: Operation, moved_to: str | None, reading: Reading
) -> BreakerFollowUp:
    """Judge one breaker. ``moved_to`` is where the operation moved it; None if not on record."""
    snapshot = reading.snapshots.get(name)
    if snapshot is None:
        return BreakerFollowUp(name=name)
    transitions = [as_transition(record) for record in reading.transitions[name]]
    past = _past_since(operation, moved_to, snapshot, transitions, as_time(reading.now))
    hold = snapshot.hold if snapshot.hold and not snapshot.hold.is_over(reading.now) else None
    now = BreakerFollowUp(
        name=name,
        state=display_state(snapshot, reading.now),
        held_until=as_time(hold.until) if hold and hold.until is not None else None,
    )
    opening = next(filter(_is_opening, past.since), None)
    if opening is not None:
        after = max(timedelta(0), opening.at - past.began) if past.is_complete else None
        return replace(
            now, follow_up=FollowUp.REOPENED, at=opening.at, after=after, cause=opening.cause
        )
    if not past.is_complete or past.last_state not in (None, label(snapshot)):
        return now
    if hold is not None:
        return replace(now, follow_up=FollowUp.HELD)
    if snapshot.state is State.CLOSED:
        return replace(now, follow_up=FollowUp.CLOSED)
    # Resets and probes leave no breaker open: the clocks differ, and it opened since.
    is_odd = snapshot.state is State.OPEN and operation.kind != Kind.CONTROL_CIRCUIT_BREAKERS
    return now if is_odd else replace(now, follow_up=FollowUp.STILL_OPEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """A breaker's past since the operation."""

    began: datetime
    """When the operation moved the breaker; when it started, if it did not."""
    since: Sequence[BreakerTransition]
    """Oldest first."""
    is_complete: bool
    """Whether no transition can be missing."""
    last_state: str | None
    """In which the record has to be if nothing is missing; None if unknown."""


def _past_since(
    operation: Operation,
    moved_to: str | None,
    snapshot: Snapshot,
    transitions: Sequence[BreakerTransition],
    now: datetime,
) -> _Past:
    """Sort out which of the ``transitions``, newest first, came after the operation."""
    began, ended = with_zone(operation.started_at), ended_at(operation)
    own = _own_transition(operation, moved_to, transitions)
    if own is not None:
        since, began, is_complete = transitions[: transitions.index(own)][::-1], own.at, True
    else:
        since = [move for move in reversed(transitions) if move.at > began]
        # Every transition stamps the record: one as old as the operation has made none since.
        entered = entered_at(snapshot)
        is_untouched = not since and entered is not None and entered <= ended + MAX_CLOCK_SKEW
        if moved_to is None:
            is_complete = is_untouched or _reaches_back(since, transitions, began)
        else:  # its own transition may only be missing if the store has dropped them all by now
            is_old = now - ended > RETENTION - MAX_CLOCK_SKEW
            is_complete = is_untouched and (bool(transitions) or is_old)
    last = transitions[0].to_state if transitions and (since or moved_to is None) else moved_to
    last = Control.METRICS_ONLY.value if last == WOULD_OPEN else last
    return _Past(began=began, since=since, is_complete=is_complete, last_state=last)


def _own_transition(
    operation: Operation, moved_to: str | None, transitions: Sequence[BreakerTransition]
) -> BreakerTransition | None:
    """Return the transition that the operation made, the nearest of those that it may have made."""
    if moved_to is None and operation.status == Status.DONE:
        return None
    possible = [
        move
        for move in transitions
        if moved_to in (None, move.to_state) and could_have_caused(operation, move)
    ]
    began, ended = with_zone(operation.started_at), ended_at(operation)
    # Within the operation if the clocks of store and site agree; else as near as can be.
    return min(possible, key=lambda move: max(began - move.at, move.at - ended), default=None)


def _reaches_back(
    since: Sequence[BreakerTransition], transitions: Sequence[BreakerTransition], began: datetime
) -> bool:
    """Say whether no transition since the operation has been dropped."""
    if len(since) < len(transitions):
        return True
    is_full = len(since) >= MAX_TRANSITIONS
    return bool(since) and not is_full and since[0].at - began < RETENTION


def _is_opening(move: BreakerTransition) -> bool:
    """Say whether the breaker opened by its own rules."""
    return move.to_state == State.OPEN.value and move.cause not in NOT_BY_RULES
