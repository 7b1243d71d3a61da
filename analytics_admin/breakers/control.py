"""What operators do to breakers: reset them, hold and release them.

Each is compared and set: it overwrites nothing that its operator has not seen, where they say so.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence

from analytics_admin.breakers import runtime
from analytics_admin.breakers.changes import (
    BreakerChange,
    build_change,
    require_seen,
    require_unchanged,
)
from analytics_admin.breakers.state import Control, Hold, Snapshot, State
from analytics_admin.breakers.state_machine import CONTROL, RESET, label, new_record
from analytics_admin.breakers.state_machine import control as change_control
from analytics_admin.breakers.state_machine import reset as reset_snapshot
from analytics_admin.breakers.status import read_registered, shown
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    Move,
    MoveOutcome,
    Reading,
    StoreUnavailable,
)
from analytics_admin.breakers.sync import StateChange
from analytics_admin.i18n import Message, gettext_noop

MAX_ATTEMPTS = 20
"""How often an act is tried again on a breaker that has moved meanwhile."""
PASSING = {State.CLOSED, Control.DISABLED, Control.METRICS_ONLY}
"""What calls meet in breakers that a reset of the open ones passes over."""
NO_EXPECTED_GENERATIONS: Mapping[str, str] = {}


def plan_reset(
    names: Sequence[str] | None,
    *,
    only_open: bool,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
) -> list[BreakerChange]:
    """Return what ``reset`` would do now, without doing it.

    Raises:
        UnknownBreakers, BreakerChanged, StoreUnavailable
    """
    selected = _selected(names, only_open)
    require_unchanged(expected, selected)
    return [
        _reset_of(name, snapshot, selected.now) for name, snapshot in selected.snapshots.items()
    ]


def reset(
    names: Sequence[str] | None,
    *,
    only_open: bool,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
    seen: Collection[str] | None = None,
) -> list[BreakerChange]:
    """Return breakers to closed with zero counts in a new generation: all, or those named.

    ``only_open`` passes over the closed ones. One that moves meanwhile is reset as it is then,
    unless ``expected`` names the generation that it must be at. Of ``seen`` it has to be one.

    Raises:
        UnknownBreakers: nothing was reset or created.
        BreakerChanged: as for set_control.
        StoreUnavailable: some may have been reset.
    """
    selected = _selected(names, only_open)
    require_unchanged(expected, selected)
    require_seen(seen, selected)
    now, found = selected.now, selected.snapshots
    resets = {name: _reset_of(name, snapshot, now) for name, snapshot in found.items()}
    waiting = {name: snapshot for name, snapshot in found.items() if snapshot is not None}
    for _ in range(MAX_ATTEMPTS):
        if not waiting:
            return list(resets.values())
        tried, waiting = waiting, _reset_round(waiting)
        for name in [name for name in tried if name not in waiting]:
            announce_change(resets[name], RESET)
        reached = found.keys() - waiting.keys()
        require_unchanged(expected, Reading(now=now, snapshots=dict(waiting)), reached)
        resets |= {name: _reset_of(name, snapshot, now) for name, snapshot in waiting.items()}
    words = gettext_noop("%(name)s changes faster than it can be reset")
    raise StoreUnavailable(Message(words, name=min(waiting)))


def set_control(
    names: Sequence[str],
    control: Control,
    *,
    for_seconds: float | None,
    actor: str,
    reason: str,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
) -> list[BreakerChange]:
    """Hold breakers, or release them (AUTOMATIC).

    ``for_seconds`` of None holds them until they are released.

    Raises:
        UnknownBreakers: nothing was changed or created.
        BreakerChanged: one is no longer at its ``expected`` generation; nothing was changed, unless
            it moved in the very moment of the act: then those ``reached`` were.
        StoreUnavailable
    """
    reading = read_registered(names)
    changes: dict[str, BreakerChange] = {}
    for _ in range(MAX_ATTEMPTS):
        require_unchanged(expected, reading, changes)
        until = None if for_seconds is None else reading.now + for_seconds
        hold = Hold(control=control, until=until, actor=actor, reason=reason)
        won = _control_round(reading, None if control is Control.AUTOMATIC else hold, actor)
        for change in won:
            announce_change(change, CONTROL)
        changes |= {change.name: change for change in won}
        waiting = [name for name in reading.snapshots if name not in changes]
        if not waiting:
            return list(changes.values())
        reading = runtime.operator_store().load_many(waiting)
    words = gettext_noop("%(name)s changes faster than it can be held")
    raise StoreUnavailable(Message(words, name=waiting[0]))


def plan_control(
    names: Sequence[str], control: Control, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> list[BreakerChange]:
    """Return what ``set_control`` would do now, without doing it; raises as it does."""
    reading = read_registered(names)
    require_unchanged(expected, reading)
    hold = None if control is Control.AUTOMATIC else Hold(control=control, until=None)
    now = reading.now
    return [
        build_change(name, old, now, to_state=shown(change_control(old or new_record(), hold), now))
        for name, old in reading.snapshots.items()
    ]


def _reset_round(waiting: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
    """Try to reset each; return those that had moved on, as they are now."""
    moves = [
        Move(
            name=name,
            expected=snapshot,
            new=reset_snapshot(snapshot),
            cause="" if label(snapshot) == State.CLOSED else RESET,
            attempt=secrets.token_hex(8),
        )
        for name, snapshot in waiting.items()
    ]
    try:
        outcomes = runtime.operator_store().compare_and_set(moves)
    except StoreUnavailable:
        # The reply was lost, and the moves may have been made: what the store holds now tells.
        held = runtime.operator_store().load_many(list(waiting)).snapshots
        if all(_is_reset(held[name], before) for name, before in waiting.items()):
            return {}
        raise
    return {
        move.name: outcome.snapshot
        for move, outcome in zip(moves, outcomes, strict=True)
        if not outcome.won and outcome.snapshot is not None
    }


def _is_reset(now: Snapshot | None, before: Snapshot) -> bool:
    """Say whether this act or one after it has reset the breaker: closed, in another generation."""
    return now is None or (label(now) == State.CLOSED and now.generation != before.generation)


def _control_round(reading: Reading, hold: Hold | None, actor: str) -> list[BreakerChange]:
    """Try to put each breaker under the hold, or release it; return what was done."""
    store, moves = runtime.operator_store(), []
    fresh = [name for name, snapshot in reading.snapshots.items() if snapshot is None]
    if fresh and store.register(fresh, keep_for=runtime.keep_for()):
        words = gettext_noop("%(number)s names are registered, there is no place for more")
        raise StoreUnavailable(Message(words, number=f"{MAX_NAMES:,}"))
    for name, old in reading.snapshots.items():
        new = change_control(old or new_record(), hold)
        cause = "" if old is not None and label(old) == label(new) else CONTROL
        attempt = secrets.token_hex(8)
        moves.append(
            Move(name=name, expected=old, new=new, cause=cause, attempt=attempt, actor=actor)
        )
    return [
        build_change(
            move.name,
            move.expected,
            reading.now,
            to_state=shown(outcome.snapshot, outcome.now),
        )
        for move, outcome in zip(moves, _control_outcomes(moves), strict=True)
        if outcome.won
    ]


def _control_outcomes(moves: Sequence[Move]) -> list[MoveOutcome]:
    """Try the moves; if the reply is lost, what the store holds now tells whether all were made."""
    store = runtime.operator_store()
    try:
        return store.compare_and_set(moves)
    except StoreUnavailable:
        reading = store.load_many([move.name for move in moves])
        outcomes = [
            MoveOutcome(won=True, now=reading.now, snapshot=reading.snapshots[move.name])
            for move in moves
        ]
        if all(_is_held_so(it.snapshot, move) for it, move in zip(outcomes, moves, strict=True)):
            return outcomes
        raise


def _is_held_so(now: Snapshot | None, move: Move) -> bool:
    wanted = move.new
    return now is not None and (now.generation, now.hold) == (wanted.generation, wanted.hold)


def announce_change(change: BreakerChange, cause: str) -> None:
    """Tell of a breaker that an act has changed; on a healthy one a reset moves nothing."""
    runtime.fleet.expire(change.name)
    before, after = change.from_state, change.to_state
    if before != after:
        runtime.announce(
            StateChange(name=change.name, from_state=before, to_state=after, cause=cause)
        )


def _selected(names: Sequence[str] | None, only_open: bool) -> Reading:
    """Return the breakers that a reset is to reach."""
    reading = read_registered(names)
    found = {
        name: snapshot
        for name, snapshot in reading.snapshots.items()
        if not only_open or shown(snapshot, reading.now) not in PASSING
    }
    return Reading(now=reading.now, snapshots=found)


def _reset_of(name: str, snapshot: Snapshot | None, now: float) -> BreakerChange:
    return build_change(name, snapshot, now, to_state=State.CLOSED.value)
