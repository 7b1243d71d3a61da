"""The rows of the list of breakers, with the drawing of their last five minutes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from analytics_admin.console.breakers.labels import as_etag_source, format_next_probe
from analytics_admin.console.labels import count, format_cause, per_cent, state_badge
from analytics_admin.services.breakers.types import (
    BreakerActivity,
    BreakerPage,
    BreakerPeriod,
    BreakerStatus,
    BreakerTransition,
)

STEP = 4
HEIGHT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """Two areas as paths of an SVG: all calls, and those that failed or were rejected.

    Both are empty when there were no calls; the box is ``width`` by HEIGHT.
    """

    width: int
    calls: str = ""
    trouble: str = ""
    height: int = HEIGHT


def draw_sparkline(history: Sequence[BreakerPeriod]) -> Sparkline:
    """Return the drawing of the periods, scaled so that the highest one reaches the top."""
    trouble = [period.counts.failures + period.rejected for period in history]
    every = [period.counts.calls + period.rejected for period in history]
    most, width = max(every, default=0), STEP * len(history)
    if not most:
        return Sparkline(width=width)
    # Heights are rounded up, so that a single failure is visible.
    return Sparkline(
        width=width,
        calls=_area(-(-number * HEIGHT // most) for number in every),
        trouble=_area(-(-number * HEIGHT // most) for number in trouble) if any(trouble) else "",
    )


def _area(heights: Iterable[int]) -> str:
    """Return a path along the tops of the bars and back on the ground."""
    steps, last, x = [f"M0 {HEIGHT}"], 0, 0
    for place, height in enumerate(heights):
        x = place * STEP
        if height != last:
            steps.append(f"H{x}V{HEIGHT - height}")
            last = height
    return f"{''.join(steps)}H{x + STEP}V{HEIGHT}z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What a row shows of a breaker's last minutes."""

    calls: int
    failures: int
    rejected: int
    calls_per_minute: float
    sparkline: Sparkline
    last_change: BreakerTransition | None


def summarize_recent(activity: BreakerActivity) -> Recent:
    history = activity.history
    return Recent(
        calls=sum(period.counts.calls for period in history),
        failures=sum(period.counts.failures for period in history),
        rejected=sum(period.rejected for period in history),
        calls_per_minute=activity.calls_per_minute,
        sparkline=draw_sparkline(history),
        last_change=activity.last_change,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the template shows of one breaker; ``url`` is "" where it has no page of its own."""

    status: BreakerStatus
    recent: Recent
    url: str
    badge: SafeString
    selection_label: str
    failure_rate: str
    calls_per_minute: str
    rejected: str
    recent_label: str
    next_probe: SafeString | str
    cause: str


def build_rows(
    page: BreakerPage, recent: dict[str, Recent], url_of: Callable[[str], str]
) -> Iterator[Row]:
    """Yield the rows of one page; what they have in common is translated once."""
    select = gettext("Select %(name)s")
    recently = gettext("Calls: %(calls)s, failed: %(failed)s, rejected: %(rejected)s")
    badges: dict[str, SafeString] = {}
    for status in page.breakers:
        summary = recent[status.name]
        change, rejected = summary.last_change, count(summary.rejected)
        if status.state not in badges:
            badges[status.state] = state_badge(status.state).__html__()
        yield Row(
            status=status,
            recent=summary,
            url=url_of(status.name),
            badge=badges[status.state],
            selection_label=select % {"name": status.name},
            failure_rate=format_failure_rate(summary),
            calls_per_minute=count(round(summary.calls_per_minute)),
            rejected=rejected,
            recent_label=recently
            % {
                "calls": count(summary.calls),
                "failed": count(summary.failures),
                "rejected": rejected,
            },
            next_probe=format_next_probe(status, page.at),
            cause=format_cause(change.cause, change.to_state) if change else "",
        )


def format_failure_rate(recent: Recent) -> str:
    """Return the share of failed calls; above 0 % if one failed, below 100 % if one succeeded."""
    if not recent.calls:
        return ""
    rate = round(100 * recent.failures / recent.calls, 1)
    if 0 < recent.failures < recent.calls:
        rate = min(max(rate, 0.1), 99.9)
    number = str(number_format(rate)) if rate % 1 else str(int(rate))
    return per_cent(number).replace(" ", "\N{NO-BREAK SPACE}")


def column_headings() -> dict[str, str]:
    """Return the headings that each cell repeats on a phone."""
    return {
        "state": gettext("State"),
        "rate": gettext("Failure rate"),
        "calls": gettext("Calls/min"),
        "rejected": gettext("Rejected"),
        "recent": gettext("Last 5 minutes"),
        "probe": gettext("Next probe"),
        "hold": gettext("Hold"),
        "change": gettext("Last change"),
    }


def rows_etag_source(page: BreakerPage, recent: dict[str, Recent]) -> list[Any]:
    """Return what the rows show, as plain data that stays the same while only time goes on."""
    return [(as_etag_source(status, page.at), recent[status.name]) for status in page.breakers]
