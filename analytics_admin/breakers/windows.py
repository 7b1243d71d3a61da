"""Windows: the last calls, or the last seconds, counted in at most 60 buckets and running sums.

A look reads the sums, whatever the window's size. A window moves by its bucket: one of 60 seconds
or calls exactly, one of 900 seconds by 15 seconds. ``stores/lua/parts/windows.lua`` does the same.
"""

from collections import deque
from dataclasses import dataclass, field

from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import Counts, Results

MAX_BUCKETS = 60
Cell = tuple[int, int, int]
"""Calls, failures and slow calls."""


def bucket_width(window: Window) -> int:
    """Return the seconds, or calls, that share a bucket."""
    return -(-window.size // MAX_BUCKETS)


@dataclass(slots=True)
class WindowCounts:
    """The calls of one generation within one window; ``now`` is the store's time."""

    window: Window
    _sums: list[int] = field(default_factory=lambda: [0, 0, 0])
    _seconds: dict[int, Cell] = field(default_factory=dict)
    """Of a time window: the buckets by their number."""
    _calls: deque[Cell] = field(default_factory=deque)
    """Of a count window: the buckets, oldest first."""

    def add(self, results: Results, now: float) -> None:
        """Count the results, except those too old for the window or ahead of the clock."""
        self._move_on(int(now))
        for at, cell in _cells(results, int(now)):
            if self.window.timed:
                self._add_timed(at, cell, int(now))
            else:
                self._add_counted(cell)

    def counts(self, now: float) -> Counts:
        """Return the counts in the window."""
        self._move_on(int(now))
        calls, failures, slow = self._sums
        return Counts(calls=calls, failures=failures, slow=slow)

    def _move_on(self, second: int) -> None:
        """Drop the buckets that are over, and those ahead of a clock that was set back."""
        newest, oldest = self._bounds(second)
        for bucket in [bucket for bucket in self._seconds if not oldest <= bucket <= newest]:
            self._sum_up(self._seconds.pop(bucket), sign=-1)

    def _bounds(self, second: int) -> tuple[int, int]:
        width = bucket_width(self.window)
        newest = second // width
        return newest, newest - -(-self.window.size // width) + 1

    def _add_timed(self, at: int, cell: Cell, second: int) -> None:
        bucket, oldest = at // bucket_width(self.window), self._bounds(second)[1]
        if at <= second and bucket >= oldest:
            self._seconds[bucket] = _added(self._seconds.get(bucket, (0, 0, 0)), cell)
            self._sum_up(cell)

    def _add_counted(self, cell: Cell) -> None:
        """Add calls that are all alike. Healthy ones share a bucket of any size."""
        width, rest = bucket_width(self.window), min(cell[0], self.window.size)
        self._shorten(self.window.size - rest)
        while rest:
            last = self._calls[-1] if self._calls else None
            shares = last is not None and cell[1:] == last[1:] == (0, 0)
            if last is None or (last[0] >= width and not shares):
                last, shares = (0, 0, 0), cell[1:] == (0, 0)
                self._calls.append(last)
            calls = rest if shares else min(rest, width - last[0])
            part = (calls, calls if cell[1] else 0, calls if cell[2] else 0)
            self._calls[-1] = _added(last, part)
            self._sum_up(part)
            rest -= calls

    def _shorten(self, most: int) -> None:
        """Drop the oldest calls but for so many. In a bucket that is cut, failures lie evenly."""
        while self._sums[0] > most:
            old = self._calls.popleft()
            left = max(0, old[0] - (self._sums[0] - most))
            if left:
                kept = (left, _share(old[1], left, old[0]), _share(old[2], left, old[0]))
                self._calls.appendleft(kept)
                self._sum_up(kept)
            self._sum_up(old, sign=-1)

    def _sum_up(self, cell: Cell, sign: int = 1) -> None:
        self._sums = [sum_ + sign * number for sum_, number in zip(self._sums, cell, strict=True)]


def _added(cell: Cell, more: Cell) -> Cell:
    return cell[0] + more[0], cell[1] + more[1], cell[2] + more[2]


def _share(number: int, left: int, calls: int) -> int:
    """Return ``number`` times ``left / calls``, rounded half up."""
    return (2 * number * left + calls) // (2 * calls)


def _cells(results: Results, second: int) -> list[tuple[int, Cell]]:
    """Return the results as (second, cell), in the order in which they count."""
    cells: list[tuple[int, Cell]] = [(at, (number, 0, 0)) for at, number in results.successes]
    cells.append((second, (results.slow_successes, 0, results.slow_successes)))
    cells.append((second, (results.failures, results.failures, 0)))
    cells.append((second, (results.slow_failures,) * 3))
    return [(at, cell) for at, cell in cells if cell[0]]
