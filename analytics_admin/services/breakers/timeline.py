"""A breaker's past as one line: its transitions, and what operators did to it.

The store keeps transitions, the audit trail acts; what an act brought about is told with the act.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import Error as DatabaseError

from analytics_admin.breakers.history import MAX_NAME_CHARS
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
"""The cause of the transitions that an act makes; forgetting leaves none."""
MAX_OPERATIONS_SHOWN = 20
MAX_OPERATIONS_SEARCHED = 200
"""Acts on breakers, newest first, among which those on one are looked for."""
MAX_CLOCK_SKEW = timedelta(seconds=5)
"""The most by which the store's clock and that of the acting process are taken to differ."""
MAX_OPERATION_DURATION = timedelta(minutes=1)
"""How long an act is taken to last whose end is not on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerEvent:
    """Something in a breaker's past: a transition, an act on it, or one by way of the other."""

    at: datetime
    transition: BreakerTransition | None = None
    act: Operation | None = None


def list_operations_on_breaker(name: str) -> list[Operation]:
    """Return the newest acts that were aimed at the breaker, newest first, at most 20.

    They are looked for among the newest 200 on any breaker, in one query.

    Raises:
        AuditUnavailable: the audit trail cannot be read.
    """
    newest = Operation.objects.filter(kind__in=CAUSE_OF).defer("message")[:MAX_OPERATIONS_SEARCHED]
    try:
        return [act for act in newest if _concerns(act, name)][:MAX_OPERATIONS_SHOWN]
    except DatabaseError as error:
        raise AuditUnavailable(describe_database_error(error)) from error


def build_timeline(
    name: str, transitions: Sequence[BreakerTransition], acts: Sequence[Operation]
) -> list[BreakerEvent]:
    """Return the breaker's transitions and the acts on it, newest first.

    A transition and the act that made it are one event.
    """
    left, events = list(acts), []
    for move in transitions:
        act = _act_behind(name, move, left)
        if act is not None:
            left.remove(act)
        events.append(BreakerEvent(at=move.at, transition=move, act=act))
    events += [BreakerEvent(at=with_zone(act.started_at), act=act) for act in left]
    return sorted(events, key=lambda event: event.at, reverse=True)


def could_have_caused(act: Operation, move: BreakerTransition) -> bool:
    """Say whether the act ran when the transition was made, and makes such ones."""
    return (
        CAUSE_OF[act.kind] == move.cause
        and move.actor in ("", act.actor[:MAX_NAME_CHARS])
        and with_zone(act.started_at) - MAX_CLOCK_SKEW <= move.at <= ended_at(act) + MAX_CLOCK_SKEW
    )


def ended_at(act: Operation) -> datetime:
    """Return when the act ended; at the latest, where that is not on record."""
    return with_zone(act.finished_at or act.started_at + MAX_OPERATION_DURATION)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Rows are written by every release that the site had, and by hand: they may hold anything."""
    return value if isinstance(value, Mapping) else {}


def _concerns(act: Operation, name: str) -> bool:
    """A reset of the open ones concerns those that it moved, of which a hundred are on record."""
    targets = as_mapping(act.targets)
    names = targets.get("names")
    if names != "all":
        return isinstance(names, list) and name in names
    return not targets.get("only_open") or _has_moved(act, name)


def _has_moved(act: Operation, name: str) -> bool:
    results = as_mapping(act.outcome).get("results")
    rows = results if isinstance(results, list) else []
    return any(as_mapping(row).get("name") == name for row in rows)


def _act_behind(name: str, move: BreakerTransition, acts: Sequence[Operation]) -> Operation | None:
    """Return the act that ran when the transition was made, and makes such ones, if there is one.

    Of several, one that says that it moved the breaker, and the nearest of those; a reset's
    transition does not say whose it was.
    """
    return min(
        [act for act in acts if could_have_caused(act, move)],
        key=lambda act: (not _has_moved(act, name), abs(with_zone(act.started_at) - move.at)),
        default=None,
    )
