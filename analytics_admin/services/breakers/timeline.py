"""A breaker's timeline: transitions from its store, merged with operations from the audit trail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import Error as DatabaseError

from analytics_admin.breakers.history import MAX_HISTORY_NAME_CHARS
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import describe_database_error
from analytics_admin.services.breakers.types import BreakerTransition
from analytics_admin.services.errors import AuditUnavailable

Kind = Operation.Kind

CAUSE_OF = {
    Kind.RESET_CIRCUIT_BREAKERS.value: "reset",
    Kind.CONTROL_CIRCUIT_BREAKERS.value: "control",
    Kind.ALLOW_PROBE.value: "probe_allowed",
    Kind.FORGET_CIRCUIT_BREAKER.value: "",
}
"""The cause of an operation's transitions; forgetting leaves none."""
MAX_OPERATIONS_SHOWN = 20
MAX_OPERATIONS_SEARCHED = 200
"""The newest on any breaker, among which those on one are searched."""
MAX_CLOCK_SKEW = timedelta(seconds=5)
"""Between the store's clock and that of the process that ran the operation."""
MAX_OPERATION_DURATION = timedelta(minutes=1)
"""Assumed where no end is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerEvent:
    """A transition, an operation, or a transition with the operation that caused it."""

    at: datetime
    transition: BreakerTransition | None = None
    operation: Operation | None = None


def list_operations_on_breaker(name: str) -> list[Operation]:
    """Return the newest operations on the breaker, newest first, at most 20.

    They are searched among the newest 200 on any breaker, in one query.

    Raises:
        AuditUnavailable: the audit trail cannot be read.
    """
    newest = Operation.objects.filter(kind__in=CAUSE_OF).defer("message")[:MAX_OPERATIONS_SEARCHED]
    try:
        concerned = [operation for operation in newest if _concerns(operation, name)]
    except DatabaseError as error:
        raise AuditUnavailable(describe_database_error(error)) from error
    return concerned[:MAX_OPERATIONS_SHOWN]


def build_timeline(
    name: str, transitions: Sequence[BreakerTransition], operations: Sequence[Operation]
) -> list[BreakerEvent]:
    """Return the breaker's transitions and the operations on it, newest first.

    A transition and the operation that caused it are one event.
    """
    remaining, events = list(operations), []
    for transition in transitions:
        operation = _cause_of(name, transition, remaining)
        if operation is not None:
            remaining.remove(operation)
        events.append(BreakerEvent(at=transition.at, transition=transition, operation=operation))
    events += [
        BreakerEvent(at=with_zone(operation.started_at), operation=operation)
        for operation in remaining
    ]
    return sorted(events, key=lambda event: event.at, reverse=True)


def could_have_caused(operation: Operation, transition: BreakerTransition) -> bool:
    """Say whether the operation ran at the transition's time and causes such ones."""
    began, ended = with_zone(operation.started_at), ended_at(operation)
    return (
        CAUSE_OF[operation.kind] == transition.cause
        and transition.actor in ("", operation.actor[:MAX_HISTORY_NAME_CHARS])
        and began - MAX_CLOCK_SKEW <= transition.at <= ended + MAX_CLOCK_SKEW
    )


def ended_at(operation: Operation) -> datetime:
    """Return when the operation ended; without a recorded end, the latest possible time."""
    return with_zone(operation.finished_at or operation.started_at + MAX_OPERATION_DURATION)


def _concerns(operation: Operation, name: str) -> bool:
    """A reset of the open breakers concerns those that it moved."""
    if operation.target_names is not None:
        return name in operation.target_names
    if operation.target_fields.get("names") != "all":
        return False
    return not operation.is_only_open or name in operation.moved_breakers


def _cause_of(
    name: str, transition: BreakerTransition, operations: Sequence[Operation]
) -> Operation | None:
    """Return the operation that caused the transition, if one did.

    Of several, prefer one whose row says that it moved the breaker, then the nearest in time: two
    by one operator may have run at once.
    """
    return min(
        [operation for operation in operations if could_have_caused(operation, transition)],
        key=lambda operation: (
            name not in operation.moved_breakers,
            abs(with_zone(operation.started_at) - transition.at),
        ),
        default=None,
    )
