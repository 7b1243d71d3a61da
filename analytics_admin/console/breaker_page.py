"""One circuit breaker's own page: what is known of it, in words, and the form to hold it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.http import Http404

from analytics_admin import services
from analytics_admin.console.breaker_facts import as_seen, next_probe_words
from analytics_admin.console.forms import ControlForm
from analytics_admin.console.wording import (
    UNKNOWN,
    cause_words,
    rule_words,
    state_badge,
)
from analytics_admin.services import (
    BreakerDetail,
    BreakerPeriod,
    BreakerTransition,
    StoreUnavailable,
    UnknownBreakers,
)

CHART_HEIGHT = 40
BAR_WIDTH = 8


def describe_breaker(name: str) -> dict[str, Any]:
    """Return what is known of a breaker, and the form to hold it as it is now.

    Raises:
        Http404: no breaker of this name is registered.
    """
    try:
        detail = services.describe_breaker(name)
    except StoreUnavailable as error:
        return {
            "unavailable": error.reason,
            "badge": UNKNOWN,
            "form": ControlForm(),
            "seen": error.reason,
        }
    except UnknownBreakers as error:
        raise Http404(str(error)) from error
    return {
        "seen": replace(detail, status=as_seen([detail.status])[0]),
        "detail": detail,
        "status": detail.status,
        "badge": state_badge(detail.status.state),
        "would_open": state_badge("would_open"),
        "opened": describe_opening(detail),
        "transitions": [describe_transition(move) for move in detail.transitions],
        "chart": draw(detail.history),
        "form": ControlForm(initial={"expected_generation": detail.status.generation}),
    }


def describe_opening(detail: BreakerDetail) -> dict[str, Any] | None:
    """Return why the breaker is open, or would be; None where nothing has opened it."""
    move = detail.opened
    if move is None:
        return None
    return {"rule": rule_words(move.cause, move.consecutive_failures), "move": move}


def describe_transition(move: BreakerTransition) -> dict[str, Any]:
    return {
        "transition": move,
        "from": state_badge(move.from_state),
        "to": state_badge(move.to_state),
        "cause": cause_words(move.cause),
    }


def draw(history: Sequence[BreakerPeriod]) -> dict[str, Any]:
    """Return the sums of the last minutes, and the bars of their drawing.

    In a period's bar the failures are at the foot, upon them the other calls, then the rejected.
    """
    most = max((period.counts.calls + period.rejected for period in history), default=0)
    return {
        "calls": sum(period.counts.calls for period in history),
        "failures": sum(period.counts.failures for period in history),
        "slow": sum(period.counts.slow for period in history),
        "rejected": sum(period.rejected for period in history),
        "width": BAR_WIDTH * len(history),
        "height": CHART_HEIGHT,
        "bars": [
            bar
            for place, period in enumerate(history)
            if most
            for bar in bars(period, x=place * BAR_WIDTH, scale=CHART_HEIGHT / most)
        ],
    }


def bars(period: BreakerPeriod, *, x: int, scale: float) -> list[dict[str, Any]]:
    """Return the parts of a period's bar that are to be seen, in the units of the drawing."""
    parts = [
        ("failures", period.counts.failures),
        ("successes", period.counts.calls - period.counts.failures),
        ("rejected", period.rejected),
    ]
    foot, drawn = float(CHART_HEIGHT), []
    for kind, number in parts:
        height = number * scale
        foot -= height
        if number:
            drawn.append(
                {
                    "kind": kind,
                    "x": x,
                    "y": f"{foot:.2f}",
                    "width": BAR_WIDTH - 1,
                    "height": f"{height:.2f}",
                }
            )
    return drawn
