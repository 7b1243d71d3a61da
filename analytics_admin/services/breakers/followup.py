"""What became of an act on breakers: which opened again, how soon, and which stayed as they were.

Told by their transitions and by what they are now. What the store has let go is said to be lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from analytics_admin.breakers import runtime
from analytics_admin.breakers.history import MAX_TRANSITIONS, RETENTION_SECONDS
from analytics_admin.breakers.state import Control, Hold, Snapshot, State
from analytics_admin.breakers.state_machine import HOLD_OVER, display_state, label
from analytics_admin.breakers.stores.base import WOULD_OPEN, Reading
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import is_storable
from analytics_admin.services.breakers.timeline import (
    CAUSE_OF,
    MAX_CLOCK_SKEW,
    as_mapping,
    could_have_caused,
    ended_at,
)
from analytics_admin.services.breakers.types import (
    BreakerTransition,
    as_time,
    as_transition,
    entered_at,
)

Kind, Status = Operation.Kind, Operation.Status

WATCHED = (Kind.RESET_CIRCUIT_BREAKERS, Kind.CONTROL_CIRCUIT_BREAKERS, Kind.ALLOW_PROBE)
MAX_BREAKERS_FOLLOWED = 100
BY_ACTS = {cause for cause in CAUSE_OF.values() if cause}
NOT_MOVED, MAYBE_MOVED = "-", ""
"""What stands for the state that an act moved a breaker to: into none, or not on record."""
HOLDS = {it.value for it in Control} - {Control.AUTOMATIC.value}
LONGEST_GAP = timedelta(seconds=RETENTION_SECONDS)
"""Between two transitions so far apart there may have been others, which are dropped by now."""


class FollowUp(StrEnum):
    """What first became of a breaker after the act, the gravest first."""

    REOPENED = "reopened"
    STILL_OPEN = "still_open"
    WOULD_OPEN = "would_open"
    """Its rules were met, and only metrics_only kept it from opening."""
    HALF_OPEN = "half_open"
    LOST = "lost"
    """The store does not know it any more."""
    GONE = "gone"
    """There is no such breaker in the store."""
    MOVED = "moved"
    """Another act came first."""
    HOLD_OVER = "hold_over"
    HELD = "held"
    RECOVERED = "recovered"
    """Its probes succeeded."""
    CLOSED = "closed"
    """It has been closed all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFollowUp:
    """What became of one breaker; the same at each look until something happens."""

    name: str
    sequel: FollowUp = FollowUp.LOST
    state: str = State.UNKNOWN.value
    """What calls meet now."""
    at: datetime | None = None
    """When that happened which the sequel tells; None where nothing did, or it is not known."""
    after: timedelta = timedelta(0)
    """From the act until then."""
    is_first: bool = True
    """False: the same may have happened before, which is not known any more."""
    cause: str = ""
    actor: str = ""
    held_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpReport:
    """What became of the breakers that an act reached; ``unwatched`` is how many are left out."""

    breakers: Sequence[BreakerFollowUp]
    unwatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What is known of a breaker's past: the ``moves`` that are kept, newest first."""

    act: Operation
    moved_to: str
    began: datetime
    """When the act moved it, or began."""
    moves: Sequence[BreakerTransition]
    since: Sequence[BreakerTransition] = ()
    """Those after the act, oldest first."""
    is_whole: bool = False
    """Whether these are all that there were."""

    @property
    def holds(self) -> bool:
        """Say whether the act put the breaker under a hold."""
        control = as_mapping(self.act.targets).get("control")
        is_control = self.act.kind == Kind.CONTROL_CIRCUIT_BREAKERS
        return is_control and control != Control.AUTOMATIC.value

    @property
    def is_moved(self) -> bool:
        """Say whether the act is on record as having moved the breaker."""
        return self.moved_to not in (NOT_MOVED, MAYBE_MOVED)

    def ends_as(self, snapshot: Snapshot) -> bool:
        """Say whether the record is what the newest known move has made of the breaker."""
        is_newest = self.moves and (self.since or not self.is_moved)
        last = self.moves[0].to_state if is_newest else self.moved_to
        if last == WOULD_OPEN:
            last = Control.METRICS_ONLY.value
        return last in (NOT_MOVED, MAYBE_MOVED, label(snapshot))


def follow_up_breakers(act: Operation) -> FollowUpReport | None:
    """Return what became of the breakers that the act moved or named, the first hundred of them.

    None for an act of another kind, and for one that is not known to have reached any breaker.

    Raises:
        StoreUnavailable
    """
    if act.kind not in WATCHED or act.status not in (Status.DONE, Status.FAILED):
        return None
    is_done, outcome = act.status == Status.DONE, as_mapping(act.outcome)
    reached = _reached(as_mapping(act.targets), outcome, is_done=is_done)
    if not reached and not (is_done and outcome.get("moved") == 0):
        return None
    names = list(reached)[:MAX_BREAKERS_FOLLOWED]
    askable = [name for name in names if is_storable(name)]
    reading = (
        runtime.operator_store().read_transitions(askable)
        if askable
        else Reading(now=0.0, snapshots={})
    )
    counted = outcome.get("moved" if is_done else "count")
    count = max(len(reached), counted if isinstance(counted, int) else 0)
    return FollowUpReport(
        breakers=[_look_at(name, act, reached[name], reading) for name in names],
        unwatched=count - len(names),
    )


def _reached(
    targets: Mapping[str, Any], outcome: Mapping[str, Any], *, is_done: bool
) -> dict[str, str]:
    """Return the state that the act moved each breaker to, by name; those that it moved first."""
    results = [as_mapping(row) for row in _list(outcome.get("results"))]
    moved = {
        name: str(row.get("to", MAYBE_MOVED))
        for row in results
        if isinstance(name := row.get("name"), str)
    }
    others = _list(targets.get("names") if is_done else outcome.get("names"))
    else_to = NOT_MOVED if is_done else MAYBE_MOVED
    return {**moved, **{it: else_to for it in others if isinstance(it, str) and it not in moved}}


def _look_at(name: str, act: Operation, moved_to: str, reading: Reading) -> BreakerFollowUp:
    snapshot = reading.snapshots.get(name)
    if snapshot is None:
        return BreakerFollowUp(name=name, sequel=FollowUp.GONE)
    moves = [as_transition(record) for record in reading.transitions[name]]
    kept = _Past(act=act, moved_to=moved_to, began=with_zone(act.started_at), moves=moves)
    past = _past_since(kept, entered_at(snapshot), as_time(reading.now))
    hold = snapshot.hold
    until = hold.until if hold and not hold.is_over(reading.now) else None
    now = BreakerFollowUp(
        name=name,
        state=display_state(snapshot, reading.now),
        held_until=None if until is None else as_time(until),
    )
    return _with_event(now, past) or _at_rest(now, past, snapshot, reading.now)


def _past_since(kept: _Past, entered: datetime | None, now: datetime) -> _Past:
    """Tell what came after the act from what was before it, given all that is kept."""
    moves, ended = kept.moves, ended_at(kept.act)
    own = _own_move(kept)
    if own is not None:
        since = moves[: moves.index(own)][::-1]
        return replace(kept, began=own.at, since=since, is_whole=True)
    since = [move for move in reversed(moves) if move.at > kept.began]
    if since and _wrote_end_of_hold(kept, since[0]):
        since = since[1:]
    # Every transition stamps the record anew: one as old as the act has made none since.
    untouched = not since and entered is not None and entered <= ended + MAX_CLOCK_SKEW
    if kept.is_moved:  # a store that misses the act's own too early was emptied, or is an old copy
        is_whole = untouched and (bool(moves) or now - ended > LONGEST_GAP - MAX_CLOCK_SKEW)
    else:
        is_whole = untouched or _reaches_back(kept, since)
    return replace(kept, since=since, is_whole=is_whole)


def _reaches_back(kept: _Past, since: Sequence[BreakerTransition]) -> bool:
    """Say whether no move since the act can be missing among those that are kept."""
    if len(since) < len(kept.moves):
        return True
    is_full = len(since) >= MAX_TRANSITIONS
    return bool(since) and not is_full and since[0].at - kept.began < LONGEST_GAP


def _wrote_end_of_hold(kept: _Past, move: BreakerTransition) -> bool:
    """Say whether the move is the act's own, though calls met the same before and after it.

    It ended a hold that was over already. Another's hold would be on record as a move before it.
    """
    return (
        kept.moved_to == NOT_MOVED
        and move.from_state in HOLDS
        and could_have_caused(kept.act, move)
    )


def _own_move(past: _Past) -> BreakerTransition | None:
    """Return the transition that the act made, the nearest of those that it may have made."""
    possible = [
        move
        for move in past.moves
        if past.moved_to in (MAYBE_MOVED, move.to_state) and could_have_caused(past.act, move)
    ]
    ended = ended_at(past.act)
    # Within the act where the clocks of store and site agree; else as near to it as can be.
    return min(possible, key=lambda move: max(past.began - move.at, move.at - ended), default=None)


def _with_event(now: BreakerFollowUp, past: _Past) -> BreakerFollowUp | None:
    """Add the first transition that tells whether the act has helped; None where there is none."""
    if past.is_whole:
        events = [(sequel, move) for move in past.since if (sequel := _sequel_of(move))]
        return _add(now, *events[0], past) if events else None
    openings = [move for move in past.since if move.to_state == State.OPEN.value]
    if openings and not past.holds:
        return replace(_add(now, FollowUp.REOPENED, openings[0], past), is_first=False)
    return now


def _sequel_of(move: BreakerTransition) -> FollowUp | None:
    if move.to_state == State.OPEN.value:
        return FollowUp.REOPENED
    if move.to_state == WOULD_OPEN:
        return FollowUp.WOULD_OPEN
    if move.cause in BY_ACTS:
        return FollowUp.MOVED
    return FollowUp.HOLD_OVER if move.cause == HOLD_OVER else None


def _add(
    now: BreakerFollowUp, sequel: FollowUp, move: BreakerTransition, past: _Past
) -> BreakerFollowUp:
    after = max(timedelta(0), move.at - past.began)
    told = replace(now, sequel=sequel, at=move.at, after=after)
    return replace(told, cause=move.cause, actor=move.actor)


def _at_rest(
    now: BreakerFollowUp, past: _Past, snapshot: Snapshot, read_at: float
) -> BreakerFollowUp:
    """Add how a breaker rests that nothing has befallen; lost if its record says otherwise."""
    if not past.ends_as(snapshot):
        return now
    if snapshot.hold is not None:
        return _under_hold(now, past, snapshot.hold, read_at)
    if snapshot.state is State.CLOSED:
        closing = [move for move in past.since if move.to_state == State.CLOSED.value]
        closed = replace(now, sequel=FollowUp.CLOSED)
        return _add(now, FollowUp.RECOVERED, closing[-1], past) if closing else closed
    if snapshot.state is State.HALF_OPEN:
        return replace(now, sequel=FollowUp.HALF_OPEN)
    # A reset or a probe leaves none open: such a one was opened since, as another clock has it.
    stayed = snapshot.state is State.OPEN and past.act.kind == Kind.CONTROL_CIRCUIT_BREAKERS
    return replace(now, sequel=FollowUp.STILL_OPEN) if stayed else now


def _under_hold(now: BreakerFollowUp, past: _Past, hold: Hold, read_at: float) -> BreakerFollowUp:
    if hold.until is None or not hold.is_over(read_at):
        return replace(now, sequel=FollowUp.HELD)
    over = as_time(hold.until)  # nobody has written its end yet
    return replace(now, sequel=FollowUp.HOLD_OVER, at=over, after=over - past.began)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
