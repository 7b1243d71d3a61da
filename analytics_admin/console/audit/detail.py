"""One operation's page: who, when, through which channel, and what was before and after.

Uses the row only, whatever it holds: an unknown kind or figure is shown by its name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import ngettext

from analytics_admin.console.audit.labels import (
    FIGURES,
    format_duration,
    format_figure,
    format_target,
    status_meaning,
)
from analytics_admin.console.labels import count, state_badge, status_badge
from analytics_admin.models import Operation

MAX_LISTED = 100


def describe_operation(operation: Operation) -> dict[str, Any]:
    """Return the context of an operation's page."""
    targets, outcome = operation.target_fields, operation.outcome_fields
    new = {key: value for key, value in outcome.items() if targets.get(key) != value}
    return {
        "operation": operation,
        "target": format_target(operation),
        "badge": status_badge(operation),
        "meaning": status_meaning(operation),
        "duration": format_duration(operation.duration_ms),
        "is_account_deleted": is_account_deleted(operation),
        "related_model": related_model(operation),
        "requested": [*describe_figures(targets)],
        "requested_names": truncate(targets.get("names")),
        "requested_tags": truncate(targets.get("tags")),
        "figures": [*describe_figures(new)],
        "changes": describe_transitions(outcome),
        "reached": truncate(outcome.get("names")),
        "json": format_json({"targets": operation.targets, "outcome": operation.outcome}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedList:
    """The first items of a long list, and how many are left out."""

    shown: Sequence[Any]
    unshown: int

    @property
    def more(self) -> str:
        """How many are left out, as a text; "" for none."""
        if not self.unshown:
            return ""
        text = ngettext("and %(number)s more", "and %(number)s more", self.unshown)
        return text % {"number": count(self.unshown)}


def truncate(items: Any, whole: Any = 0) -> TruncatedList:
    """Return the first of the items; none where they are no list.

    ``whole`` is how many there were before the operation truncated its record.
    """
    listed = items if isinstance(items, list) else []
    shown = listed[:MAX_LISTED]
    total = whole if isinstance(whole, int) else 0
    return TruncatedList(shown=shown, unshown=max(total, len(listed)) - len(shown))


def describe_transitions(outcome: Mapping[str, Any]) -> TruncatedList:
    """Return each breaker's state before and after."""
    moves = truncate(outcome.get("results"), outcome.get("moved"))
    rows = [
        {
            "name": str(row.get("name", "")),
            "from": state_badge(str(row.get("from", ""))),
            "to": state_badge(str(row.get("to", ""))),
        }
        for row in map(_mapping, moves.shown)
    ]
    return TruncatedList(shown=rows, unshown=moves.unshown)


def describe_figures(fields: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return label and value of each field but lists: known ones first, in the order of FIGURES."""
    known = [key for key in FIGURES if key in fields]
    others = [key for key in fields if key not in FIGURES]
    return [
        (str(FIGURES.get(key, key)), text)
        for key in [*known, *others]
        if (text := format_figure(key, fields[key], fields))
    ]


def is_account_deleted(operation: Operation) -> bool:
    """Return whether a signed-in user did this whose account has been deleted."""
    signed_in = {Operation.Channel.ADMIN, Operation.Channel.API}
    return operation.channel in signed_in and operation.user_id is None


def related_model(operation: Operation) -> str:
    """Return the model whose page shows the target; "" if that is unknown."""
    if operation.targets_breakers:
        return "circuitbreaker"
    kind = Operation.Kind
    caching = {kind.CLEAR_SEARCH_CACHE, kind.UNDO_CLEAR, kind.SWEEP_SEARCH_CACHE}
    return "searchcache" if operation.kind in caching else ""


def format_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
