"""One circuit breaker's page: its state, history and policy, and the form to hold it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.http import Http404
from django.utils.translation import gettext

from analytics_admin.console.breakers.labels import (
    as_etag_source,
    format_next_probe,
    format_operation,
    format_rule,
    policy_rows,
)
from analytics_admin.console.forms import ControlForm
from analytics_admin.console.labels import (
    UNKNOWN,
    format_cause,
    state_badge,
    status_badge,
)
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.breakers import queries, timeline
from analytics_admin.services.breakers.timeline import BreakerEvent
from analytics_admin.services.breakers.types import BreakerDetail, BreakerPeriod, BreakerStatus
from analytics_admin.services.errors import AuditUnavailable, StoreUnavailable, UnknownBreakers

CHART_HEIGHT = 40
BAR_WIDTH = 8
EARLIEST = datetime.min.replace(tzinfo=UTC)


def describe_breaker(name: str) -> dict[str, Any]:
    """Return the context of a breaker's page.

    Raises:
        Http404: no breaker of this name is registered.
    """
    try:
        detail = queries.describe_breaker(name)
    except StoreUnavailable as error:
        past = describe_timeline(name, None)
        return {
            "unavailable": localized(error.reason),
            "badge": UNKNOWN,
            "form": ControlForm(),
            **past,
            "etag_source": (error.reason, past["etag_source"]),
        }
    except UnknownBreakers as error:
        raise Http404(str(error)) from error
    past, status = describe_timeline(name, detail), detail.status
    return {
        "detail": detail,
        "status": status,
        "badge": state_badge(status.state),
        "next_probe": format_next_probe(status, detail.at),
        "no_probe_reason": explain_no_probe(status),
        "no_forget_reason": explain_no_forget(status),
        "would_open": state_badge("would_open"),
        "opened": describe_opening(detail),
        "policy": policy_rows(queries.explain_policy(name, detail.policy)),
        "chart": draw(detail.history),
        "form": ControlForm(initial={"expected_generation": status.generation}),
        **past,
        "etag_source": (detail_etag_source(detail), past["etag_source"]),
    }


def detail_etag_source(detail: BreakerDetail) -> tuple[Any, ...]:
    """Return what the page shows of the breaker; it stays the same while only time goes on."""
    calm = not any(period.counts.calls or period.rejected for period in detail.history)
    status, probe_at = as_etag_source(detail.status, detail.at)
    history = () if calm else detail.history  # calm minutes are shown without times
    return replace(detail, status=status, at=detail.since or EARLIEST, history=history), probe_at


def explain_no_probe(status: BreakerStatus) -> str:
    """Return why no probe can be allowed now; "" if one can."""
    if status.control != "automatic":
        return gettext("It is held: release it first.")
    if status.state == "half_open":
        return gettext("It is half open: probes already pass.")
    return "" if status.state == "open" else gettext("It is not open: calls pass.")


def explain_no_forget(status: BreakerStatus) -> str:
    """Return why the breaker cannot be forgotten now; "" if it can."""
    if queries.is_declared(status.name):
        return gettext("This site's code or settings declare it.")
    return gettext("It is held: release it first.") if status.control != "automatic" else ""


def describe_timeline(name: str, detail: BreakerDetail | None) -> dict[str, Any]:
    """Return the breaker's transitions and the operations on it as one timeline.

    Without ``detail`` it has the operations only.
    """
    try:
        operations, missing = timeline.list_operations_on_breaker(name), ""
    except AuditUnavailable as error:
        operations, missing = [], error.reason
    events = timeline.build_timeline(name, detail.transitions if detail else [], operations)
    return {
        "timeline": [describe_event(event) for event in events],
        "operations_missing": localized(missing),
        "etag_source": (missing, [(row.pk, row.status, row.is_interrupted) for row in operations]),
    }


def describe_event(event: BreakerEvent) -> dict[str, Any]:
    """Return one row; only an operation that is not done shows its status."""
    operation, move = event.operation, event.transition
    cause = format_cause(move.cause, move.to_state) if move else ""
    done = operation is not None and operation.status == Operation.Status.DONE
    return {
        "at": event.at,
        "operation": operation,
        "text": format_operation(operation) if operation else cause,
        "status": None if operation is None or done else status_badge(operation),
        "from": state_badge(move.from_state) if move else None,
        "to": state_badge(move.to_state) if move else None,
        "actor": operation.actor if operation else move.actor if move else "",
    }


def describe_opening(detail: BreakerDetail) -> dict[str, Any] | None:
    """Return why the breaker opened, or would have; None if nothing opened it."""
    move = detail.opened
    if move is None:
        return None
    return {"rule": format_rule(move.cause, move.consecutive_failures), "move": move}


def draw(history: Sequence[BreakerPeriod]) -> dict[str, Any]:
    """Return the sums of the last minutes, and the bars of their chart.

    A bar stacks failures, other calls and rejected calls, from the bottom up.
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
    """Return the visible parts of a period's bar, in the units of the chart."""
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
