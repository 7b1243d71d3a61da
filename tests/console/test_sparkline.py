"""The drawing of five minutes in a row of the list."""

import re
from datetime import UTC, datetime

from analytics_admin.breakers.state import Counts
from analytics_admin.console.breakers.rows import HEIGHT, STEP, draw_sparkline
from analytics_admin.services.breakers.types import BreakerPeriod

AT = datetime(2026, 1, 1, tzinfo=UTC)


def period(calls=0, failures=0, rejected=0):
    return BreakerPeriod(at=AT, counts=Counts(calls=calls, failures=failures), rejected=rejected)


def tops(path, periods):
    """Return how high the area is in each period, read from its path."""
    heights, corner = [0] * periods, [(0, HEIGHT)]
    corner += [(int(x), int(y)) for x, y in re.findall(r"H(\d+)V(\d+)", path)]
    for (x, y), (end, _) in zip(corner, [*corner[1:], (periods * STEP, 0)], strict=True):
        for place in range(x // STEP, end // STEP):
            heights[place] = HEIGHT - y
    return heights


def test_each_period_is_as_high_as_its_calls_and_the_highest_reaches_the_top():
    drawn = draw_sparkline([period(), period(calls=6), period(calls=3), period(), period(calls=12)])
    assert tops(drawn.calls, 5) == [0, 12, 6, 0, 24]
    assert drawn.width == 5 * STEP
    assert drawn.trouble == ""


def test_what_failed_and_what_was_rejected_stands_out_at_the_foot():
    drawn = draw_sparkline([period(calls=4, failures=2), period(rejected=4), period(calls=8)])
    assert tops(drawn.calls, 3) == [12, 12, 24]
    assert tops(drawn.trouble, 3) == [6, 12, 0]


def test_a_single_failure_among_very_many_calls_is_to_be_seen():
    drawn = draw_sparkline([period(calls=100_000, failures=1), period(calls=1)])
    assert tops(drawn.trouble, 2) == [1, 0]
    assert tops(drawn.calls, 2) == [24, 1]


def test_areas_are_closed_and_stay_in_their_box():
    drawn = draw_sparkline([period(calls=n, failures=n % 3) for n in range(30)])
    for path in (drawn.calls, drawn.trouble):
        assert path.startswith(f"M0 {HEIGHT}")
        assert path.endswith(f"H{drawn.width}V{HEIGHT}z")
        assert max(map(int, re.findall(r"H(\d+)", path))) == drawn.width
        assert all(0 <= int(y) <= HEIGHT for y in re.findall(r"V(\d+)", path))


def test_nothing_is_drawn_where_nobody_called():
    assert draw_sparkline([]).calls == draw_sparkline([period()] * 30).calls == ""
