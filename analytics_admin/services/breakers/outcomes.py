"""What an act on breakers says to its operator, and leaves on record.

Knows what became of each breaker, and not how.
"""

from collections.abc import Sequence
from typing import Any

from django.utils.translation import ngettext_lazy

from analytics_admin.breakers.changes import BreakerChange, state_message
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.services.runner import OperationResult


def done_result(operation: Operation, changes: Sequence[BreakerChange] | None) -> OperationResult:
    """Return what the act says; ``changes`` of None are not told one by one."""
    return OperationResult(
        message=operation.message,
        operation_id=operation.pk,
        results=None if changes is None else [_row(change) for change in changes],
    )


def dry_run_result(plan: str, changes: Sequence[BreakerChange]) -> OperationResult:
    """Return what the act's dry run says."""
    rows = [_row(change) for change in changes]
    message = Message(_("Dry run: %(plan)s"), plan=plan)
    return OperationResult(
        message=message,
        preview={"count": len(rows), "breakers": rows},
        generations={change.name: change.generation for change in changes},
    )


def plan_message(changes: Sequence[BreakerChange], control: str) -> Message:
    """Return what a dry run says of setting breakers: the one by its name, or how many."""
    if len(changes) == 1:
        words = _("circuit breaker %(name)s would be set to %(control)s")
        return Message(words, name=changes[0].name, control=state_message(control))
    several = ngettext_lazy(
        "%(number)d circuit breakers would be set to %(control)s",
        "%(number)d circuit breakers would be set to %(control)s",
        "number",
    )
    return Message(several, number=len(changes), control=state_message(control))


def control_message(changes: Sequence[BreakerChange], control: str) -> Message:
    """Return what is said of breakers that were set: the one by its name, or how many."""
    if len(changes) == 1:
        words = _("Circuit breaker %(name)s set to %(control)s")
        return Message(words, name=changes[0].name, control=state_message(control))
    several = ngettext_lazy(
        "%(number)d circuit breakers set to %(control)s",
        "%(number)d circuit breakers set to %(control)s",
        "number",
    )
    return Message(several, number=len(changes), control=state_message(control))


def reset_message(changes: Sequence[BreakerChange] | None) -> Message:
    """Return what is said of a reset; ``changes`` of None are all breakers, and not counted."""
    if changes is None:
        return Message(_("All circuit breakers reset successfully"))
    words = ngettext_lazy(
        "%(number)d circuit breakers reset successfully",
        "%(number)d circuit breakers reset successfully",
        "number",
    )
    return Message(words, number=len(changes))


def build_outcome(changes: Sequence[BreakerChange]) -> dict[str, Any]:
    """Keep the row small: how many, and the first hundred that were moved."""
    moved = [_row(change) for change in changes if change.from_state != change.to_state]
    return {"count": len(changes), "moved": len(moved), "results": moved[:100]}


def _row(change: BreakerChange) -> dict[str, str]:
    return {"name": change.name, "from": change.from_state, "to": change.to_state}
