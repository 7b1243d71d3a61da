"""How each sequel of an act on breakers reads: of one breaker, of all of them, and of some.

Words alone: which sequel it is, the service has found out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from analytics_admin.services.breakers.followup import FollowUp

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Words = str | _StrPromise


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpLabels:
    """How a sequel reads of one breaker, of all of them, and of some.

    ``when`` is how long after the act it happened, of several to the first.
    """

    tone: str
    of_one: "Words"
    of_all: "Words"
    of_some: "Words"


# Translators: of several circuit breakers "all" is how many there are, "when" such as "after 14 s".
FOLLOW_UP_LABELS: Mapping[FollowUp, FollowUpLabels] = {
    FollowUp.REOPENED: FollowUpLabels(
        tone="bad",
        of_one=_("Opened again %(when)s"),
        of_all=ngettext_lazy(
            "The circuit breaker opened again %(when)s.",
            "All %(number)s circuit breakers have opened again, the first %(when)s.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers has opened again, %(when)s.",
            "%(number)s of %(all)s circuit breakers have opened again, the first %(when)s.",
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
    FollowUp.WOULD_OPEN: FollowUpLabels(
        tone="warn",
        of_one=_("Would have opened %(when)s"),
        of_all=ngettext_lazy(
            "The circuit breaker would have opened %(when)s.",
            "All %(number)s circuit breakers would have opened, the first %(when)s.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers would have opened, %(when)s.",
            "%(number)s of %(all)s circuit breakers would have opened, the first %(when)s.",
            "number",
        ),
    ),
    FollowUp.HALF_OPEN: FollowUpLabels(
        tone="warn",
        of_one=_("Half open: its probes have not decided yet"),
        of_all=ngettext_lazy(
            "The circuit breaker is half open: its probes have not decided yet.",
            "All %(number)s circuit breakers are half open: their probes have not decided yet.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers is half open: its probes have not decided yet.",
            "%(number)s of %(all)s circuit breakers are half open: their probes have not decided"
            " yet.",
            "number",
        ),
    ),
    FollowUp.LOST: FollowUpLabels(
        tone="quiet",
        of_one=_("What came next is no longer known"),
        of_all=ngettext_lazy(
            "What came next is no longer known.",
            "What came next is no longer known of any of the %(number)s circuit breakers.",
            "number",
        ),
        of_some=ngettext_lazy(
            "What came next is no longer known of %(number)s of %(all)s circuit breakers.",
            "What came next is no longer known of %(number)s of %(all)s circuit breakers.",
            "number",
        ),
    ),
    FollowUp.GONE: FollowUpLabels(
        tone="quiet",
        of_one=_("The store does not know it: forgotten, or never used"),
        of_all=ngettext_lazy(
            "The store does not know the circuit breaker: forgotten, or never used.",
            "The store knows none of the %(number)s circuit breakers: forgotten, or never used.",
            "number",
        ),
        of_some=ngettext_lazy(
            "The store does not know %(number)s of %(all)s circuit breakers: forgotten, or never"
            " used.",
            "The store does not know %(number)s of %(all)s circuit breakers: forgotten, or never"
            " used.",
            "number",
        ),
    ),
    FollowUp.MOVED: FollowUpLabels(
        tone="quiet",
        of_one=_("Moved by another act %(when)s"),
        of_all=ngettext_lazy(
            "Another act moved the circuit breaker %(when)s.",
            "Other acts have moved all %(number)s circuit breakers, the first %(when)s.",
            "number",
        ),
        of_some=ngettext_lazy(
            "Another act has moved %(number)s of %(all)s circuit breakers, %(when)s.",
            "Other acts have moved %(number)s of %(all)s circuit breakers, the first %(when)s.",
            "number",
        ),
    ),
    FollowUp.HOLD_OVER: FollowUpLabels(
        tone="quiet",
        of_one=_("Its hold ended %(when)s"),
        of_all=ngettext_lazy(
            "The hold ended %(when)s.",
            "The holds of all %(number)s circuit breakers have ended, the first %(when)s.",
            "number",
        ),
        of_some=ngettext_lazy(
            "The hold of %(number)s of %(all)s circuit breakers has ended, %(when)s.",
            "The holds of %(number)s of %(all)s circuit breakers have ended, the first %(when)s.",
            "number",
        ),
    ),
    FollowUp.HELD: FollowUpLabels(
        tone="quiet",
        of_one=_("Still held"),
        of_all=ngettext_lazy(
            "The circuit breaker is still held.",
            "All %(number)s circuit breakers are still held.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers is still held.",
            "%(number)s of %(all)s circuit breakers are still held.",
            "number",
        ),
    ),
    FollowUp.RECOVERED: FollowUpLabels(
        tone="good",
        of_one=_("Closed %(when)s"),
        of_all=ngettext_lazy(
            "The circuit breaker closed %(when)s, and has stayed closed.",
            "All %(number)s circuit breakers have closed, the first %(when)s, and stayed closed.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers has closed, %(when)s.",
            "%(number)s of %(all)s circuit breakers have closed, the first %(when)s.",
            "number",
        ),
    ),
    FollowUp.CLOSED: FollowUpLabels(
        tone="good",
        of_one=_("Stayed closed"),
        of_all=ngettext_lazy(
            "The circuit breaker has stayed closed.",
            "All %(number)s circuit breakers have stayed closed.",
            "number",
        ),
        of_some=ngettext_lazy(
            "%(number)s of %(all)s circuit breakers has stayed closed.",
            "%(number)s of %(all)s circuit breakers have stayed closed.",
            "number",
        ),
    ),
}
