"""One operation's own page: who, when, through which door, and what was before and after.

Reads the row alone, whatever an act has put there: an unknown kind or figure is shown by its name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.audit.labels import (
    format_control,
    format_duration,
    format_seconds,
    format_target,
    status_meaning,
)
from analytics_admin.console.labels import count, state_badge, status_badge
from analytics_admin.console.search_cache.labels import MODES
from analytics_admin.models import Operation

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

LISTED = 100

FIGURES: Mapping[str, "_StrPromise"] = {
    "only_open": _("Only open ones"),
    "control": _("Set to"),
    "for_seconds": _("For at most"),
    "mode": _("Way of clearing"),
    "count": _("Circuit breakers"),
    "moved": _("Of these changed state"),
    "alias": _("Cache"),
    "dedicated": _("Has a database of its own"),
    "keys": _("Keys removed"),
    "way": _("How they were removed"),
    "stale_for": _("Old results may be served for"),
    "seconds_left": _("Was left to undo it"),
    "tags": _("Tags"),
    "in_use": _("Of these in use"),
    "seen": _("Results looked at"),
    "removed": _("Results removed"),
    "resumed": _("Went on where one was cut off"),
}
WAYS: Mapping[str, "_StrPromise"] = {
    "flush": _("The whole database at once"),
    "unlink": _("One by one"),
    "memory": _("From this process' memory"),
}
SECONDS = {"for_seconds", "stale_for", "seconds_left"}


def describe_operation(operation: Operation) -> dict[str, Any]:
    """Return the words of an operation's page."""
    targets, outcome = _mapping(operation.targets), _mapping(operation.outcome)
    new = {key: value for key, value in outcome.items() if targets.get(key) != value}
    return {
        "operation": operation,
        "aim": format_target(operation),
        "badge": status_badge(operation),
        "meaning": status_meaning(operation),
        "duration": format_duration(operation.duration_ms),
        "is_account_deleted": is_account_deleted(operation),
        "look_at": look_at(operation),
        "aims": [*describe_figures(targets)],
        "aimed_names": cut(targets.get("names")),
        "aimed_tags": cut(targets.get("tags")),
        "figures": [*describe_figures(new)],
        "changes": describe_transitions(outcome),
        "reached": cut(outcome.get("names")),
        "json": readable_json({"targets": operation.targets, "outcome": operation.outcome}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedList:
    """The first of a long list, and how many are left out."""

    shown: Sequence[Any]
    unshown: int

    @property
    def more(self) -> str:
        """How many are left out, in words; empty for none."""
        if not self.unshown:
            return ""
        words = ngettext("and %(number)s more", "and %(number)s more", self.unshown)
        return words % {"number": count(self.unshown)}


def cut(items: Any, whole: Any = 0) -> TruncatedList:
    """Return the first of the items, none of what is no list.

    ``whole`` is how many there were before the act itself cut the list.
    """
    listed = items if isinstance(items, list) else []
    shown = listed[:LISTED]
    known = whole if isinstance(whole, int) else 0
    return TruncatedList(shown=shown, unshown=max(known, len(listed)) - len(shown))


def describe_transitions(outcome: Mapping[str, Any]) -> TruncatedList:
    """Return each breaker's state before and after."""
    found = cut(outcome.get("results"), outcome.get("moved"))
    rows = [
        {
            "name": str(row.get("name", "")),
            "from": state_badge(str(row.get("from", ""))),
            "to": state_badge(str(row.get("to", ""))),
        }
        for row in map(_mapping, found.shown)
    ]
    return TruncatedList(shown=rows, unshown=found.unshown)


def describe_figures(told: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return what is no list as label and value: those known to the app first, in its order."""
    known = [key for key in FIGURES if key in told]
    others = [key for key in told if key not in FIGURES]
    return [
        (str(FIGURES.get(key, key)), words)
        for key in [*known, *others]
        if (words := format_figure(key, told[key], told))
    ]


def format_figure(key: str, value: Any, told: Mapping[str, Any]) -> str:
    """Return one value as an operator reads it; empty for one that has a place of its own."""
    if isinstance(value, list | dict) or key == "names":
        return ""
    if value is None:
        held = key == "for_seconds" and told.get("control") != "automatic"
        return gettext("Until released") if held else ""
    if isinstance(value, bool):
        return gettext("Yes") if value else gettext("No")
    return format_control(value) if key == "control" else _number_or_text(key, value)


def _number_or_text(key: str, value: Any) -> str:
    if isinstance(value, int | float) and key in SECONDS:
        return format_seconds(value)
    if isinstance(value, int):
        return count(value)
    words = {"mode": MODES, "way": WAYS}.get(key, {})
    return str(words.get(value, value))


def is_account_deleted(operation: Operation) -> bool:
    """Say whether somebody signed in did this whose account is deleted by now."""
    doors = {Operation.Channel.ADMIN, Operation.Channel.API}
    return operation.channel in doors and operation.user_id is None


def look_at(operation: Operation) -> str:
    """Return the model whose page shows what the act was aimed at; empty if that is not known."""
    if "names" in _mapping(operation.targets):
        return "circuitbreaker"
    kind = Operation.Kind
    caching = {kind.CLEAR_SEARCH_CACHE, kind.UNDO_CLEAR, kind.SWEEP_SEARCH_CACHE}
    return "searchcache" if operation.kind in caching else ""


def readable_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
