"""The operator's acts on circuit breakers: reset, hold, release, forget, let one probe through.

Services offers them to every door; each is permitted, put on record and announced here.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from django.utils.translation import ngettext_lazy

from analytics_admin.breakers import control as operations
from analytics_admin.breakers import forgetting, probing, status
from analytics_admin.breakers.changes import BreakerChanged, BreakerInUse, BreakerNotOpen
from analytics_admin.breakers.registry import UnknownBreakers
from analytics_admin.breakers.state import Control
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.permissions import Act
from analytics_admin.services.audit import Actor
from analytics_admin.services.breakers.arguments import (
    ExpectedGenerations,
    generations_by_name,
    parse_hold,
    require_bool,
    require_names,
)
from analytics_admin.services.breakers.outcomes import (
    build_outcome,
    control_message,
    done_result,
    dry_run_result,
    plan_message,
    reset_message,
)
from analytics_admin.services.errors import OperationRejected
from analytics_admin.services.runner import (
    OperationResult,
    authorize,
    translate_errors,
)
from analytics_admin.stores.client import StoreUnavailable

CONTROLS = tuple(control.value for control in Control)
"""What a breaker can be set to."""

Look = Callable[[Sequence[str]], object]
Lost = StoreUnavailable | None


def reset_circuit_breakers(  # noqa: PLR0913  each by its name
    *,
    actor: Actor,
    names: Sequence[str] | None = None,
    only_open: bool = False,
    reason: str = "",
    dry_run: bool = False,
    expected_generation: ExpectedGenerations = None,
    operation_id: UUID | None = None,
    seen: Collection[str] | None = None,
) -> OperationResult:
    """Return breakers to closed with zero counts: all registered ones, or those named.

    ``only_open`` leaves the closed ones alone. The act is done once under one ``operation_id``.
    With ``seen``, the names that a preview has listed, no other one is reset.

    Raises:
        TypeError: an argument is of another type; ``names`` is one text instead of several.
        ValueError: ``expected_generation`` without the one name whose it is.
        UnknownBreakers: a name is not registered; nothing was reset, created or recorded.
        BreakerChanged: one is not at its ``expected_generation`` any more, or would be reset and is
            none of those ``seen``; nothing was reset.
        OperationDenied, OperationRejected, OperationFailed: as for clear_search_cache.
    """
    require_bool("only_open", only_open)
    for given in (names, seen):
        if given is not None:
            require_names(given)
    expected = generations_by_name(names or (), expected_generation)
    act = Act.RESET_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if names is not None and not names:
        raise OperationRejected(Message(_("names: at least one name is needed")), code="invalid")
    passing = (UnknownBreakers, BreakerChanged)
    with translate_errors(act, actor=actor, passing=passing, operation_id=operation_id) as attempt:
        if dry_run:
            plan = operations.plan_reset(names, only_open=only_open, expected=expected)
            words = ngettext_lazy(
                "%(number)d circuit breakers would be reset",
                "%(number)d circuit breakers would be reset",
                "number",
            )
            return dry_run_result(Message(words, number=len(plan)), plan)
        targets = {"names": sorted(set(names)) if names else "all", "only_open": only_open}
        lost = _look_first(names)
        with attempt.recorded(reason=reason, targets=targets) as operation:
            _stop_if(lost)
            with _reached_on_record(operation):
                resets = operations.reset(names, only_open=only_open, expected=expected, seen=seen)
            operation.outcome = build_outcome(resets)
            chosen = names is not None or only_open
            operation.message = reset_message(resets if chosen else None)
    return done_result(operation, resets if chosen else None)


def set_breaker_control(  # noqa: PLR0913  each by its name
    *,
    name: str,
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Hold a breaker forced_open, disabled or metrics_only, or release it (automatic).

    A hold ends by itself after ``for_seconds`` (an hour if not given; ``math.inf``: never).

    Raises:
        UnknownBreakers: nothing was held, created or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more; nothing was done.
        OperationDenied, OperationRejected, OperationFailed: as for clear_search_cache.
    """
    return set_breaker_controls(
        names=[name],
        control=control,
        actor=actor,
        for_seconds=for_seconds,
        reason=reason,
        expected_generation=expected_generation,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def set_breaker_controls(  # noqa: PLR0913  each by its name
    *,
    names: Sequence[str],
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: ExpectedGenerations = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Do to each of the breakers what set_breaker_control does to one, as one act on record.

    Raises:
        TypeError, ValueError: as for reset_circuit_breakers.
        UnknownBreakers, BreakerChanged: nothing was done, unless a breaker moved in the very moment
            of the act.
        OperationDenied, OperationRejected, OperationFailed: as for clear_search_cache.
    """
    require_names(names)
    expected = generations_by_name(names, expected_generation)
    act = Act.CONTROL_CIRCUIT_BREAKERS
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if not names:
        raise OperationRejected(Message(_("names: at least one name is needed")), code="invalid")
    wanted, seconds = parse_hold(control, for_seconds)
    passing = (UnknownBreakers, BreakerChanged)
    with translate_errors(act, actor=actor, passing=passing, operation_id=operation_id) as attempt:
        if dry_run:
            plan = operations.plan_control(names, wanted, expected=expected)
            return dry_run_result(plan_message(plan, wanted), plan)
        lost = _look_first(names)
        targets = {"names": sorted(set(names)), "control": wanted.value, "for_seconds": seconds}
        with attempt.recorded(reason=reason, targets=targets) as operation:
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
            operation.outcome = build_outcome(changes)
            operation.message = control_message(changes, wanted)
    return done_result(operation, changes)


def forget_breaker(
    *,
    name: str,
    actor: Actor,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Take a mistyped or retired name off the list, with all that is known of the breaker.

    A process that still uses the name registers it again, as closed.

    Raises:
        UnknownBreakers, BreakerInUse: nothing was done or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more; nothing was done.
        OperationDenied, OperationRejected, OperationFailed: as for clear_search_cache.
    """
    require_names([name])
    expected = generations_by_name([name], expected_generation)
    act = Act.FORGET_CIRCUIT_BREAKER
    reason = authorize(act, actor, reason, dry_run=dry_run)
    passing = (UnknownBreakers, BreakerChanged, BreakerInUse)
    with translate_errors(act, actor=actor, passing=passing, operation_id=operation_id) as attempt:
        if dry_run:
            plan = forgetting.plan_forget(name, expected=expected)
            words = _("circuit breaker %(name)s would be forgotten")
            return dry_run_result(Message(words, name=name), [plan])
        lost = _look_first(
            [name], lambda names: forgetting.plan_forget(names[0], expected=expected)
        )
        targets = {"names": [name]}
        with attempt.recorded(reason=reason, targets=targets) as operation:
            _stop_if(lost)
            change = forgetting.forget(name, expected=expected)
            operation.outcome = build_outcome([change])
            operation.message = Message(_("Circuit breaker %(name)s forgotten"), name=name)
    return done_result(operation, [change])


def allow_probe(
    *,
    name: str,
    actor: Actor,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Let one probe through an open breaker now, instead of at the end of its wait.

    It is half-open then: the next calls probe, as many as its policy permits, and what they come
    to closes it or opens it again.

    Raises:
        UnknownBreakers: nothing was done or recorded.
        BreakerNotOpen: it is closed, half-open or held; nothing was done or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more; nothing was done.
        OperationDenied, OperationRejected, DuplicateOperation, OperationFailed: as for
        clear_search_cache.
    """
    require_names([name])
    expected = generations_by_name([name], expected_generation)
    act = Act.ALLOW_PROBE
    reason = authorize(act, actor, reason, dry_run=dry_run)
    passing = (UnknownBreakers, BreakerChanged, BreakerNotOpen)
    with translate_errors(act, actor=actor, passing=passing, operation_id=operation_id) as attempt:
        if dry_run:
            plan = probing.plan_probe(name, expected=expected)
            words = _("circuit breaker %(name)s would let a probe through")
            return dry_run_result(Message(words, name=name), [plan])
        lost = _look_first([name], lambda names: probing.plan_probe(names[0], expected=expected))
        with attempt.recorded(reason=reason, targets={"names": [name]}) as operation:
            _stop_if(lost)
            change = probing.allow_probe(name, actor=actor.name, expected=expected)
            operation.outcome = build_outcome([change])
            words = _("Circuit breaker %(name)s lets a probe through")
            operation.message = Message(words, name=name)
    return done_result(operation, [change])


def _look_first(names: Sequence[str] | None, look: Look = status.require_known) -> Lost:
    """Let refusals that leave no row be raised before the audit row is written.

    What leaves a row is the act's to report: a breaker that has moved, and a store that does not
    answer, which is returned, so that the operator does not wait for it twice.
    """
    if names:
        try:
            look(names)
        except BreakerChanged:
            return None
        except StoreUnavailable as error:
            return error
    return None


@contextmanager
def _reached_on_record(operation: Operation) -> Iterator[None]:
    """Note to which breakers the act was done before another one moved."""
    try:
        yield
    except BreakerChanged as moved:
        names = sorted(moved.reached)
        operation.outcome = {"count": len(names), "names": names[:100]}
        raise


def _stop_if(lost: Lost) -> None:
    if lost is not None:
        raise lost
