"""How the breakers' pages read: operations, policies, rules and probes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import count, format_cause, per_cent
from analytics_admin.console.times import countdown
from analytics_admin.models import Operation
from analytics_admin.services.breakers.queries import PolicyOption
from analytics_admin.services.breakers.types import BreakerStatus

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLabels:
    """How an operation on several breakers reads; its button takes a ``number``."""

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
    """How an operation on one breaker reads; its question takes the breaker's ``name``."""

    title: "_StrPromise | str"
    question: "_StrPromise | str"
    effect: "_StrPromise | str"
    button: "_StrPromise | str"


SINGLE_LABELS = {
    Operation.Kind.RESET_CIRCUIT_BREAKERS: SingleLabels(
        title=_("Reset"),
        question=_("Reset the circuit breaker %(name)s?"),
        effect=_(
            "It closes with zero counts, and any hold ends. Calls pass again at once, even if the"
            " service still fails."
        ),
        button=_("Yes, reset it"),
    ),
    Operation.Kind.ALLOW_PROBE: SingleLabels(
        title=_("Probe"),
        question=_("Allow a probe of the circuit breaker %(name)s?"),
        effect=_(
            "The next calls pass as probes now, as many as its policy permits. If they succeed, it"
            " closes; if one fails, it opens again."
        ),
        button=_("Yes, allow a probe"),
    ),
    Operation.Kind.FORGET_CIRCUIT_BREAKER: SingleLabels(
        title=_("Forget"),
        question=_("Forget the circuit breaker %(name)s?"),
        effect=_(
            "Its name, counts and failure history are deleted. A process that still uses it"
            " registers it again, as closed."
        ),
        button=_("Yes, forget it"),
    ),
}


def _number(value: float) -> str:
    whole = float(value).is_integer()
    return str(number_format(int(value) if whole else round(value, 6), force_grouping=True))


def _seconds(value: float) -> str:
    return gettext("%(number)s s") % {"number": _number(value)}


def _calls(value: int) -> str:
    return ngettext("%(number)s call", "%(number)s calls", value) % {"number": count(value)}


def _rate(value: float) -> str:
    return per_cent(_number(value))


def _jitter(value: float) -> str:
    if not value:
        return gettext("none")
    # Translators: random jitter, in per cent to both sides.
    return gettext("\u00b1 %(number)s %%") % {"number": _number(100 * value)}


def _names(value: Any) -> str:
    return ", ".join(value if isinstance(value, list) else [value]) or gettext("none")


def _window(value: str) -> str:
    return gettext("last seconds") if value == "time_based" else gettext("last calls")


def _cancelled(value: str) -> str:
    words = {"ignore": gettext("ignored"), "failure": gettext("failure"), "slow": gettext("slow")}
    return words.get(value, value)


OPTIONS: dict[str, tuple["_StrPromise | str", Callable[[Any], str]]] = {
    "failure_threshold": (_("Opens after consecutive failures"), count),
    "failure_rate_threshold": (_("Opens at a failure rate of"), _rate),
    "slow_call_rate_threshold": (_("Opens at a slow call rate of"), _rate),
    "slow_call_duration_threshold": (_("A call is slow after"), _seconds),
    "sliding_window_type": (_("Window type"), _window),
    "sliding_window_size": (_("Window size"), _calls),
    "minimum_number_of_calls": (_("Minimum calls for a rate"), count),
    "wait_duration_in_open_state": (_("Stays open for"), _seconds),
    "open_state_backoff_multiplier": (
        _("Back-off multiplier"),
        lambda value: f"\u00d7 {_number(value)}",
    ),
    "max_wait_duration_in_open_state": (_("Stays open for at most"), _seconds),
    "randomized_wait_factor": (_("Wait jitter"), _jitter),
    "permitted_number_of_calls_in_half_open_state": (_("Probes per round"), count),
    "max_wait_duration_in_half_open_state": (_("Probes fail after"), _seconds),
    "record_exceptions": (_("Exceptions counted as failures"), _names),
    "ignore_exceptions": (_("Ignored exceptions"), _names),
    "record_result": (_("Result check"), _names),
    "record_cancelled": (_("Cancelled calls"), _cancelled),
}
"""Each option's label, and what formats its value."""

_UNSET = {
    "failure_threshold": _("off"),
    "failure_rate_threshold": _("off"),
    "slow_call_rate_threshold": _("off"),
    "max_wait_duration_in_open_state": _("no limit"),
    "record_cancelled": _("slow if over the threshold"),
}

_CHOSEN_BY = {
    "default": _("default"),
    "code": _("code"),
    "BREAKERS": _("settings: BREAKERS"),
    "BREAKER_DEFAULTS": _("settings: BREAKER_DEFAULTS"),
    "elsewhere": _("code or settings of another process"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One option as the page shows it; ``default`` is what it would be otherwise."""

    option: str
    label: str
    value: str
    default: str
    chosen_by: str
    is_default: bool


def policy_rows(options: list[PolicyOption]) -> list[PolicyRow]:
    values = {option.name: option.value for option in options}
    return [
        PolicyRow(
            option=option.name,
            label=str(OPTIONS[option.name][0]) if option.name in OPTIONS else option.name,
            value=format_policy_value(option.name, option.value, values),
            default=format_policy_value(option.name, option.default, values),
            chosen_by=str(_CHOSEN_BY[option.chosen_by]),
            is_default=option.is_default,
        )
        for option in options
    ]


def format_policy_value(option: str, value: Any, policy: Mapping[str, Any]) -> str:
    """Return the value with its unit; that of the window's size depends on ``policy``."""
    if value is None:
        return str(_UNSET.get(option, _("none")))
    if option == "sliding_window_size" and policy["sliding_window_type"] == "time_based":
        return _seconds(value)
    return OPTIONS[option][1](value) if option in OPTIONS else str(value)


def format_rule(cause: str, consecutive_failures: int) -> str:
    """Return the rule that opened a breaker as a sentence."""
    if cause == "consecutive_failures":
        text = ngettext(
            "%(number)s consecutive failure reached the threshold.",
            "%(number)s consecutive failures reached the threshold.",
            consecutive_failures,
        )
        return text % {"number": count(consecutive_failures)}
    sentences = {
        "failure_rate": gettext("The failure rate reached its threshold."),
        "slow_call_rate": gettext("The slow call rate reached its threshold."),
        "probe_failed": gettext("A probe failed."),
    }
    return sentences.get(cause) or format_cause(cause)


PROBING = ("open", "half_open")


def awaits_probe(status: BreakerStatus) -> bool:
    """Return whether a probe decides when calls pass again, rather than an operator."""
    return status.state in PROBING and status.control == "automatic"


def next_probe_at(status: BreakerStatus, read_at: datetime) -> datetime | None:
    """Return when the next probe may pass; None if one may now, or none will.

    It is rounded, so that it is the same on each request.
    """
    if not awaits_probe(status) or not status.retry_after:
        return None
    at = read_at + timedelta(seconds=status.retry_after)
    return at.replace(microsecond=0) + timedelta(seconds=round(at.microsecond / 1e6, 1))


def format_next_probe(status: BreakerStatus, read_at: datetime) -> SafeString | str:
    """Return the countdown to the next probe, or that one may pass now; "" if none will."""
    if not awaits_probe(status):
        return ""
    ready, at = gettext("ready to probe"), next_probe_at(status, read_at)
    return ready if at is None else countdown(at, ready)


def as_etag_source(
    status: BreakerStatus, read_at: datetime
) -> tuple[BreakerStatus, datetime | None]:
    """Return what a page shows of the breaker; it stays the same while only time goes on."""
    return replace(status, retry_after=None), next_probe_at(status, read_at)


def format_operation(operation: Operation) -> str:
    """Return what an operator did, as seen by one of its breakers."""
    if operation.kind == Operation.Kind.CONTROL_CIRCUIT_BREAKERS and operation.control:
        return gettext("Released") if operation.control == "automatic" else gettext("Held")
    if operation.kind == Operation.Kind.RESET_CIRCUIT_BREAKERS:
        return gettext("Reset all") if operation.target_names is None else gettext("Reset")
    return str(operation.get_kind_display())
