"""A breaker's last five minutes, drawn so small that it fits into a row of a table.

Two areas over each other, as paths of an inline SVG: all calls, and those that failed or were
rejected. Knows no page; who draws also says it in words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analytics_admin.services import BreakerPeriod

STEP = 4
HEIGHT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """The paths' data, both empty when nobody called; in a box ``width`` wide, HEIGHT high."""

    width: int
    calls: str = ""
    trouble: str = ""


def draw_sparkline(history: Sequence[BreakerPeriod]) -> Sparkline:
    """Return the drawing of the periods; its highest one reaches the top, whatever it counts."""
    trouble = [period.counts.failures + period.rejected for period in history]
    every = [period.counts.calls + period.rejected for period in history]
    most, width = max(every, default=0), STEP * len(history)
    if not most:
        return Sparkline(width=width)
    return Sparkline(
        width=width,
        calls=_area(-(-number * HEIGHT // most) for number in every),
        trouble=_area(-(-number * HEIGHT // most) for number in trouble) if any(trouble) else "",
    )


def _area(heights: Iterable[int]) -> str:
    """Return a path along the tops of the bars and back on the ground.

    Heights were rounded up: a single failure is to be seen.
    """
    steps, last, x = [f"M0 {HEIGHT}"], 0, 0
    for place, height in enumerate(heights):
        x = place * STEP
        if height != last:
            steps.append(f"H{x}V{HEIGHT - height}")
            last = height
    return f"{''.join(steps)}H{x + STEP}V{HEIGHT}z"
