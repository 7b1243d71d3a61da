"""Every registered breaker of the site, for operators: list them, reset them.

Registered: known to the store, declared in this process, or named in BREAKERS.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analytics_admin.breakers import engine
from analytics_admin.breakers.exchange import StateChange
from analytics_admin.breakers.machine import RESET, Snapshot, State, retry_after
from analytics_admin.breakers.machine import reset as reset_snapshot
from analytics_admin.breakers.registry import UnknownBreakers, declared_names, effective_policy
from analytics_admin.breakers.store import Move, StoreUnavailable

ROUNDS = 20
"""How often a reset is tried again on a breaker that has moved meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker for an operator's eyes; ``retry_after`` in seconds, None when calls pass."""

    name: str
    state: str
    consecutive_failures: int
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    """What a reset did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str


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


def statuses() -> list[BreakerStatus]:
    """Return every registered breaker, by name.

    Raises:
        StoreUnavailable
    """
    names = registered_names()
    reading = engine.act_store().load_many(names)
    return [_status(name, reading.snapshots[name], reading.now) for name in names]


def plan_reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    """Return what ``reset`` would do now, without doing it.

    Raises:
        UnknownBreakers, StoreUnavailable
    """
    return [_reset_of(name, snapshot) for name, snapshot in _selected(names, only_open)]


def reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    """Return breakers to closed with zero counts in a new generation: all, or those named.

    ``only_open`` passes over the closed ones. One that moves meanwhile is reset as it is then.

    Raises:
        UnknownBreakers: nothing was reset or created.
        StoreUnavailable: some may have been reset.
    """
    selected = dict(_selected(names, only_open))
    resets = {name: _reset_of(name, snapshot) for name, snapshot in selected.items()}
    waiting = {name: snapshot for name, snapshot in selected.items() if snapshot is not None}
    for _ in range(ROUNDS):
        if not waiting:
            break
        waiting = _reset_round(waiting)
        resets |= {name: _reset_of(name, snapshot) for name, snapshot in waiting.items()}
    if waiting:
        raise StoreUnavailable(f"{min(waiting)} changes faster than it can be reset")
    for name in selected:
        engine.fleet.expire(name)
    _announce(resets.values())
    return list(resets.values())


def _reset_round(waiting: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
    """Try to reset each; return those that had moved on, as they are now."""
    moves = [
        Move(
            name=name,
            expected=snapshot,
            new=reset_snapshot(snapshot),
            cause="" if snapshot.state is State.CLOSED else RESET,
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
    return now is None or (now.state is State.CLOSED and now.generation != before.generation)


def _announce(resets: Iterable[BreakerReset]) -> None:
    """Tell of the breakers that a reset has moved; on a healthy one it moves nothing."""
    for reset_ in resets:
        if reset_.from_state != reset_.to_state:
            change = StateChange(
                name=reset_.name,
                from_state=State(reset_.from_state),
                to_state=State(reset_.to_state),
                cause=RESET,
            )
            engine.announce(change)


def _selected(names: Sequence[str] | None, only_open: bool) -> list[tuple[str, Snapshot | None]]:
    registered = registered_names()
    if names is not None:
        unknown = set(names) - set(registered)
        if unknown:
            raise UnknownBreakers(list(unknown))
        registered = sorted(set(names))
    snapshots = engine.act_store().load_many(registered).snapshots
    return [
        (name, snapshots[name])
        for name in registered
        if not only_open or _state_of(snapshots[name]) is not State.CLOSED
    ]


def _state_of(snapshot: Snapshot | None) -> State:
    """A breaker that nobody has used yet has no record, and is closed."""
    return State.CLOSED if snapshot is None else snapshot.state


def _reset_of(name: str, snapshot: Snapshot | None) -> BreakerReset:
    return BreakerReset(
        name=name, from_state=_state_of(snapshot).value, to_state=State.CLOSED.value
    )


def _status(name: str, snapshot: Snapshot | None, now: float) -> BreakerStatus:
    if snapshot is None or snapshot.state in (State.CLOSED, State.UNKNOWN):
        wait = None
    else:
        wait = retry_after(snapshot, effective_policy(name), now)
    return BreakerStatus(
        name=name,
        state=_state_of(snapshot).value,
        consecutive_failures=0 if snapshot is None else snapshot.consecutive_failures,
        retry_after=wait,
    )
