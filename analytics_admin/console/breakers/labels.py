"""How a breaker's policy reads: each option in words, its value with its unit, who chose it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import count, per_cent
from analytics_admin.services import PolicyOption

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

OPTIONS: dict[str, tuple["_StrPromise | str", str]] = {
    "failure_threshold": (_("Opens after failures in a row"), "rule"),
    "failure_rate_threshold": (_("Opens at a failure rate of"), "rate"),
    "slow_call_rate_threshold": (_("Opens at a rate of slow calls of"), "rate"),
    "slow_call_duration_threshold": (_("A call is slow after"), "seconds"),
    "sliding_window_type": (_("Rates are taken of"), "window"),
    "sliding_window_size": (_("Size of that window"), "size"),
    "minimum_number_of_calls": (_("Calls before a rate is known"), "number"),
    "wait_duration_in_open_state": (_("Stays open for"), "seconds"),
    "open_state_backoff_multiplier": (_("Each further opening is longer"), "times"),
    "max_wait_duration_in_open_state": (_("Stays open for at most"), "longest"),
    "randomized_wait_factor": (_("Spread of the wait"), "spread"),
    "permitted_number_of_calls_in_half_open_state": (_("Probes in a round"), "number"),
    "max_wait_duration_in_half_open_state": (_("A new round of probes after"), "seconds"),
    "record_exceptions": (_("Exceptions that are failures"), "names"),
    "ignore_exceptions": (_("Exceptions that count as nothing"), "names"),
    "record_result": (_("Judge of results"), "names"),
}
"""Each option in words, and how its value reads."""

_CHOSEN_BY = {
    "default": _("default"),
    "code": _("code"),
    "BREAKERS": _("settings: BREAKERS"),
    "BREAKER_DEFAULTS": _("settings: BREAKER_DEFAULTS"),
    "elsewhere": _("code or settings of another process"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One option as the page shows it; ``default`` says what it would be, where it is chosen."""

    option: str
    words: str
    value: str
    default: str
    chosen_by: str
    is_default: bool


def policy_rows(options: list[PolicyOption]) -> list[PolicyRow]:
    values = {option.name: option.value for option in options}
    return [
        PolicyRow(
            option=option.name,
            words=str(OPTIONS[option.name][0]) if option.name in OPTIONS else option.name,
            value=format_policy_value(option.name, option.value, values),
            default=format_policy_value(option.name, option.default, values),
            chosen_by=str(_CHOSEN_BY[option.chosen_by]),
            is_default=option.is_default,
        )
        for option in options
    ]


def format_policy_value(option: str, value: Any, policy: Mapping[str, Any]) -> str:
    """Return the value with its unit; the window's size has that of its type in ``policy``."""
    kind = OPTIONS[option][1] if option in OPTIONS else ""
    timed = policy["sliding_window_type"] == "time_based"
    if kind == "size":
        kind = "seconds" if timed else "calls"
    if value is None:
        return str(_WITHOUT_VALUE.get(kind, _("none")))
    return _READ_AS.get(kind, str)(value)


_WITHOUT_VALUE = {"rule": _("no such rule"), "rate": _("no such rule"), "longest": _("no limit")}


def _number(value: float) -> str:
    whole = float(value).is_integer()
    number = int(value) if whole else round(value, 6)
    return str(number_format(number, force_grouping=True))


def _seconds(value: float) -> str:
    return gettext("%(number)s s") % {"number": _number(value)}


def _calls(value: int) -> str:
    return ngettext("%(number)s call", "%(number)s calls", value) % {"number": count(value)}


def _spread(value: float) -> str:
    if not value:
        return gettext("none")
    # Translators: a number that is spread at random, by so many per cent to both sides.
    return gettext("\u00b1 %(number)s %%") % {"number": _number(100 * value)}


def _names(value: Any) -> str:
    return ", ".join(value if isinstance(value, list) else [value]) or gettext("none")


def _window(value: str) -> str:
    return gettext("the last seconds") if value == "time_based" else gettext("the last calls")


_READ_AS: dict[str, Callable[[Any], str]] = {
    "rule": count,
    "number": count,
    "calls": _calls,
    "rate": lambda value: per_cent(_number(value)),
    "times": lambda value: f"\u00d7 {_number(value)}",
    "seconds": _seconds,
    "longest": _seconds,
    "spread": _spread,
    "names": _names,
    "window": _window,
}
