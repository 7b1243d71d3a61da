"""The rows of the list of breakers, as HTML.

Written here rather than in a template, whose tags would cost a page of a hundred rows more than
reading ten thousand breakers does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.utils.formats import number_format
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext

from analytics_admin.console.breakers.labels import as_etag_source, format_next_probe
from analytics_admin.console.breakers.sparkline import HEIGHT, Sparkline, draw_sparkline
from analytics_admin.console.labels import count, format_cause, state_badge
from analytics_admin.console.times import ago, left
from analytics_admin.services import (
    BreakerActivity,
    BreakerPage,
    BreakerStatus,
    BreakerTransition,
)

NOTHING, EMPTY, ABSENT = SafeString("\u2013"), SafeString(" aa-empty"), SafeString("")
MAX_REASON_SHOWN = 80  # characters; the breaker's own page has all of it

ROW = """<tr data-key="{name}">
<td class="aa-select"><input type="checkbox" form="aa-selected" name="names" value="{name}" \
aria-label="{selecting}"{disabled}></td>
<th scope="row">{link}</th>
<td class="aa-state">{state}</td>
<td class="aa-number{no_rate}">{rate_label}{rate}</td>
<td class="aa-number">{calls_label}{calls}</td>
<td class="aa-number">{rejected_label}{rejected}</td>
<td class="aa-recent">{recent_label}{recent}</td>
<td class="aa-probe{no_probe}">{probe_label}{probe}</td>
<td class="aa-hold{no_hold}">{hold_label}{hold}</td>
<td class="aa-change{no_change}">{change_label}{change}</td>
</tr>
"""
SPARKLINE = (
    '<svg class="aa-sparkline" viewBox="0 0 {width} {height}" preserveAspectRatio="none"'
    ' aria-hidden="true" focusable="false"><path class="aa-spark-calls" d="{calls}"></path>'
    '<path class="aa-spark-trouble" d="{trouble}"></path></svg>'
    '<span class="visually-hidden">{said}</span>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What a row tells of a breaker's last minutes."""

    calls: int
    failures: int
    rejected: int
    calls_a_minute: float
    drawn: Sparkline
    last_change: BreakerTransition | None


def summarize_recent(activity: BreakerActivity) -> Recent:
    history = activity.history
    return Recent(
        calls=sum(period.counts.calls for period in history),
        failures=sum(period.counts.failures for period in history),
        rejected=sum(period.rejected for period in history),
        calls_a_minute=activity.calls_per_minute,
        drawn=draw_sparkline(history),
        last_change=activity.last_change,
    )


def column_headings() -> dict[str, str]:
    """Return the headings of the columns that each cell also has beside it, on a phone."""
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


class RowWriter:
    """Writes the rows of one page; what they have in common is translated once."""

    def __init__(self, address_of: Callable[[str], str], *, selectable: bool) -> None:
        """``address_of`` returns a breaker's own page, "" if it has none."""
        self._address_of = address_of
        self._common = {
            "disabled": ABSENT if selectable else SafeString(" disabled"),
            **{
                f"{key}_label": format_html('<span class="aa-label">{}</span> ', heading)
                for key, heading in column_headings().items()
            },
        }
        self._selecting = gettext("Select %(name)s")
        self._per_cent = gettext("%(number)s %%").replace(" ", "\N{NO-BREAK SPACE}")
        self._in_a_row = gettext("%(number)s in a row")
        self._said = gettext("Calls: %(calls)s, failed: %(failed)s, rejected: %(rejected)s")
        self._would_open = format_html(
            ' <span class="aa-would-open">{}</span>', gettext("would have opened")
        )
        self._badge = cache(lambda state: state_badge(state).__html__())
        self._cause = cache(format_cause)

    def write(self, page: BreakerPage, recent: dict[str, Recent]) -> Iterator[SafeString]:
        for status in page.breakers:
            yield self._row(status, recent[status.name], format_next_probe(status, page.at))

    def _row(self, status: BreakerStatus, recent: Recent, probe: SafeString | str) -> SafeString:
        rate = self._failure_rate(recent) + self._run(status.consecutive_failures)
        hold = "" if status.control == "automatic" else format_hold(status)
        change = self._change(recent.last_change) if recent.last_change else ""
        return format_html(
            ROW,
            **self._common,
            name=escape(status.name),
            selecting=self._selecting % {"name": status.name},
            link=self._link(status.name),
            state=self._badge(status.state) + (self._would_open if status.would_open else ABSENT),
            rate=rate or NOTHING,
            calls=SafeString(count(round(recent.calls_a_minute))),
            rejected=SafeString(count(recent.rejected)),
            recent=self._sparkline(recent),
            probe=probe or NOTHING,
            hold=hold or NOTHING,
            change=change or NOTHING,
            no_rate=ABSENT if rate else EMPTY,
            no_probe=ABSENT if probe else EMPTY,
            no_hold=ABSENT if hold else EMPTY,
            no_change=ABSENT if change else EMPTY,
        )

    def _link(self, name: str) -> SafeString:
        address = self._address_of(name)
        if not address:
            return format_html("<bdi>{}</bdi>", name)
        return format_html('<a href="{}">{}</a>', address, name)

    def _failure_rate(self, recent: Recent) -> SafeString:
        """Say per cent of the calls; what is more than nothing, or less than all, reads so."""
        if not recent.calls:
            return ABSENT
        rate = round(100 * recent.failures / recent.calls, 1)
        if 0 < recent.failures < recent.calls:
            rate = min(max(rate, 0.1), 99.9)
        number = number_format(rate) if rate % 1 else int(rate)
        return conditional_escape(self._per_cent % {"number": number})

    def _run(self, failures: int) -> SafeString:
        if failures < 2:
            return ABSENT
        words = self._in_a_row % {"number": count(failures)}
        return format_html(' <span class="aa-run">{}</span>', words)

    def _sparkline(self, recent: Recent) -> SafeString:
        said = self._said % {
            "calls": count(recent.calls),
            "failed": count(recent.failures),
            "rejected": count(recent.rejected),
        }
        return format_html(
            SPARKLINE,
            width=recent.drawn.width,
            height=HEIGHT,
            calls=SafeString(recent.drawn.calls),
            trouble=SafeString(recent.drawn.trouble),
            said=said,
        )

    def _change(self, move: BreakerTransition) -> SafeString:
        return format_html(
            '{} <span class="aa-cause">{}</span>{}',
            ago(move.at),
            self._cause(move.cause),
            format_html(' <span class="aa-by"><bdi>{}</bdi></span>', move.actor)
            if move.actor
            else "",
        )


def format_hold(status: BreakerStatus) -> SafeString:
    """Return how long the hold still lasts, whose it is, and the beginning of its reason."""
    until = status.held_until
    lasts = gettext("until released") if until is None else left(until, gettext("over"))
    by = format_html(gettext("by {actor}"), actor=format_html("<bdi>{}</bdi>", status.held_by))
    reason = Truncator(status.hold_reason).chars(MAX_REASON_SHOWN)
    return format_html(
        '<span class="aa-until">{}</span> <span class="aa-by">{}</span>{}',
        lasts if until is None else format_html(gettext("{time} left"), time=lasts),
        by,
        format_html(' <q class="aa-reason"><bdi>{}</bdi></q>', reason) if reason else "",
    )


def rows_etag_source(page: BreakerPage, recent: dict[str, Recent]) -> list[Any]:
    """Return what the rows tell, as plain data that stays the same while only time goes on."""
    return [(as_etag_source(status, page.at), recent[status.name]) for status in page.breakers]
