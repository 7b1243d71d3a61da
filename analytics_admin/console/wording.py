"""How states read: a word, an icon and a tone, so that none of them rests on colour alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
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
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlWords:
    """How a control reads among the choices, and what it does to calls."""

    choice: "_StrPromise | str"
    effect: "_StrPromise | str"


CONTROLS = {
    "automatic": ControlWords(
        choice=_("Automatic: no hold"),
        effect=_("The breaker decides by itself again, with zero counts."),
    ),
    "forced_open": ControlWords(
        choice=_("Forced open: calls are rejected"),
        effect=_("Every call is rejected at once, also while the service works."),
    ),
    "disabled": ControlWords(
        choice=_("Disabled: calls pass"),
        effect=_("Every call passes, also while the service fails."),
    ),
    "metrics_only": ControlWords(
        choice=_("Metrics only: calls pass and are counted"),
        effect=_("Every call passes; results are counted and open nothing."),
    ),
}

_STATUSES: dict[str, Badge] = {
    Operation.Status.STARTED: Badge(word=_("Started"), icon="…", tone="warn"),
    Operation.Status.DONE: Badge(word=_("Done"), icon="✓", tone="good"),
    Operation.Status.FAILED: Badge(word=_("Failed"), icon="✕", tone="bad"),
    Operation.Status.UNKNOWN: Badge(word=_("Outcome unknown"), icon="?", tone="warn"),
    Operation.Status.DENIED: Badge(word=_("Denied"), icon="⊘", tone="quiet"),
}


def state_badge(state: str) -> Badge:
    """Return a breaker state's badge; a state this version does not know keeps its own name."""
    return _BREAKER_STATES.get(state) or Badge(word=state, icon="?", tone="quiet")


def status_badge(operation: Operation) -> Badge:
    """Return an operation's badge; one whose end nobody reported reads as interrupted."""
    return INTERRUPTED if operation.is_interrupted else _STATUSES[operation.status]


def count(number: int) -> str:
    """Return the number with the locale's thousands separators."""
    return str(number_format(number, use_l10n=True, force_grouping=True))
