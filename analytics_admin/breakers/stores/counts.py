"""Sliding windows of calls, pure: what the Redis scripts keep, for the store in memory.

Knows no clock: ``now`` is an argument, in seconds of the store's clock.
"""

from collections import deque
from dataclasses import dataclass, field

from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import NO_COUNTS, Counts, Results

_Cell = tuple[int, int, int]  # calls, failures, slow


@dataclass(slots=True)
class WindowCounts:
    """The calls of one generation within one window."""

    window: Window
    _runs: deque[_Cell] = field(default_factory=deque)
    _buckets: dict[int, _Cell] = field(default_factory=dict)

    def add(self, results: Results, now: float) -> None:
        """Count the results, those too old for the window or ahead of the clock left out."""
        for at, cell in _cells(results, int(now)):
            if not self.window.timed:
                self._runs.append(cell)
                self._cut()
            elif int(now) - self.window.size < at <= int(now):
                old = self._buckets.get(at, (0, 0, 0))
                self._buckets[at] = (old[0] + cell[0], old[1] + cell[1], old[2] + cell[2])

    def counts(self, now: float) -> Counts:
        """Return what is in the window; a bucket ahead of the clock is empty."""
        cells = list(self._runs)
        if self.window.timed:
            oldest = int(now) - self.window.size
            self._buckets = {at: cell for at, cell in self._buckets.items() if at > oldest}
            cells = [cell for at, cell in self._buckets.items() if at <= int(now)]
        if not cells:
            return NO_COUNTS
        calls, failures, slow = (sum(column) for column in zip(*cells, strict=True))
        return Counts(calls=calls, failures=failures, slow=slow)

    def _cut(self) -> None:
        """Drop the oldest calls beyond the window's size."""
        over = sum(cell[0] for cell in self._runs) - self.window.size
        while over > 0:
            calls, failures, slow = self._runs.popleft()
            kept = max(0, calls - over)
            over -= calls
            if kept:
                self._runs.appendleft((kept, kept if failures else 0, kept if slow else 0))


def _cells(results: Results, second: int) -> list[tuple[int, _Cell]]:
    """Return (second, numbers) of the results in the order in which they count."""
    cells: list[tuple[int, _Cell]] = [(at, (number, 0, 0)) for at, number in results.successes]
    cells.append((second, (results.slow_successes, 0, results.slow_successes)))
    cells.append((second, (results.failures, results.failures, 0)))
    cells.append((second, (results.slow_failures,) * 3))
    return [(at, cell) for at, cell in cells if cell[0]]
