"""The clock of a simulation: it begins now, and moves when the test says so."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

TICK = 1e-6
"""Seconds that pass at each reading of the clock, so that instants differ."""


class SimulatedClock:
    """Stands in for the ``time`` module; but for ticks, it stands still until somebody moves it."""

    def __init__(self, now: float | None = None, *, tick: float = TICK) -> None:
        self.now = time.time() if now is None else now
        """Seconds since the epoch, without the ticks."""
        self._tick = tick
        self._ticks = count()
        self._ahead = self.now - time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return self.now + next(self._ticks) * self._tick

    def monotonic(self) -> float:
        """Return seconds since some fixed instant."""
        return self.time() - self._ahead

    def sleep(self, seconds: float) -> None:
        """Move the clock instead of waiting."""
        self.now += seconds

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self.now += seconds


_running: SimulatedClock | None = None


@contextmanager
def shared_clock() -> Iterator[SimulatedClock]:
    """Provide the clock of the simulations under way: they all have one."""
    global _running  # noqa: PLW0603  one per process
    if _running is not None:
        yield _running
        return
    _running = SimulatedClock()
    try:
        yield _running
    finally:
        _running = None
