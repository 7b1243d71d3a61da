"""What an act on breakers says to its operator, and leaves on record.

Knows what became of each breaker, and not how.
"""

from collections.abc import Sequence
from typing import Any

from analytics_admin.acts import ActResult
from analytics_admin.breakers.changes import BreakerChange
from analytics_admin.models import Operation


def report_done(operation: Operation, changes: Sequence[BreakerChange] | None) -> ActResult:
    """Return what the act says; ``changes`` of None are not told one by one."""
    return ActResult(
        message=operation.message,
        operation_id=operation.pk,
        results=None if changes is None else [_row(change) for change in changes],
    )


def report_plan(message: str, changes: Sequence[BreakerChange]) -> ActResult:
    """Return what the act's dry run says."""
    rows = [_row(change) for change in changes]
    return ActResult(message=f"Dry run: {message}", preview={"count": len(rows), "breakers": rows})


def name_breakers(changes: Sequence[BreakerChange], *, first: str = "Circuit") -> str:
    """Return the subject of a sentence: the one breaker by its name, or how many they are."""
    if len(changes) == 1:
        return f"{first} breaker {changes[0].name}"
    return f"{len(changes)} circuit breakers"


def sum_up(changes: Sequence[BreakerChange]) -> dict[str, Any]:
    """Keep the row small: how many, and the first hundred that were moved."""
    moved = [_row(change) for change in changes if change.from_state != change.to_state]
    return {"count": len(changes), "moved": len(moved), "results": moved[:100]}


def _row(change: BreakerChange) -> dict[str, str]:
    return {"name": change.name, "from": change.from_state, "to": change.to_state}
