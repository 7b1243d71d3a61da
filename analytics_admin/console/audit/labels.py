"""How an operation reads: its target, its duration, the meaning of its status.

Uses the row only, whatever it holds: no store and no database is asked.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import count, state_badge, tenths
from analytics_admin.console.search_cache.labels import MODES
from analytics_admin.models import Operation

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

MAX_TAGS_SHOWN = 80  # characters
COUNTED_IN_SECONDS = 120
EPOCH = datetime.fromtimestamp(0, UTC)
_UNITS = (
    (86400, ngettext_lazy("%(number)d day", "%(number)d days", "number")),
    (3600, ngettext_lazy("%(number)d hour", "%(number)d hours", "number")),
    (60, ngettext_lazy("%(number)d minute", "%(number)d minutes", "number")),
)

FIGURES: Mapping[str, "_StrPromise"] = {
    "only_open": _("Only open"),
    "control": _("Control"),
    "for_seconds": _("Duration"),
    "mode": _("Mode"),
    "count": _("Circuit breakers"),
    "selected": _("Circuit breakers selected"),
    "moved": _("State changed"),
    "alias": _("Cache"),
    "dedicated": _("Dedicated database"),
    "keys": _("Keys removed"),
    "keys_before": _("Keys before, about"),
    "way": _("Removal method"),
    "not_flushed": _("Not flushed, because"),
    "stopped": _("Removal ended early, because"),
    "replicas": _("Replicas of the store"),
    "replicas_behind": _("Replicas without it"),
    "on_disk": _("On the store's disk"),
    "stale_for": _("Old results served for at most"),
    "seconds_left": _("Time left to undo"),
    "tags": _("Tags"),
    "in_use": _("Tags in use"),
    "undone": _("Undone"),
    "named": _("Keys named"),
    "found": _("Keys with a result"),
    "seen": _("Results checked"),
    "removed": _("Results removed"),
    "finished": _("Completed"),
}
METHODS: Mapping[str, "_StrPromise"] = {
    "flush": _("Database flush"),
    "unlink": _("Key by key"),
    "memory": _("Process memory"),
}
SECONDS = {"for_seconds", "stale_for", "seconds_left"}

INTERRUPTED = "interrupted"
_MEANINGS: Mapping[str, "_StrPromise"] = {
    Operation.Status.STARTED: _("In progress: no result is recorded yet."),
    INTERRUPTED: _(
        "No result is recorded: the process stopped, or the database failed. It may have taken"
        " effect fully, partly or not at all. Check its target and repeat it if needed."
    ),
    Operation.Status.FAILED: _("The operation failed. See the error."),
    Operation.Status.UNKNOWN: _(
        "The store stopped answering during the operation. It may or may not have taken effect."
        " Check its target and repeat it if needed."
    ),
    Operation.Status.DENIED: _("The actor lacks the permission. Nothing was done."),
}


def format_target(operation: Operation) -> str:
    """Return what the operation is on; "" where the row does not say."""
    if operation.targets_breakers:
        breakers = _format_breakers(operation)
        if not operation.control:
            return breakers
        return gettext("%(breakers)s: %(control)s") % {
            "breakers": breakers,
            "control": format_control(operation.control),
        }
    if (part := operation.clear_mode) in {"functions", "keys"}:
        named = operation.target_fields[part]
        if part == "functions":
            text = ngettext("function %(names)s", "functions %(names)s", len(named))
        else:
            text = ngettext("key %(names)s", "keys %(names)s", len(named))
        return text % {"names": Truncator(", ".join(map(str, named))).chars(MAX_TAGS_SHOWN)}
    if tags := operation.tags:
        text = ngettext("tag %(tags)s", "tags %(tags)s", len(tags))
        return text % {"tags": Truncator(", ".join(tags)).chars(MAX_TAGS_SHOWN)}
    if operation.target_fields.get("mode") == "soft":
        return gettext("search cache (soft)")
    return gettext("search cache") if "mode" in operation.target_fields else ""


def _format_breakers(operation: Operation) -> str:
    names = operation.target_names
    if names is None:
        if operation.is_only_open:
            return gettext("all open circuit breakers")
        return gettext("all circuit breakers")
    text = ngettext("%(number)s circuit breaker", "%(number)s circuit breakers", len(names))
    breakers = names[0] if len(names) == 1 else text % {"number": count(len(names))}
    return (
        gettext("%(breakers)s, if open") % {"breakers": breakers}
        if operation.is_only_open
        else breakers
    )


def format_control(control: str) -> str:
    """Return what a breaker was set to; an unknown control keeps its name."""
    return gettext("Released") if control == "automatic" else str(state_badge(control).word)


def format_seconds(seconds: float) -> str:
    """Return a time in the largest unit of which it is a whole number."""
    for size, text in _UNITS:
        if seconds >= size and seconds % size == 0:
            return text % {"number": int(seconds // size)}
    return gettext("%(seconds)s s") % {"seconds": tenths(seconds)}


def format_span(span: timedelta) -> str:
    """Return how long after an operation something happened, as exactly as it matters."""
    seconds = span.total_seconds()
    if seconds >= COUNTED_IN_SECONDS:
        return timesince(EPOCH, EPOCH + timedelta(seconds=round(seconds)))
    number = tenths(seconds) if seconds < 10 else count(round(seconds))
    return gettext("%(seconds)s s") % {"seconds": number}


def format_duration(duration_ms: float | None) -> str | None:
    """Return how long an operation took; None where that is unknown."""
    if duration_ms is None:
        return None
    if duration_ms < 1000:
        return gettext("%(milliseconds)s ms") % {"milliseconds": count(round(duration_ms))}
    return gettext("%(seconds)s s") % {"seconds": tenths(duration_ms / 1000)}


def status_meaning(operation: Operation) -> str:
    """Return what the status means; "" for one that is done."""
    status = INTERRUPTED if operation.is_interrupted else operation.status
    return str(_MEANINGS.get(status, ""))


def format_figure(key: str, value: Any, fields: Mapping[str, Any]) -> str:
    """Return one value as a text; "" for one that the page shows elsewhere."""
    if isinstance(value, list | dict) or key == "names":
        return ""
    if value is None:
        held = key == "for_seconds" and fields.get("control") != "automatic"
        return gettext("Until released") if held else ""
    if isinstance(value, bool):
        return gettext("Yes") if value else gettext("No")
    return format_control(value) if key == "control" else _number_or_text(key, value)


def _number_or_text(key: str, value: Any) -> str:
    if isinstance(value, int | float) and key in SECONDS:
        return format_seconds(value)
    if isinstance(value, int):
        return count(value)
    texts = {"mode": MODES, "way": METHODS}.get(key, {})
    return str(texts.get(value, value))
