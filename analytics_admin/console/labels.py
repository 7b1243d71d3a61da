"""How states, controls, causes and numbers read on every page.

A state is a word, an icon and a tone, so that none of them rests on color alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.models import Operation

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """``tone`` is one of good, warn, bad, quiet: a class in the console's style sheet."""

    word: "_StrPromise | str"
    icon: str
    tone: str

    def __html__(self) -> SafeString:
        return format_html(
            '<span class="aa-badge aa-{}"><span aria-hidden="true">{}</span>&nbsp;{}</span>',
            self.tone,
            self.icon,
            self.word,
        )

    def __str__(self) -> str:  # what a template asks for; safe, as __html__ is
        return self.__html__()


UNKNOWN = Badge(word=_("Unknown"), icon="?", tone="quiet")
REACHABLE = Badge(word=_("Reachable"), icon="✓", tone="good")
INTERRUPTED = Badge(word=_("Interrupted"), icon="!", tone="bad")

_BREAKER_STATES = {
    "closed": Badge(word=_("Closed"), icon="✓", tone="good"),
    "open": Badge(word=_("Open"), icon="✕", tone="bad"),
    "half_open": Badge(word=_("Half open"), icon="◐", tone="warn"),
    "forced_open": Badge(word=_("Forced open"), icon="⊗", tone="bad"),
    "disabled": Badge(word=_("Disabled"), icon="○", tone="warn"),
    "unknown": UNKNOWN,
    "metrics_only": Badge(word=_("Metrics only"), icon="○", tone="warn"),
    "would_open": Badge(word=_("Would have opened"), icon="!", tone="warn"),
    "forgotten": Badge(word=_("Forgotten"), icon="⊘", tone="quiet"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLabels:
    """How a control reads as a choice, and what it does to calls."""

    choice: "_StrPromise | str"
    effect: "_StrPromise | str"


CONTROLS = {
    "automatic": ControlLabels(
        choice=_("Automatic: no hold"),
        effect=_("The breaker works automatically again, with zero counts."),
    ),
    "forced_open": ControlLabels(
        choice=_("Forced open: calls are rejected"),
        effect=_("Every call is rejected, even if the service works."),
    ),
    "disabled": ControlLabels(
        choice=_("Disabled: calls pass"),
        effect=_("Every call passes, even if the service fails."),
    ),
    "metrics_only": ControlLabels(
        choice=_("Metrics only: calls pass and are counted"),
        effect=_("Every call passes. Results are counted but never open the breaker."),
    ),
}


_CAUSES = {
    "consecutive_failures": _("Consecutive failures"),
    "failure_rate": _("Failure rate"),
    "slow_call_rate": _("Slow call rate"),
    "wait_over": _("Wait elapsed"),
    "probe_failed": _("Probe failed"),
    "probes_succeeded": _("Probes succeeded"),
    "reset": _("Reset"),
    "control": _("Control changed"),
    "hold_over": _("Hold expired"),
    "probe_allowed": _("Probe allowed"),
    "local": _("Seen by one process only"),
}

_STATUSES: dict[str, Badge] = {
    Operation.Status.STARTED: Badge(word=_("Started"), icon="…", tone="warn"),
    Operation.Status.DONE: Badge(word=_("Done"), icon="✓", tone="good"),
    Operation.Status.FAILED: Badge(word=_("Failed"), icon="✕", tone="bad"),
    Operation.Status.UNKNOWN: Badge(word=_("Outcome unknown"), icon="?", tone="warn"),
    Operation.Status.DENIED: Badge(word=_("Denied"), icon="⊘", tone="quiet"),
}


def state_badge(state: str) -> Badge:
    """Return a breaker state's badge; an unknown state keeps its name."""
    return _BREAKER_STATES.get(state) or Badge(word=state, icon="?", tone="quiet")


def format_cause(cause: str, to_state: str = "") -> str:
    """Return why a breaker moved to a state; an unknown cause keeps its name."""
    if cause == "control" and to_state:
        return gettext("Held") if to_state in CONTROLS else gettext("Released")
    return str(_CAUSES.get(cause, cause))


def status_badge(operation: Operation) -> Badge:
    """Return an operation's badge; one without a recorded end reads as interrupted."""
    return INTERRUPTED if operation.is_interrupted else _STATUSES[operation.status]


def count(number: int) -> str:
    """Return the number with the locale's thousands separators."""
    if 0 <= number < 1000:  # no locale groups what is less, and many are
        return str(number)
    return str(number_format(number, force_grouping=True))


def breakable(name: str) -> SafeString:
    """Return a dotted name that may break after each dot."""
    return format_html_join(mark_safe(".<wbr>"), "{}", ([part] for part in name.split(".")))


def tenths(number: float) -> str:
    """Return the number with one decimal, with the locale's separators."""
    return str(number_format(round(number, 1), 1, force_grouping=True))


def share(part: float) -> str:
    """Return a share, from 0 to 1, as a percentage in the locale's way."""
    return per_cent(tenths(100 * part))


def per_cent(number: str) -> str:
    """Return the number, in the locale's way already, as a percentage."""
    return gettext("%(number)s %%") % {"number": number}
