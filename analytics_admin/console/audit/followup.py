"""What became of an operation's breakers, as its page shows it: a verdict, and a row for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.audit.labels import format_span
from analytics_admin.console.labels import count, format_cause, state_badge
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.breakers import followup
from analytics_admin.services.breakers.followup import (
    SEVERITY,
    BreakerFollowUp,
    FollowUp,
    FollowUpReport,
)
from analytics_admin.services.errors import StoreUnavailable

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

UNKNOWN_DELAY = timedelta(-1)  # before all known ones


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpLabels:
    """How an outcome reads of one breaker, of all of them, and of some.

    ``when`` is how long after the operation it happened; of several, to the first.
    """

    tone: str
    of_one: "_StrPromise"
    of_all: "_StrPromise"
    of_some: "_StrPromise"


# Translators: "all" is how many circuit breakers there are, "when" such as "after 14 s".
FOLLOW_UP_LABELS: Mapping[FollowUp, FollowUpLabels] = {
    FollowUp.REOPENED: FollowUpLabels(
        tone="bad",
        of_one=_("Opened again %(when)s"),
        of_all=ngettext_lazy(
            "The circuit breaker opened again %(when)s.",
            "All %(number)s circuit breakers opened again, the first %(when)s.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers opened again, %(when)s.",
            "%(number)s of %(all)s circuit breakers opened again, the first %(when)s.",
            "number",
        ),
    ),
    FollowUp.STILL_OPEN: FollowUpLabels(
        tone="bad",
        of_one=_("Still open"),
        of_all=ngettext_lazy(
            "The circuit breaker is still open.",
            "All %(number)s circuit breakers are still open.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers is still open.",
            "%(number)s of %(all)s circuit breakers are still open.",
            "number",
        ),
    ),
    FollowUp.UNKNOWN: FollowUpLabels(
        tone="quiet",
        of_one=_("Unknown"),
        of_all=ngettext_lazy(
            "What became of the circuit breaker is unknown.",
            "What became of all %(number)s circuit breakers is unknown.",
            "number",
        ),
        of_some=ngettext_lazy(
            "What became of %(number)s of %(all)s circuit breakers is unknown.",
            "What became of %(number)s of %(all)s circuit breakers is unknown.",
            "number",
        ),
    ),
    FollowUp.HELD: FollowUpLabels(
        tone="quiet",
        of_one=_("Held"),
        of_all=ngettext_lazy(
            "The circuit breaker is held.",
            "All %(number)s circuit breakers are held.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers is held.",
            "%(number)s of %(all)s circuit breakers are held.",
            "number",
        ),
    ),
    FollowUp.CLOSED: FollowUpLabels(
        tone="good",
        of_one=_("Closed"),
        of_all=ngettext_lazy(
            "The circuit breaker is closed.",
            "All %(number)s circuit breakers are closed.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers is closed.",
            "%(number)s of %(all)s circuit breakers are closed.",
            "number",
        ),
    ),
}


def describe_follow_up(operation: Operation) -> dict[str, Any]:
    """Return what became of the operation's breakers; ``follow_up`` is None if it has none.

    Reads the store once. A store that is down makes it unknown.
    """
    try:
        report = followup.follow_up_breakers(operation)
    except StoreUnavailable as error:
        verdict = gettext("Unknown: %(reason)s") % {"reason": localized(error.reason)}
        return {
            "follow_up": {"verdict": verdict, "tone": "quiet"},
            "etag_source": error.reason,
            "is_store_away": True,
        }
    return {"follow_up": report and describe_report(report), "etag_source": report}


def describe_report(report: FollowUpReport) -> dict[str, Any]:
    """Return what the page's section shows, the worst first."""
    if not report.breakers:
        return {"verdict": gettext("It changed no circuit breaker."), "tone": "quiet"}
    breakers = sorted(report.breakers, key=lambda breaker: SEVERITY[breaker.follow_up])
    return {
        "verdict": format_verdict(breakers),
        "tone": FOLLOW_UP_LABELS[breakers[0].follow_up].tone,
        "rows": [describe_breaker(breaker) for breaker in breakers],
        "omitted": format_omitted(report.omitted),
        "has_unknown": any(breaker.follow_up is FollowUp.UNKNOWN for breaker in breakers),
    }


def format_verdict(breakers: Sequence[BreakerFollowUp]) -> str:
    """Return a sentence for each outcome that occurs, the worst first."""
    sentences = []
    for follow_up in FollowUp:
        alike = [breaker for breaker in breakers if breaker.follow_up is follow_up]
        if not alike:
            continue
        labels = FOLLOW_UP_LABELS[follow_up]
        sentence = labels.of_all if len(alike) == len(breakers) else labels.of_some
        when = min(
            alike, key=lambda breaker: UNKNOWN_DELAY if breaker.after is None else breaker.after
        )
        figures = {"number": len(alike), "all": len(breakers), "when": format_delay(when)}
        sentences.append(str(sentence % figures))
    return " ".join(sentences)


def describe_breaker(breaker: BreakerFollowUp) -> dict[str, Any]:
    label = FOLLOW_UP_LABELS[breaker.follow_up].of_one % {"when": format_delay(breaker)}
    return {
        "breaker": breaker,
        "is_known": breaker.state != "unknown",
        "label": label,
        "cause": format_cause(breaker.cause) if breaker.cause else "",
        "badge": state_badge(breaker.state),
    }


def format_delay(breaker: BreakerFollowUp) -> str:
    """Return how long after the operation the breaker reopened."""
    if breaker.after is None:
        return gettext("at an unknown time")
    return gettext("after %(time)s") % {"time": format_span(breaker.after)}


def format_omitted(number: int) -> str:
    """Return how many breakers are left out; empty for none."""
    if not number:
        return ""
    text = ngettext(
        "%(number)s more circuit breaker is not listed.",
        "%(number)s more circuit breakers are not listed.",
        number,
    )
    return text % {"number": count(number)}
