"""What the calls and transitions of each breaker add up to, for as long as it is known.

Of breakers that are forgotten, or whose record is lost, the totals begin at zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.state import Counts

TARGETS = ("closed", "open", "half_open", "held")
"""What transitions lead to; a hold of any kind is the last."""


class Totals(NamedTuple):
    """The sums of one breaker: of calls, and of transitions by TARGETS."""

    calls: int = 0
    failures: int = 0
    slow: int = 0
    rejected: int = 0
    closed: int = 0
    opened: int = 0
    half_opened: int = 0
    held: int = 0

    @property
    def transitions(self) -> tuple[int, ...]:
        """By TARGETS."""
        return self[-len(TARGETS) :]

    def counted(self, counts: Counts) -> "Totals":
        """Return the totals with the calls of a generation."""
        calls, failures, slow, *rest = self
        return Totals(calls + counts.calls, failures + counts.failures, slow + counts.slow, *rest)

    def moved(self, to: str) -> "Totals":
        """Return the totals with a transition to this state or hold."""
        numbers, place = list(self), TARGETS.index(to) if to in TARGETS else len(TARGETS) - 1
        numbers[place - len(TARGETS)] += 1
        return Totals(*numbers)


class BreakerTotals(NamedTuple):
    """One breaker as monitoring shows it."""

    state: str
    """As calls meet it."""
    held_until: float | None
    """When the hold in force ends (the store's clock); infinity: never; None: there is none."""
    totals: Totals | None
    """None: there is no record, or it cannot be read."""


class TotalsReading(NamedTuple):
    """All breakers in use, in one round trip; a breaker seen for the first time needs another."""

    breakers: Mapping[str, BreakerTotals]
    """The first by name, as many as were asked for."""
    left_out: int
    """How many there are besides."""
    processes: Sequence[Process]
    now: float
    """The store's time."""
    seconds: float
    """In which the store began to answer."""
    beside: Sequence[Any]
    """The answers to further commands."""


def decode_totals(row: bytes) -> Totals | None:
    """Return the totals of a breaker as ``read_totals.lua`` answers them."""
    return Totals._make(map(int, row.split())) if row else None
