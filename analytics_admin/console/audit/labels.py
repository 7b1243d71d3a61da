"""How an operation reads: what it was aimed at, how long it took, what its status means.

Must not ask a store or the database: it has the row alone, and copes with any that is in it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import count, state_badge, tenths
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

INTERRUPTED = "interrupted"
_MEANINGS: Mapping[str, "_StrPromise"] = {
    Operation.Status.STARTED: _("Under way: its end is not on record yet."),
    INTERRUPTED: _(
        "Its end was never put on record: the process was stopped, or the database failed. It may"
        " have been done, in part or in full, or not at all. Look at what it was aimed at and"
        " repeat it if need be."
    ),
    Operation.Status.FAILED: _("It was tried and failed, for the reason given as its error."),
    Operation.Status.UNKNOWN: _(
        "The store fell silent in the middle of it, so it may be done or not. Look at what it was"
        " aimed at and repeat it if need be."
    ),
    Operation.Status.DENIED: _("Its actor was not allowed to do this. Nothing was done."),
}


def format_target(operation: Operation) -> str:
    """Return what the act was aimed at; empty where the row does not say."""
    targets = operation.targets if isinstance(operation.targets, Mapping) else {}
    if "names" in targets:
        return _format_controlled(targets)
    if isinstance(targets.get("tags"), list) and targets["tags"]:
        tags = [str(tag) for tag in targets["tags"]]
        words = ngettext("tag %(tags)s", "tags %(tags)s", len(tags))
        return words % {"tags": Truncator(", ".join(tags)).chars(MAX_TAGS_SHOWN)}
    if targets.get("mode") == "soft":
        return gettext("search cache, softly")
    if "mode" in targets:
        return gettext("search cache")
    return ""


def _format_controlled(targets: Mapping[str, Any]) -> str:
    words = _format_breakers(targets["names"], only_open=targets.get("only_open") is True)
    control = targets.get("control")
    if not isinstance(control, str):
        return words
    return gettext("%(breakers)s: %(control)s") % {
        "breakers": words,
        "control": format_control(control),
    }


def _format_breakers(names: Any, *, only_open: bool) -> str:
    if not isinstance(names, list):
        if only_open:
            return gettext("all open circuit breakers")
        return gettext("all circuit breakers")
    words = str(names[0]) if len(names) == 1 else _counted_breakers(len(names))
    return gettext("%(breakers)s, if open") % {"breakers": words} if only_open else words


def _counted_breakers(number: int) -> str:
    words = ngettext("%(number)s circuit breaker", "%(number)s circuit breakers", number)
    return words % {"number": count(number)}


def format_control(control: str) -> str:
    """Return what a breaker was set to; a control this version does not know keeps its name."""
    return gettext("Released") if control == "automatic" else str(state_badge(control).word)


def format_seconds(seconds: float) -> str:
    """Return a time in the largest unit in which it is a whole number."""
    for size, words in _UNITS:
        if seconds >= size and seconds % size == 0:
            return words % {"number": int(seconds // size)}
    return gettext("%(seconds)s s") % {"seconds": tenths(seconds)}


def format_span(span: timedelta) -> str:
    """Return how long after something another thing came, as exactly as it matters."""
    seconds = span.total_seconds()
    if seconds >= COUNTED_IN_SECONDS:
        return timesince(EPOCH, EPOCH + timedelta(seconds=round(seconds)))
    number = tenths(seconds) if seconds < 10 else count(round(seconds))
    return gettext("%(seconds)s s") % {"seconds": number}


def format_duration(duration_ms: float | None) -> str | None:
    """Return how long an act took; None where that is not known."""
    if duration_ms is None:
        return None
    if duration_ms < 1000:
        return gettext("%(milliseconds)s ms") % {"milliseconds": count(round(duration_ms))}
    return gettext("%(seconds)s s") % {"seconds": tenths(duration_ms / 1000)}


def status_meaning(operation: Operation) -> str:
    """Return what the status says about the act, for one that is not simply done."""
    status = INTERRUPTED if operation.is_interrupted else operation.status
    return str(_MEANINGS.get(status, ""))
