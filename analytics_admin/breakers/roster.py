"""Every registered breaker of the site, for operators: list them, reset them.

Registered: known to the store, declared in this process, or named in BREAKERS.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from analytics_admin.breakers import engine
from analytics_admin.breakers.exchange import StateChange
from analytics_admin.breakers.machine import (
    CONTROL,
    RESET,
    Verdict,
    held,
    judge,
    label,
    new_record,
    retry_after,
    shown_state,
)
from analytics_admin.breakers.machine import control as change_control
from analytics_admin.breakers.machine import reset as reset_snapshot
from analytics_admin.breakers.registry import UnknownBreakers, declared_names, effective_policy
from analytics_admin.breakers.snapshot import Control, Hold, Snapshot, State
from analytics_admin.breakers.store import Move, StoreUnavailable

ROUNDS = 20
"""How often an act is tried again on a breaker that has moved meanwhile."""
PASSING = {State.CLOSED, Control.DISABLED, Control.METRICS_ONLY}
"""What calls meet in breakers that a reset of the open ones passes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker for an operator's eyes; ``retry_after`` in seconds, None when calls pass."""

    name: str
    state: str
    """What calls meet: a state, or the hold in force."""
    consecutive_failures: int
    retry_after: float | None
    control: str = Control.AUTOMATIC.value
    held_until: datetime | None = None
    """When the hold ends by itself; None for ever, or without a hold."""
    held_by: str = ""
    hold_reason: str = ""
    generation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    """What a reset did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str


class BreakerMoved(Exception):
    """The breaker is not what its caller had seen; ``status`` is what it is now."""

    code = "breaker_moved"
    reason = "the breaker has changed meanwhile"

    def __init__(self, name: str, status: "BreakerStatus") -> None:
        self.status = status
        self.operation_id: UUID | None = None
        super().__init__(f"Circuit breaker {name} has changed meanwhile")


def registered_names() -> list[str]:
    """Return every name known to the store, this process or the settings, sorted.

    Raises:
        StoreUnavailable
    """
    return sorted({*engine.act_store().list_names(), *declared_names()})


def require_known(names: Sequence[str]) -> None:
    """Raise UnknownBreakers unless every name is registered (StoreUnavailable if none can say)."""
    unknown = set(names) - set(registered_names())
    if unknown:
        raise UnknownBreakers(list(unknown))


def statuses(names: Sequence[str] | None = None) -> list[BreakerStatus]:
    """Return every registered breaker by name, or these registered ones in their order.

    Raises:
        StoreUnavailable
    """
    names = registered_names() if names is None else names
    reading = engine.act_store().load_many(names)
    return [status_of(name, reading.snapshots[name], reading.now) for name in names]


def status(name: str, *, expected_generation: str | None = None) -> BreakerStatus:
    """Return one registered breaker.

    Raises:
        UnknownBreakers, BreakerMoved, StoreUnavailable
    """
    require_known([name])
    reading = engine.act_store().load_many([name])
    _require_generation(expected_generation, name, reading.snapshots[name], reading.now)
    return status_of(name, reading.snapshots[name], reading.now)


def plan_reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    """Return what ``reset`` would do now, without doing it.

    Raises:
        UnknownBreakers, StoreUnavailable
    """
    now, selected = _selected(names, only_open)
    return [_reset_of(name, snapshot, now) for name, snapshot in selected.items()]


def reset(
    names: Sequence[str] | None, *, only_open: bool, expected_generation: str | None = None
) -> list[BreakerReset]:
    """Return breakers to closed with zero counts in a new generation: all, or those named.

    ``only_open`` passes over the closed ones. One that moves meanwhile is reset as it is then,
    unless there is an ``expected_generation``, which all of them must be at.

    Raises:
        UnknownBreakers, BreakerMoved: nothing was reset or created.
        StoreUnavailable: some may have been reset.
    """
    now, selected = _selected(names, only_open)
    for name, snapshot in selected.items():
        _require_generation(expected_generation, name, snapshot, now)
    resets = {name: _reset_of(name, snapshot, now) for name, snapshot in selected.items()}
    waiting = {name: snapshot for name, snapshot in selected.items() if snapshot is not None}
    for _ in range(ROUNDS):
        if not waiting:
            break
        waiting = _reset_round(waiting)
        for name, snapshot in waiting.items():
            _require_generation(expected_generation, name, snapshot, now)
        resets |= {name: _reset_of(name, snapshot, now) for name, snapshot in waiting.items()}
    if waiting:
        raise StoreUnavailable(f"{min(waiting)} changes faster than it can be reset")
    for name in selected:
        engine.fleet.expire(name)
    for name, done in resets.items():
        _announce_change(name, done.from_state, done.to_state, RESET)
    return list(resets.values())


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
        outcomes = engine.act_store().compare_and_set(moves)
    except StoreUnavailable:
        # The reply was lost, and the moves may have been made: what the store holds now tells.
        held = engine.act_store().load_many(list(waiting)).snapshots
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


def _announce_change(name: str, before: str, after: str, cause: str) -> None:
    """Tell of a breaker that an act has moved; on a healthy one a reset moves nothing."""
    if before != after:
        engine.announce(StateChange(name=name, from_state=before, to_state=after, cause=cause))


def set_control(
    name: str,
    control: Control,
    *,
    for_seconds: float | None,
    actor: str,
    reason: str,
    expected_generation: str | None = None,
) -> tuple[BreakerStatus, BreakerStatus]:
    """Hold a breaker, or release it (AUTOMATIC); return its status before and after.

    ``for_seconds`` of None holds it until it is released.

    Raises:
        UnknownBreakers: nothing was changed or created.
        BreakerMoved: it is no longer at ``expected_generation``.
        StoreUnavailable
    """
    require_known([name])
    store = engine.act_store()
    for _ in range(ROUNDS):
        reading = store.load_many([name])
        old, now = reading.snapshots[name], reading.now
        _require_generation(expected_generation, name, old, now)
        new = change_control(old or new_record(), _hold(control, for_seconds, now, actor, reason))
        move = Move(
            name=name,
            expected=old,
            new=new,
            cause="" if old is not None and label(old) == label(new) else CONTROL,
            attempt=secrets.token_hex(8),
            actor=actor,
        )
        (outcome,) = store.compare_and_set([move])
        if outcome.won:
            engine.fleet.expire(name)
            before, after = (
                status_of(name, old, now),
                status_of(name, outcome.snapshot, outcome.now),
            )
            _announce_change(name, before.state, after.state, CONTROL)
            return before, after
    raise StoreUnavailable(f"{name} changes faster than it can be held")


def _hold(
    control: Control, for_seconds: float | None, now: float, actor: str, reason: str
) -> Hold | None:
    if control is Control.AUTOMATIC:
        return None
    until = None if for_seconds is None else now + for_seconds
    return Hold(control=control, until=until, actor=actor, reason=reason)


def _require_generation(
    expected: str | None, name: str, snapshot: Snapshot | None, now: float
) -> None:
    if expected is not None and expected != ("" if snapshot is None else snapshot.generation):
        raise BreakerMoved(name, status_of(name, snapshot, now))


def _selected(
    names: Sequence[str] | None, only_open: bool
) -> tuple[float, dict[str, Snapshot | None]]:
    """Return the store's time, and the breakers that a reset is to reach."""
    registered = registered_names()
    if names is not None:
        unknown = set(names) - set(registered)
        if unknown:
            raise UnknownBreakers(list(unknown))
        registered = sorted(set(names))
    reading = engine.act_store().load_many(registered)
    return reading.now, {
        name: reading.snapshots[name]
        for name in registered
        if not only_open or _shown(reading.snapshots[name], reading.now) not in PASSING
    }


def _shown(snapshot: Snapshot | None, now: float) -> str:
    """A breaker that nobody has used yet has no record, and is closed."""
    return State.CLOSED.value if snapshot is None else shown_state(snapshot, now)


def _reset_of(name: str, snapshot: Snapshot | None, now: float) -> BreakerReset:
    return BreakerReset(name=name, from_state=_shown(snapshot, now), to_state=State.CLOSED.value)


def status_of(name: str, snapshot: Snapshot | None, now: float) -> BreakerStatus:
    known = snapshot or Snapshot(generation="")
    wait = retry_after(known, effective_policy(name), now)
    in_force = held(known, now)
    hold = known.hold if in_force is not Control.AUTOMATIC else None
    until = None if hold is None or hold.until is None else datetime.fromtimestamp(hold.until, UTC)
    rejects = judge(known, effective_policy(name), now) is not Verdict.PASSES
    return BreakerStatus(
        name=name,
        state=shown_state(known, now),
        consecutive_failures=known.consecutive_failures,
        retry_after=wait if rejects else None,
        control=in_force.value,
        held_until=until,
        held_by=hold.actor if hold else "",
        hold_reason=hold.reason if hold else "",
        generation=known.generation,
    )
