"""What a store that came back has lost of operators' acts is done again, on record.

A server that has restarted, or a replica that took over, may hold an older state of breakers than
operators have seen confirmed. The audit trail says what they did last.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import connections, router

from analytics_admin.breakers import runtime
from analytics_admin.breakers.control import MAX_NAMES_RECORDED, BreakerChange
from analytics_admin.breakers.state import Control, Snapshot, State
from analytics_admin.breakers.state_machine import control_in_force, count_moves, display_state
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import Actor
from analytics_admin.services.breakers.operations import ResetBreakers, SetControl
from analytics_admin.services.errors import BreakerChanged, OperatorError, get_logger
from analytics_admin.services.runner import MAX_REASON_LENGTH, perform

logger = get_logger("analytics_admin.services")

ACTOR = Actor.system("reconciliation")
MAX_ROWS = 5000
"""How many operations it looks back at; of breakers without one among these it knows nothing."""
MAX_ATTEMPTS = 20
"""Attempts at breakers that keep changing."""
SKEW_SECONDS = 5.0
"""How far the clocks of the processes and of the store may be apart."""

Kind, Status = Operation.Kind, Operation.Status

Execute = Callable[[Sequence[str], Mapping[str, str]], list[BreakerChange]]
"""Makes a lost act's changes to breakers of these names, at these generations by name."""


@dataclass(frozen=True, slots=True)
class _Act:
    """The last act of an operator on a breaker."""

    operation: Operation
    began: float
    ended: float
    """Unix times, by the clock of the process that did it."""
    control: Control = Control.AUTOMATIC
    until: float | None = None
    """When the hold expires; None: never."""


Acts = dict[str, _Act | None]
"""By name; None: what was done last is not known, so the breaker is left as it is."""


def reconcile() -> None:
    """Compare the store with the audit trail, and do again what it has lost. Raises nothing."""
    try:
        if not _has_audit_trail():
            return
        if _reconcile():
            runtime.operator_store().settle_server()
    # A thread of its own, which no caller waits for: the store, or the site's database.
    except Exception as error:
        logger.warning(
            "circuit breakers: the store is another server than before; whether it has lost an "
            "operation is not known yet (%s)",
            type(error).__name__,
        )
    finally:
        connections.close_all()


def _has_audit_trail() -> bool:
    """Return whether the site has a database: without one no operator can have acted."""
    database = connections[router.db_for_write(Operation)]
    return bool(database.settings_dict["ENGINE"] != "django.db.backends.dummy")


def _reconcile() -> bool:
    """Do again what is lost; return whether that is all of it."""
    # First the store: what an operator does from now on is not in it, and changes generations.
    reading, ahead = runtime.read_registered(), -time.time()
    ahead += reading.now
    acts, others = _last_acts()
    names = {*reading.snapshots, *acts}
    lost: dict[UUID, tuple[_Act, list[str]]] = {}
    for name in sorted(names):
        act = acts.get(name, others)
        if act is not None and _is_lost(act, name, reading, ahead):
            lost.setdefault(act.operation.pk, (act, []))[1].append(name)
    done = [_do_again(act, lost_names, reading, ahead) for act, lost_names in lost.values()]
    return all(done)


def _last_acts() -> tuple[Acts, _Act | None]:
    """Return the last act on each breaker, and on all others."""
    rows = Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind
    kinds = [
        Kind.RESET_CIRCUIT_BREAKERS,
        Kind.CONTROL_CIRCUIT_BREAKERS,
        Kind.FORGET_CIRCUIT_BREAKER,
    ]
    acts: Acts = {}
    for row in rows.filter(kind__in=kinds).exclude(status=Status.DENIED)[:MAX_ROWS]:
        names, is_all = reached_by(row)
        act = _act(row) if row.status in (Status.DONE, Status.FAILED) else None
        for name in names:
            acts.setdefault(name, act)
        if is_all:
            return acts, act
        if not _is_known(row, names):
            break
    return acts, None


def reached_by(row: Operation) -> tuple[Sequence[str], bool]:
    """Return the breakers that the operation has changed or may have, and whether all others."""
    if row.status == Status.FAILED:
        return row.reached_names, False
    if row.kind == Kind.RESET_CIRCUIT_BREAKERS and row.is_only_open:
        return list(row.moved_breakers), False
    names = row.target_names
    return names or (), names is None


def _is_known(row: Operation, names: Sequence[str]) -> bool:
    """Return whether the row names each breaker that it has changed: it keeps a hundred."""
    if row.status == Status.FAILED:
        return (row.reached_count or 0) <= len(names)
    if row.kind == Kind.RESET_CIRCUIT_BREAKERS and row.is_only_open:
        return row.moved_count is not None and row.moved_count <= len(names)
    return True


def _act(row: Operation) -> _Act | None:
    """Return what it has done; None if that is nothing to be done again."""
    if row.kind == Kind.FORGET_CIRCUIT_BREAKER or row.finished_at is None:
        return None
    began, ended = (with_zone(at).timestamp() for at in (row.started_at, row.finished_at))
    if row.kind == Kind.RESET_CIRCUIT_BREAKERS or row.control == Control.AUTOMATIC:
        return _Act(row, began, ended)
    seconds = row.target_fields.get("for_seconds")
    if row.control not in set(Control) or not isinstance(seconds, int | float | None):
        return None
    return _Act(
        row, began, ended, Control(row.control), None if seconds is None else ended + seconds
    )


def _is_lost(act: _Act, name: str, reading: Reading, ahead: float) -> bool:
    """Return whether the store holds a state from before the act.

    ``ahead`` is by how much the store's time is ahead of this process' clock.
    """
    snapshot, now, began = reading.snapshots.get(name), reading.now, act.began + ahead
    held = Control.AUTOMATIC if snapshot is None else control_in_force(snapshot, now)
    is_later = snapshot is not None and snapshot.entered_at > began + SKEW_SECONDS
    if act.control is not Control.AUTOMATIC:
        is_over = act.until is not None and act.until + ahead <= now + SKEW_SECONDS
        if is_over or held is act.control:
            return False
        return not is_later or snapshot is None or _is_new(name, snapshot, began)
    if is_later:
        return False
    if held is not Control.AUTOMATIC:
        return True
    is_reset = act.operation.kind == Kind.RESET_CIRCUIT_BREAKERS
    return is_reset and snapshot is not None and snapshot.state is not State.CLOSED


def _is_new(name: str, snapshot: Snapshot, since: float) -> bool:
    """Return whether the store knows the breaker only since then: it knows of no act before."""
    moves = count_moves(snapshot.generation)
    if not moves:
        return moves == 0 and snapshot.state is State.CLOSED
    transitions = runtime.operator_store().transitions(name)
    return (
        len(transitions) == moves
        and all(each.at > since and not each.actor for each in transitions)
        and transitions[-1].from_state == State.CLOSED
    )


def _do_again(act: _Act, names: Sequence[str], reading: Reading, ahead: float) -> bool:
    """Do this operation again to these breakers; return False if one keeps changing."""
    operation = act.operation
    by = f"The store had lost operation {operation.pk} by {operation.actor}"
    reason = (f"{by}: {operation.reason}" if operation.reason else by)[:MAX_REASON_LENGTH]
    common: dict[str, Any] = {
        "names": names,
        "expected": _generations(names, reading),
        "actor": ACTOR.name,
        "loss": _Loss(act=act, reading=reading, ahead=ahead),
    }
    command: _ResetAgain | _HoldAgain
    if operation.kind == Kind.RESET_CIRCUIT_BREAKERS:
        command = _ResetAgain(**common)
    else:
        _register(names, reading.snapshots)
        seconds = _seconds_left(act.control, act.until)
        command = _HoldAgain(
            **common, control=act.control.value, for_seconds=seconds, reason=reason
        )
    try:
        perform(command, actor=ACTOR, reason=reason)
    except BreakerChanged:
        return False
    logger.warning("circuit breakers: %s, which is done again: %s", by, ", ".join(names[:10]))
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """The act that the store has lost, and the breakers as they were read."""

    act: _Act
    reading: Reading
    ahead: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _ResetAgain(ResetBreakers):
    loss: _Loss

    def execute(self) -> list[BreakerChange]:
        return _insist(
            lambda names, expected: ResetBreakers.execute(
                replace(self, names=names, expected=expected)
            ),
            self.names or (),
            self.loss,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _HoldAgain(SetControl):
    loss: _Loss

    def execute(self) -> list[BreakerChange]:
        return _insist(
            lambda names, expected: SetControl.execute(
                replace(self, names=names, expected=expected)
            ),
            self.names,
            self.loss,
        )


def _insist(execute: Execute, names: Sequence[str], loss: _Loss) -> list[BreakerChange]:
    """Execute it, also where a breaker changes meanwhile, as when a process registers it.

    What an operator does meanwhile is left.
    """
    reached: dict[str, BreakerChange] = {}
    try:
        return _execute_on(execute, names, loss, reached)
    except OperatorError as error:
        done = {*reached, *error.partial_outcome.get("names", ())}
        error.partial_outcome = {"count": len(done), "names": sorted(done)[:MAX_NAMES_RECORDED]}
        raise


def _execute_on(
    execute: Execute, names: Sequence[str], loss: _Loss, reached: dict[str, BreakerChange]
) -> list[BreakerChange]:
    """Execute it on these breakers as long as it is lost there; note in ``reached`` what is done.

    Raises:
        OperatorError
    """
    before = loss.reading
    for _ in range(MAX_ATTEMPTS):
        try:
            return [*reached.values(), *execute(names, _generations(names, before))]
        except BreakerChanged as error:
            changed = error
        after = runtime.read_registered(names)
        reached |= {name: _changed(name, before, after) for name in changed.reached}
        lost = (name for name in names if _is_lost(loss.act, name, after, loss.ahead))
        names, before = [name for name in lost if name not in reached], after
        if not names:
            break
    if names or not reached:
        raise changed
    return list(reached.values())


def _changed(name: str, before: Reading, after: Reading) -> BreakerChange:
    old, new = before.snapshots.get(name), after.snapshots.get(name)
    return BreakerChange(
        name=name,
        from_state=display_state(old, before.now),
        to_state=display_state(new, after.now),
        generation=_generation(old),
        sequence=after.sequence,
    )


def _seconds_left(control: Control, until: float | None) -> float | None:
    if control is Control.AUTOMATIC:
        return None
    return math.inf if until is None else max(1.0, until - time.time())


def _register(names: Iterable[str], registered: Mapping[str, object]) -> None:
    """Register the names that the store has lost, which would be unknown."""
    lost = [name for name in names if name not in registered]
    if lost:
        runtime.operator_store().register(lost, keep_for=runtime.keep_for())


def _generations(names: Iterable[str], reading: Reading) -> dict[str, str]:
    return {name: _generation(reading.snapshots.get(name)) for name in names}


def _generation(snapshot: Snapshot | None) -> str:
    return "" if snapshot is None else snapshot.generation
