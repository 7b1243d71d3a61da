"""Operators' changes to breakers: reset, hold and release, allow a probe, forget a name.

All are compare-and-set. With ``expected`` generations they overwrite nothing that the operator has
not seen. Each function has a ``plan_`` twin that returns the same changes without making them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from analytics_admin.breakers import runtime, state_machine
from analytics_admin.breakers.runtime import declared_names, read_registered, registered_names
from analytics_admin.breakers.state import Control, Hold, Snapshot, State, StateChange
from analytics_admin.breakers.state_machine import (
    CONTROL,
    PROBE_ALLOWED,
    RESET,
    display_state,
    label,
    new_record,
)
from analytics_admin.breakers.status import BreakerStatus, build_status
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    BreakerStore,
    DamagedList,
    Move,
    MoveOutcome,
    Reading,
    StoreUnavailable,
)
from analytics_admin.i18n import Message, OperatorError
from analytics_admin.i18n import gettext_noop as _

MAX_ATTEMPTS = 20
"""Attempts on a breaker that keeps changing."""
PASSING = {State.CLOSED, Control.DISABLED, Control.METRICS_ONLY}
"""States in which calls pass; ``only_open`` leaves such breakers alone."""
NO_EXPECTED_GENERATIONS: Mapping[str, str] = {}
FORGOTTEN = "forgotten"
"""``to_state`` of a breaker that is forgotten."""
MAX_NAMES_RECORDED = 100
MOVES_AT_ONCE = 500
"""Breakers that are moved in one round trip; if the store is lost later, these are known to be."""

# Translators: states and controls as programs name them, within a sentence.
_STATES = {
    "automatic": Message(_("automatic")),
    "closed": Message(_("closed")),
    "open": Message(_("open")),
    "half_open": Message(_("half_open")),
    "forced_open": Message(_("forced_open")),
    "disabled": Message(_("disabled")),
    "metrics_only": Message(_("metrics_only")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChange:
    """What an operation did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str
    generation: str
    """The generation before the change; empty without a record."""
    sequence: int = field(default=0, compare=False)
    """The store's sequence once it was made; 0 before that, or if its reply was lost."""


class BreakerChanged(OperatorError):
    """The breaker is not at the expected generation; ``status`` is its status now.

    ``reached`` are the breakers that the operation had changed before.
    """

    code = "breaker_moved"

    def __init__(self, name: str, status: BreakerStatus, reached: Collection[str] = ()) -> None:
        self.status = status
        self.reached = tuple(reached)
        text = _("Circuit breaker %(name)s has changed meanwhile")
        if reached:
            text = _(
                "Circuit breaker %(name)s has changed meanwhile; changed before it: %(number)s"
            )
        super().__init__(
            Message(text, name=name, number=len(self.reached)),
            reason=Message(_("the breaker has changed meanwhile")),
            partial_outcome={"count": len(reached), "names": sorted(reached)[:MAX_NAMES_RECORDED]},
        )


class BreakerInUse(OperatorError):
    """The breaker cannot be forgotten: an operator holds it, or this site declares it."""

    code = "breaker_kept"

    def __init__(self, name: str, reason: str) -> None:
        text = _("Circuit breaker %(name)s cannot be forgotten: %(reason)s")
        super().__init__(Message(text, name=name, reason=reason), reason=reason)


class BreakerNotOpen(OperatorError):
    """No probe can be allowed: the breaker is not open by its own rules."""

    code = "breaker_not_open"

    def __init__(self, name: str, state: str) -> None:
        reason = Message(_("it is %(state)s, not open"), state=state_message(state))
        text = _("Circuit breaker %(name)s cannot allow a probe: %(reason)s")
        super().__init__(Message(text, name=name, reason=reason), reason=reason)


def state_message(state: str) -> str:
    """Return the state or control, translatable; an unknown one as it is."""
    return _STATES.get(state, state)


def plan_reset(
    names: Sequence[str] | None,
    *,
    only_open: bool,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
) -> list[BreakerChange]:
    """Return what ``reset`` would do now; of a damaged list, the breakers declared here.

    Raises:
        UnknownBreakers, BreakerChanged, StoreUnavailable
    """
    try:
        selected = _selected(names, only_open)
    except DamagedList:
        if names is not None:
            raise
        selected = runtime.operator_store().load_many(sorted(declared_names()))
    _require_unchanged(expected, selected)
    return [
        _reset_change(name, snapshot, selected.now) for name, snapshot in selected.snapshots.items()
    ]


def reset(
    names: Sequence[str] | None,
    *,
    only_open: bool,
    actor: str = "",
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
    seen: Collection[str] | None = None,
) -> list[BreakerChange]:
    """Close breakers with zero counts in a new generation: all, or those named.

    A reset of all repairs a damaged list of breakers. ``only_open`` leaves breakers alone whose
    calls pass. A breaker that changes meanwhile is reset as it is then, unless ``expected`` names
    its generation. With ``seen``, every breaker to reset must be among these names.

    Raises:
        UnknownBreakers: nothing was reset or created.
        BreakerChanged: as for set_control.
        StoreUnavailable: some may have been reset.
    """
    try:
        selected = _selected(names, only_open)
    except DamagedList:
        if names is not None:
            raise
        runtime.operator_store().repair()
        selected = _selected(names, only_open)
    _require_unchanged(expected, selected)
    _require_seen(seen, selected)
    now, snapshots = selected.now, selected.snapshots
    reached: dict[str, BreakerChange] = {}
    waiting = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
    with _telling_what_was_reached(reached, len(snapshots)):
        for _try in range(MAX_ATTEMPTS):
            if not waiting:
                unused = {name: _reset_change(name, None, now) for name in snapshots}
                return list((unused | reached).values())
            for move, outcome in _make(_resets(waiting, actor), _is_reset):
                if outcome.won or outcome.snapshot is None:  # or it is forgotten
                    change = _reset_change(move.name, move.expected, now)
                    reached[move.name] = replace(change, sequence=outcome.sequence)
                    _announce(change, RESET)
                    del waiting[move.name]
                else:
                    waiting[move.name] = outcome.snapshot
            _require_unchanged(expected, Reading(now=now, snapshots=dict(waiting)), reached)
        text = _("%(name)s changes faster than it can be reset")
        raise StoreUnavailable(Message(text, name=min(waiting)))


def set_control(
    names: Sequence[str],
    control: Control,
    *,
    for_seconds: float | None,
    actor: str,
    reason: str,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
) -> list[BreakerChange]:
    """Hold breakers for ``for_seconds`` (None: until released), or release them (AUTOMATIC).

    Raises:
        UnknownBreakers: nothing was changed or created.
        BreakerChanged: one is not at its ``expected`` generation. Nothing was changed, except the
            ``reached`` ones if it changed during the operation.
        StoreUnavailable
    """
    reading = read_registered(names)
    reached: dict[str, BreakerChange] = {}
    with _telling_what_was_reached(reached, len(reading.snapshots)):
        for _try in range(MAX_ATTEMPTS):
            _require_unchanged(expected, reading, reached)
            until = None if for_seconds is None else reading.now + for_seconds
            hold = Hold(control=control, until=until, actor=actor, reason=reason)
            moves = _holds(reading, None if control is Control.AUTOMATIC else hold, actor)
            for move, outcome in _make(moves, _is_held):
                if outcome.won:
                    to_state = display_state(outcome.snapshot, outcome.now)
                    change = _change(move.name, move.expected, reading.now, to_state=to_state)
                    reached[move.name] = replace(change, sequence=outcome.sequence)
                    _announce(change, CONTROL)
            waiting = [name for name in reading.snapshots if name not in reached]
            if not waiting:
                return list(reached.values())
            reading = runtime.operator_store().load_many(waiting)
        text = _("%(name)s changes faster than it can be held")
        raise StoreUnavailable(Message(text, name=waiting[0]))


def plan_control(
    names: Sequence[str],
    control: Control,
    *,
    expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS,
) -> list[BreakerChange]:
    """Return what ``set_control`` would do now; raises as it does."""
    reading = read_registered(names)
    _require_unchanged(expected, reading)
    hold = None if control is Control.AUTOMATIC else Hold(control=control, until=None)
    changes = []
    for name, old in reading.snapshots.items():
        new = state_machine.control(old or new_record(), hold)
        to_state = display_state(new, reading.now)
        changes.append(_change(name, old, reading.now, to_state=to_state))
    return changes


def allow_probe(
    name: str, *, actor: str, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Make an open breaker half-open at once, so that the next call is a probe.

    Raises:
        UnknownBreakers, BreakerNotOpen, BreakerChanged: nothing was changed.
        StoreUnavailable
    """
    for _try in range(MAX_ATTEMPTS):
        change, old, new = _probe_change(name, expected)
        if (sequence := _try_probe(name, old, new, actor)) is not None:
            _announce(change, PROBE_ALLOWED)
            return replace(change, sequence=sequence)
    text = _("%(name)s changes faster than a probe can be allowed")
    raise StoreUnavailable(Message(text, name=name))


def plan_probe(
    name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Return what ``allow_probe`` would do now; raises as it does."""
    change, _, _ = _probe_change(name, expected)
    return change


def forget(name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS) -> BreakerChange:
    """Remove a name from the list, with its record and history.

    A process that still uses the name registers it again, as closed.

    Raises:
        UnknownBreakers, BreakerInUse, BreakerChanged: nothing was changed.
        StoreUnavailable
    """
    for _try in range(MAX_ATTEMPTS):
        change = plan_forget(name, expected=expected)
        if _try_forget(name, change.generation):
            runtime.engine.expire(name)
            return change
    text = _("%(name)s changes faster than it can be forgotten")
    raise StoreUnavailable(Message(text, name=name))


def plan_forget(
    name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Return what ``forget`` would do now; raises as it does."""
    reading = read_registered([name])
    _require_unchanged(expected, reading)
    if name in declared_names():
        raise BreakerInUse(name, Message(_("this site's code or settings declare it")))
    snapshot = reading.snapshots[name]
    status = build_status(name, snapshot, reading.now)
    if status.control != Control.AUTOMATIC:
        text = _("it is held %(control)s; release it first")
        raise BreakerInUse(name, Message(text, control=state_message(status.control)))
    return _change(name, snapshot, reading.now, to_state=FORGOTTEN)


def _selected(names: Sequence[str] | None, only_open: bool) -> Reading:
    """Return the breakers to reset."""
    reading = read_registered(names)
    snapshots = {
        name: snapshot
        for name, snapshot in reading.snapshots.items()
        if not only_open or display_state(snapshot, reading.now) not in PASSING
    }
    return Reading(now=reading.now, snapshots=snapshots)


def _reset_change(name: str, snapshot: Snapshot | None, now: float) -> BreakerChange:
    return _change(name, snapshot, now, to_state=State.CLOSED.value)


def _resets(waiting: Mapping[str, Snapshot], actor: str) -> list[Move]:
    return [
        Move(
            name=name,
            expected=snapshot,
            new=state_machine.reset(snapshot),
            cause="" if label(snapshot) == State.CLOSED else RESET,
            actor=actor,
        )
        for name, snapshot in waiting.items()
    ]


def _is_reset(now: Snapshot | None, move: Move) -> bool:
    """Return whether the breaker was reset since: closed, in another generation."""
    return now is None or (
        label(now) == State.CLOSED and now.generation != _generation(move.expected)
    )


def _holds(reading: Reading, hold: Hold | None, actor: str) -> list[Move]:
    """Return the moves that hold each breaker, or release it; register those without a record."""
    store, moves = runtime.operator_store(), []
    unrecorded = [name for name, snapshot in reading.snapshots.items() if snapshot is None]
    if unrecorded and store.register(unrecorded, keep_for=runtime.keep_for()):
        text = _("%(number)s names are registered, which is the maximum")
        raise StoreUnavailable(Message(text, number=f"{MAX_NAMES:,}"))
    for name, old in reading.snapshots.items():
        new = state_machine.control(old or new_record(), hold)
        cause = "" if old is not None and label(old) == label(new) else CONTROL
        moves.append(Move(name=name, expected=old, new=new, cause=cause, actor=actor))
    return moves


def _make(
    moves: Sequence[Move], is_made: Callable[[Snapshot | None, Move], bool]
) -> Iterator[tuple[Move, MoveOutcome]]:
    """Try the moves and yield what became of each.

    If a reply is lost, the store's state now tells which were made; the rest is not tried again.

    Raises:
        StoreUnavailable: after what is known to be made.
    """
    store, rest = runtime.operator_store(), iter(moves)
    while batch := list(islice(rest, MOVES_AT_ONCE)):
        try:
            yield from zip(batch, store.compare_and_set(batch), strict=True)
        except StoreUnavailable:
            made = _read_made(store, batch, is_made)
            yield from made
            if len(made) < len(batch):
                raise


def _read_made(
    store: BreakerStore, moves: Sequence[Move], is_made: Callable[[Snapshot | None, Move], bool]
) -> list[tuple[Move, MoveOutcome]]:
    """Return the moves that were made, by what the store holds now."""
    reading = store.load_many([move.name for move in moves])
    return [
        (move, MoveOutcome(won=True, now=reading.now, snapshot=now, sequence=reading.sequence))
        for move in moves
        if is_made(now := reading.snapshots[move.name], move)
    ]


@contextmanager
def _telling_what_was_reached(reached: Collection[str], number: int) -> Iterator[None]:
    """Add to the loss of the store which of the ``number`` breakers had been changed before."""
    try:
        yield
    except StoreUnavailable as error:
        if not reached:
            raise
        text = _("%(reason)s; %(reached)s of %(number)s circuit breakers had been changed before")
        raise type(error)(
            Message(text, reason=error.reason, reached=len(reached), number=number),
            code=error.code,
            partial_outcome={
                "count": len(reached),
                "selected": number,
                "names": sorted(reached)[:MAX_NAMES_RECORDED],
            },
        ) from None


def _is_held(now: Snapshot | None, move: Move) -> bool:
    return now is not None and now.generation == move.new.generation


def _probe_change(
    name: str, expected: Mapping[str, str]
) -> tuple[BreakerChange, Snapshot, Snapshot]:
    """Return the change, and the breaker before and after it."""
    reading = read_registered([name])
    _require_unchanged(expected, reading)
    old = reading.snapshots[name]
    new = None if old is None else state_machine.allow_probe(old)
    if old is None or new is None:
        raise BreakerNotOpen(name, display_state(old, reading.now))
    to_state = display_state(new, reading.now)
    return _change(name, old, reading.now, to_state=to_state), old, new


def _try_probe(name: str, old: Snapshot, new: Snapshot, actor: str) -> int | None:
    """Try the move; return the store's sequence after it (0: unknown), or None if it was not made.

    If the reply is lost, the breaker's transitions tell whether it was.
    """
    store = runtime.operator_store()
    move = Move(name=name, expected=old, new=new, cause=PROBE_ALLOWED, actor=actor)
    try:
        (outcome,) = store.compare_and_set([move])
    except StoreUnavailable:
        if any(transition.attempt == move.attempt for transition in store.transitions(name)):
            return 0
        raise
    return outcome.sequence if outcome.won else None


def _try_forget(name: str, generation: str) -> bool:
    """Drop the breaker unless it has changed; after a lost reply, the list of names decides."""
    try:
        return runtime.operator_store().forget(name, generation=generation)
    except StoreUnavailable:
        if name in registered_names():
            raise
        return True


def _announce(change: BreakerChange, cause: str) -> None:
    """Announce a change of the displayed state; resetting a closed breaker is none."""
    runtime.engine.expire(change.name)
    before, after = change.from_state, change.to_state
    if before != after:
        runtime.announce(
            StateChange(name=change.name, from_state=before, to_state=after, cause=cause)
        )


def _change(name: str, before: Snapshot | None, now: float, *, to_state: str) -> BreakerChange:
    """Return the change of a breaker to ``to_state``; it was at ``before`` at ``now``."""
    return BreakerChange(
        name=name,
        from_state=display_state(before, now),
        to_state=to_state,
        generation=_generation(before),
    )


def _require_unchanged(
    expected: Mapping[str, str], reading: Reading, reached: Collection[str] = ()
) -> None:
    """Raise BreakerChanged unless each breaker of the reading is at its expected generation."""
    for name, snapshot in reading.snapshots.items():
        generation = _generation(snapshot)
        if expected.get(name, generation) != generation:
            raise BreakerChanged(name, build_status(name, snapshot, reading.now), reached)


def _require_seen(seen: Collection[str] | None, reading: Reading) -> None:
    """Raise BreakerChanged if the reading has a breaker that is not in ``seen``, unless None."""
    for name, snapshot in reading.snapshots.items():
        if seen is not None and name not in seen:
            raise BreakerChanged(name, build_status(name, snapshot, reading.now))


def _generation(snapshot: Snapshot | None) -> str:
    return "" if snapshot is None else snapshot.generation
