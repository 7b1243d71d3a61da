"""The operator's acts on circuit breakers: reset, hold, release, forget.

Services offers them to every door; each is permitted, put on record and announced here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from analytics_admin import audit
from analytics_admin.access import Act
from analytics_admin.acts import ActRefused, ActResult, authorize, failing_as
from analytics_admin.audit import Actor
from analytics_admin.breaker_arguments import (
    Generations,
    expectations,
    hold_asked_for,
    require_flag,
    require_names,
)
from analytics_admin.breakers import operations, roster
from analytics_admin.breakers.changes import BreakerChange, BreakerKept, BreakerMoved
from analytics_admin.breakers.registry import UnknownBreakers
from analytics_admin.breakers.snapshot import Control
from analytics_admin.connections import StoreUnavailable
from analytics_admin.models import Operation

CONTROLS = tuple(control.value for control in Control)
"""What a breaker can be set to."""

Look = Callable[[Sequence[str]], object]
Lost = StoreUnavailable | None


def reset_circuit_breakers(
    *,
    actor: Actor,
    names: Sequence[str] | None = None,
    only_open: bool = False,
    reason: str = "",
    dry_run: bool = False,
    expected_generation: Generations = None,
) -> ActResult:
    """Return breakers to closed with zero counts: all registered ones, or those named.

    ``only_open`` leaves the closed ones alone.

    Raises:
        TypeError: an argument is of another type; ``names`` is one text instead of several.
        ValueError: ``expected_generation`` without the one name whose it is.
        UnknownBreakers: a name is not registered; nothing was reset, created or recorded.
        BreakerMoved: one is not at its ``expected_generation`` any more; nothing was reset.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    require_flag("only_open", only_open)
    if names is not None:
        require_names(names)
    expected = expectations(names or (), expected_generation)
    act = Act.RESET_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if names is not None and not names:
        raise ActRefused("names: at least one name is needed", code="invalid")
    with failing_as(act, passing=(UnknownBreakers, BreakerMoved)) as attempt:
        if dry_run:
            plan = operations.plan_reset(names, only_open=only_open, expected=expected)
            return ActResult(
                message=f"Dry run: {len(plan)} circuit breakers would be reset",
                preview=_plan(plan),
            )
        targets = {"names": sorted(set(names)) if names else "all", "only_open": only_open}
        lost = _look_first(names)
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            _stop_if(lost)
            with _reached_on_record(operation):
                resets = operations.reset(names, only_open=only_open, expected=expected)
            operation.outcome = _outcome(resets)
    if names is None and not only_open:
        message = "All circuit breakers reset successfully"
        return ActResult(message=message, operation_id=operation.pk)
    return ActResult(
        message=f"{len(resets)} circuit breakers reset successfully",
        operation_id=operation.pk,
        results=[_as_row(reset) for reset in resets],
    )


def set_breaker_control(
    *,
    name: str,
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
) -> ActResult:
    """Hold a breaker forced_open, disabled or metrics_only, or release it (automatic).

    A hold ends by itself after ``for_seconds`` (an hour if not given; ``math.inf``: never).

    Raises:
        UnknownBreakers: nothing was held, created or recorded.
        BreakerMoved: the breaker is not at ``expected_generation`` any more; nothing was done.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    return set_breaker_controls(
        names=[name],
        control=control,
        actor=actor,
        for_seconds=for_seconds,
        reason=reason,
        expected_generation=expected_generation,
        dry_run=dry_run,
    )


def set_breaker_controls(
    *,
    names: Sequence[str],
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: Generations = None,
    dry_run: bool = False,
) -> ActResult:
    """Do to each of the breakers what set_breaker_control does to one, as one act on record.

    Raises:
        TypeError, ValueError: as for reset_circuit_breakers.
        UnknownBreakers, BreakerMoved: nothing was done, unless a breaker moved in the very moment
            of the act.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    require_names(names)
    expected = expectations(names, expected_generation)
    act = Act.CONTROL_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if not names:
        raise ActRefused("names: at least one name is needed", code="invalid")
    wanted, seconds = hold_asked_for(control, for_seconds)
    with failing_as(act, passing=(UnknownBreakers, BreakerMoved)) as attempt:
        if dry_run:
            plan = operations.plan_control(names, wanted, expected=expected)
            return _preview(plan, f"would be set to {wanted.value}")
        lost = _look_first(names)
        targets = {"names": sorted(set(names)), "control": wanted.value, "for_seconds": seconds}
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            _stop_if(lost)
            with _reached_on_record(operation):
                changes = operations.set_control(
                    names,
                    wanted,
                    for_seconds=seconds,
                    actor=actor.name,
                    reason=reason,
                    expected=expected,
                )
            operation.outcome = _outcome(changes)
    return ActResult(
        message=f"{_named(changes)} set to {wanted.value}",
        operation_id=operation.pk,
        results=[_as_row(change) for change in changes],
    )


def forget_breaker(
    *,
    name: str,
    actor: Actor,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
) -> ActResult:
    """Take a mistyped or retired name off the list, with all that is known of the breaker.

    A process that still uses the name registers it again, as closed.

    Raises:
        UnknownBreakers, BreakerKept: nothing was done or recorded.
        BreakerMoved: the breaker is not at ``expected_generation`` any more; nothing was done.
        ActDenied, ActRefused, ActFailed: as for clear_search_cache.
    """
    require_names([name])
    expected = expectations([name], expected_generation)
    act = Act.FORGET_CIRCUIT_BREAKER
    reason = authorize(act, actor, reason, dry_run=dry_run)
    with failing_as(act, passing=(UnknownBreakers, BreakerMoved, BreakerKept)) as attempt:
        if dry_run:
            return _preview([operations.plan_forget(name, expected=expected)], "would be forgotten")
        lost = _look_first(
            [name], lambda names: operations.plan_forget(names[0], expected=expected)
        )
        targets = {"names": [name]}
        with audit.audited(act.value, actor=actor, reason=reason, targets=targets) as operation:
            attempt.operation_id = operation.pk
            _stop_if(lost)
            change = operations.forget(name, expected=expected)
            operation.outcome = _outcome([change])
    return ActResult(
        message=f"{_named([change])} forgotten",
        operation_id=operation.pk,
        results=[_as_row(change)],
    )


def _look_first(names: Sequence[str] | None, look: Look = roster.require_known) -> Lost:
    """Let refusals that leave no row be raised before the audit row is written.

    What leaves a row is the act's to report: a breaker that has moved, and a store that does not
    answer, which is returned, so that the operator does not wait for it twice.
    """
    if names:
        try:
            look(names)
        except BreakerMoved:
            return None
        except StoreUnavailable as error:
            return error
    return None


@contextmanager
def _reached_on_record(operation: Operation) -> Iterator[None]:
    """Note to which breakers the act was done before another one moved."""
    try:
        yield
    except BreakerMoved as moved:
        names = sorted(moved.reached)
        operation.outcome = {"count": len(names), "names": names[:100]}
        raise


def _stop_if(lost: Lost) -> None:
    if lost is not None:
        raise lost


def _named(changes: Sequence[BreakerChange], *, first: str = "Circuit") -> str:
    if len(changes) == 1:
        return f"{first} breaker {changes[0].name}"
    return f"{len(changes)} circuit breakers"


def _preview(plan: Sequence[BreakerChange], words: str) -> ActResult:
    return ActResult(
        message=f"Dry run: {_named(plan, first='circuit')} {words}",
        preview=_plan(plan),
    )


def _plan(plan: Sequence[BreakerChange]) -> dict[str, Any]:
    return {"count": len(plan), "breakers": [_as_row(change) for change in plan]}


def _outcome(changes: Sequence[BreakerChange]) -> dict[str, Any]:
    """Keep the row small: how many, and the first hundred that were moved."""
    moved = [_as_row(change) for change in changes if change.from_state != change.to_state]
    return {"count": len(changes), "moved": len(moved), "results": moved[:100]}


def _as_row(change: BreakerChange) -> dict[str, str]:
    return {"name": change.name, "from": change.from_state, "to": change.to_state}
