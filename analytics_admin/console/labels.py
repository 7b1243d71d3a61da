"""How states read: a word, an icon and a tone, so that none of them rests on colour alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, ngettext_lazy
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
    """How a control reads among the choices, and what it does to calls."""

    choice: "_StrPromise | str"
    effect: "_StrPromise | str"


CONTROLS = {
    "automatic": ControlLabels(
        choice=_("Automatic: no hold"),
        effect=_("The breaker decides by itself again, with zero counts."),
    ),
    "forced_open": ControlLabels(
        choice=_("Forced open: calls are rejected"),
        effect=_("Every call is rejected at once, also while the service works."),
    ),
    "disabled": ControlLabels(
        choice=_("Disabled: calls pass"),
        effect=_("Every call passes, also while the service fails."),
    ),
    "metrics_only": ControlLabels(
        choice=_("Metrics only: calls pass and are counted"),
        effect=_("Every call passes; results are counted and open nothing."),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLabels:
    """How an act on several breakers reads; the buttons take a ``number``."""

    choice: "_StrPromise | str"
    question: "_StrPromise | str"
    button: "_StrPromise | str"


BULK_LABELS = {
    "reset": BulkLabels(
        choice=_("Reset selected"),
        question=_("Reset the selected circuit breakers?"),
        button=ngettext_lazy(
            "Reset %(number)d circuit breaker", "Reset %(number)d circuit breakers", "number"
        ),
    ),
    "forced_open": BulkLabels(
        choice=_("Force open selected"),
        question=_("Force the selected circuit breakers open?"),
        button=ngettext_lazy(
            "Force open %(number)d circuit breaker",
            "Force open %(number)d circuit breakers",
            "number",
        ),
    ),
    "disabled": BulkLabels(
        choice=_("Disable selected"),
        question=_("Disable the selected circuit breakers?"),
        button=ngettext_lazy(
            "Disable %(number)d circuit breaker", "Disable %(number)d circuit breakers", "number"
        ),
    ),
    "metrics_only": BulkLabels(
        choice=_("Metrics only for selected"),
        question=_("Set the selected circuit breakers to metrics only?"),
        button=ngettext_lazy(
            "Set %(number)d circuit breaker to metrics only",
            "Set %(number)d circuit breakers to metrics only",
            "number",
        ),
    ),
    "automatic": BulkLabels(
        choice=_("Release selected"),
        question=_("Release the selected circuit breakers?"),
        button=ngettext_lazy(
            "Release %(number)d circuit breaker", "Release %(number)d circuit breakers", "number"
        ),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleLabels:
    """How an act on one breaker reads; its ``question`` takes the breaker's ``name``."""

    title: "_StrPromise | str"
    question: "_StrPromise | str"
    effect: "_StrPromise | str"
    button: "_StrPromise | str"


SINGLE_LABELS = {
    Operation.Kind.RESET_CIRCUIT_BREAKERS: SingleLabels(
        title=_("Reset"),
        question=_("Reset the circuit breaker %(name)s?"),
        effect=_(
            "It will be closed with zero counts, and a hold ends. Calls pass again at once, also to"
            " a service that still fails."
        ),
        button=_("Yes, reset it"),
    ),
    Operation.Kind.ALLOW_PROBE: SingleLabels(
        title=_("Probe"),
        question=_("Let a probe through the circuit breaker %(name)s?"),
        effect=_(
            "The next calls pass as probes, as many as its policy permits, instead of after the"
            " wait. If they succeed it closes; if one fails it opens again."
        ),
        button=_("Yes, let it through"),
    ),
    Operation.Kind.FORGET_CIRCUIT_BREAKER: SingleLabels(
        title=_("Forget"),
        question=_("Forget the circuit breaker %(name)s?"),
        effect=_(
            "Its name, its counts and what is known of its failures are dropped. A process that"
            " still uses it registers it again, as closed."
        ),
        button=_("Yes, forget it"),
    ),
}

_CAUSES = {
    "consecutive_failures": _("Failures in a row"),
    "failure_rate": _("Failure rate"),
    "slow_call_rate": _("Slow call rate"),
    "wait_over": _("The wait was over"),
    "probe_failed": _("A probe failed"),
    "probes_succeeded": _("The probes succeeded"),
    "reset": _("Reset"),
    "control": _("Held or released"),
    "hold_over": _("The hold ended"),
    "probe_allowed": _("An operator let a probe through"),
    "local": _("Seen by one process alone"),
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


def format_cause(cause: str) -> str:
    """Return why a breaker moved; a cause this version does not know keeps its own name."""
    return str(_CAUSES.get(cause, cause))


def format_rule(cause: str, consecutive_failures: int) -> str:
    """Return the rule that opened a breaker, as a sentence."""
    if cause == "consecutive_failures":
        words = ngettext(
            "%(number)s failure in a row reached the threshold.",
            "%(number)s failures in a row reached the threshold.",
            consecutive_failures,
        )
        return words % {"number": count(consecutive_failures)}
    sentences = {
        "failure_rate": gettext("The failure rate reached its threshold."),
        "slow_call_rate": gettext("The rate of slow calls reached its threshold."),
        "probe_failed": gettext("The service was tried again, and a probe failed."),
    }
    return sentences.get(cause) or format_cause(cause)


def status_badge(operation: Operation) -> Badge:
    """Return an operation's badge; one whose end nobody reported reads as interrupted."""
    return INTERRUPTED if operation.is_interrupted else _STATUSES[operation.status]


def count(number: int) -> str:
    """Return the number with the locale's thousands separators."""
    if 0 <= number < 1000:  # no locale groups what is less, and many are
        return str(number)
    return str(number_format(number, force_grouping=True))


def tenths(number: float) -> str:
    """Return the number with one decimal, with the locale's separators."""
    return str(number_format(round(number, 1), 1, force_grouping=True))


def share(part: float) -> str:
    """Return a share, from 0 to 1, as a percentage in the locale's way."""
    return per_cent(tenths(100 * part))


def per_cent(number: str) -> str:
    """Return the number, in the locale's way already, as a percentage."""
    return gettext("%(number)s %%") % {"number": number}
