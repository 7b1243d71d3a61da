"""The search cache's last hours as charts, and as a table of the same numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import count, tenths
from analytics_admin.console.search_cache.labels import format_ratio
from analytics_admin.services.search_cache.queries import (
    SearchCacheCounts,
    SearchCacheMinute,
    total_counts,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

WIDTH = 720
HEIGHT = 120
DEFAULT_HOURS = 3
SERIES: Sequence[tuple[str, "_StrPromise"]] = (
    ("hits", _("Hits")),
    ("misses", _("Misses")),
    ("stale_served", _("Stale values served")),
    ("bypassed", _("Bypassed calls")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How finely a period is shown, in minutes."""

    drawn: int
    """Per step of the chart."""
    listed: int
    """Per row of the table, of which there are at most 37."""


SCALES = {
    1: Scale(drawn=1, listed=5),
    3: Scale(drawn=3, listed=5),
    6: Scale(drawn=5, listed=10),
    24: Scale(drawn=20, listed=60),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Some consecutive minutes, from ``at`` on."""

    at: datetime
    minutes: int
    counts: SearchCacheCounts

    def per_minute(self, name: str) -> float:
        number: int = getattr(self.counts, name)
        return number / self.minutes


def describe_charts(
    history: Sequence[SearchCacheMinute], clears: Sequence[datetime], *, hours: int
) -> dict[str, Any]:
    """Return the charts and their table, without the current minute.

    ``clears`` are the times of those since the oldest minute.
    """
    minutes, scale = history[:-1], SCALES[hours]
    begin, end = history[0].at, history[-1].at
    steps = list(intervals(minutes, scale.drawn))
    whole = total(history).counts  # with the current minute, which the charts leave out
    most = max((step.per_minute("calls") for step in steps), default=0.0)
    top = round_up(most)
    peak = max(most, float(history[-1].counts.calls))
    axis = Axis(begin=begin, end=end, top=top)
    return {
        "hours": hours,
        "begin": begin,
        "middle": begin + (end - begin) / 2,
        "end": end,
        "width": WIDTH,
        "height": HEIGHT,
        "top": count(top),
        "calls": count(whole.calls),
        "most": tenths(peak) if peak % 1 and peak < 10 else count(round(peak)),
        "ratio": format_ratio(whole.hit_ratio),
        "areas": [
            {"name": name, "path": path} for name, path in axis.areas(steps) if path and most
        ],
        "line": axis.line(steps),
        "legend": [
            {"name": name, "label": label, "number": count(getattr(whole, name))}
            for name, label in SERIES
        ],
        "marks": [f"{axis.x(at):.1f}" for at in clears],
        "rows": list(table_rows(minutes, scale.listed, clears)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps times and numbers to places in the chart."""

    begin: datetime
    end: datetime
    top: float

    def x(self, at: datetime) -> float:
        return min(max(0.0, (at - self.begin) / (self.end - self.begin)), 1.0) * WIDTH

    def y(self, number: float) -> float:
        return HEIGHT * (1 - number / self.top)

    def areas(self, steps: Sequence[Interval]) -> Iterator[tuple[str, str]]:
        """Yield each series' name and path, stacked, with a gap where there were no calls."""
        feet = [0.0] * len(steps)
        for name, _label in SERIES:
            heads = [foot + step.per_minute(name) for foot, step in zip(feet, steps, strict=True)]
            parts = [
                self._area([(steps[n], feet[n], heads[n]) for n in run])
                for run in runs([head > foot for head, foot in zip(heads, feet, strict=True)])
            ]
            yield name, "".join(parts)
            feet = heads

    def line(self, steps: Sequence[Interval]) -> str:
        """Return the path of the hit ratio, with a gap where there is none."""
        path = ""
        for run in runs([step.counts.hit_ratio is not None for step in steps]):
            for place, n in enumerate(run):
                height = HEIGHT * (1 - (steps[n].counts.hit_ratio or 0))
                start = f"V{height:.1f}" if place else f"M{self.x(steps[n].at):.1f} {height:.1f}"
                path += f"{start}H{self._end(steps[n]):.1f}"
        return path

    def _area(self, parts: Sequence[tuple[Interval, float, float]]) -> str:
        first, foot, _head = parts[0]
        path = f"M{self.x(first.at):.1f} {self.y(foot):.1f}"
        for step, _foot, head in parts:
            path += f"V{self.y(head):.1f}H{self._end(step):.1f}"
        for step, foot, _head in reversed(parts):
            path += f"V{self.y(foot):.1f}H{self.x(step.at):.1f}"
        return f"{path}Z"

    def _end(self, step: Interval) -> float:
        return self.x(step.at + timedelta(minutes=step.minutes))


def intervals(minutes: Sequence[SearchCacheMinute], length: int) -> Iterator[Interval]:
    """Yield the minutes by intervals that begin at the same times on each request."""
    for _number, group in groupby(minutes, lambda minute: minute.at.timestamp() // 60 // length):
        yield total(list(group))


def total(minutes: Sequence[SearchCacheMinute]) -> Interval:
    counts = total_counts([minute.counts for minute in minutes])
    return Interval(at=minutes[0].at, minutes=len(minutes), counts=counts)


def runs(flags: Sequence[bool]) -> Iterator[list[int]]:
    """Yield the indexes of true flags, consecutive ones together."""
    for flag, places in groupby(range(len(flags)), flags.__getitem__):
        if flag:
            yield list(places)


def round_up(number: float) -> int:
    """Return the next 1, 2 or 5 times a power of ten, at least 1, as the end of an axis."""
    top = 1
    while top < number:
        top = top * 5 // 2 if str(top)[0] == "2" else top * 2
    return top


def table_rows(
    minutes: Sequence[SearchCacheMinute], length: int, clears: Sequence[datetime]
) -> Iterator[dict[str, Any]]:
    """Yield what the charts show, newest first."""
    series = [(name, str(label)) for name, label in SERIES]  # translated once, not in each row
    for part in reversed(list(intervals(minutes, length))):
        end = part.at + timedelta(minutes=part.minutes)
        yield {
            "at": part.at,
            "values": [(label, count(getattr(part.counts, name))) for name, label in series],
            "calls": count(part.counts.calls),
            "ratio": format_ratio(part.counts.hit_ratio),
            "clears": count(sum(part.at <= at < end for at in clears)),
        }
