"""What became of the breakers that an operation reached, in words: the verdict, and one by one.

Asks the store, once; while it does not answer, nothing is said to be well.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext, ngettext

from analytics_admin.console.audit.labels import format_span
from analytics_admin.console.audit.sequel_words import FOLLOW_UP_LABELS
from analytics_admin.console.labels import count, format_cause, state_badge
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.breakers import followup
from analytics_admin.services.breakers.followup import BreakerFollowUp, FollowUp, FollowUpReport
from analytics_admin.services.errors import StoreUnavailable

SEVERITY = {sequel: place for place, sequel in enumerate(FollowUp)}
WITH_CAUSE = (FollowUp.REOPENED, FollowUp.WOULD_OPEN, FollowUp.MOVED)


def describe_follow_up(operation: Operation) -> dict[str, Any]:
    """Return what became of the operation's breakers; ``watch`` is None where there are none.

    Never fails because the store is down.
    """
    try:
        watch = followup.follow_up_breakers(operation)
    except StoreUnavailable as error:
        reason = localized(error.reason)
        verdict = gettext("Unknown: %(reason)s") % {"reason": reason}
        return {"watch": {"verdict": verdict, "tone": "quiet"}, "etag_source": error.reason}
    return {"watch": watch and describe_breakers(watch), "etag_source": watch}


def describe_breakers(watch: FollowUpReport) -> dict[str, Any]:
    """Return the words of a page's section."""
    if not watch.breakers:
        words = gettext("It moved no circuit breaker, so there is nothing to watch.")
        return {"verdict": words, "tone": "quiet"}
    sequels = Counter(breaker.sequel for breaker in watch.breakers)
    gravest_first = sorted(watch.breakers, key=lambda breaker: SEVERITY[breaker.sequel])
    return {
        "verdict": format_verdict(watch.breakers),
        "tone": next(FOLLOW_UP_LABELS[sequel].tone for sequel in FollowUp if sequels[sequel]),
        "rows": [describe_one(breaker) for breaker in gravest_first],
        "unwatched": format_unwatched(watch.unwatched),
        "has_lost": bool(sequels[FollowUp.LOST]),
    }


def format_verdict(breakers: Sequence[BreakerFollowUp]) -> str:
    """Return a sentence for each sequel that there is, the gravest first."""
    sentences = []
    for sequel in FollowUp:
        alike = [breaker for breaker in breakers if breaker.sequel == sequel]
        if not alike:
            continue
        words = FOLLOW_UP_LABELS[sequel]
        sentence = words.of_all if len(alike) == len(breakers) else words.of_some
        first = min(alike, key=lambda breaker: breaker.after)
        told = {"number": len(alike), "all": len(breakers), "when": format_delay(first)}
        sentences.append(str(sentence % told))
    return " ".join(sentences)


def describe_one(breaker: BreakerFollowUp) -> dict[str, Any]:
    words = FOLLOW_UP_LABELS[breaker.sequel].of_one % {"when": format_delay(breaker)}
    return {
        "breaker": breaker,
        "is_known": breaker.sequel is not FollowUp.GONE,
        "words": words,
        "cause": format_cause(breaker.cause) if breaker.sequel in WITH_CAUSE else "",
        "badge": state_badge(breaker.state),
    }


def format_delay(breaker: BreakerFollowUp) -> str:
    """Return how long after the act it happened; at the latest, where an earlier time is lost."""
    words = gettext("after %(time)s") if breaker.is_first else gettext("within %(time)s")
    return words % {"time": format_span(breaker.after)}


def format_unwatched(number: int) -> str:
    """Return how many breakers are left out; empty for none."""
    if not number:
        return ""
    words = ngettext(
        "The act reached %(number)s circuit breaker more, which is not looked at here.",
        "The act reached %(number)s circuit breakers more, which are not looked at here.",
        number,
    )
    return words % {"number": count(number)}
