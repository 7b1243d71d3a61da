"""What the calls and transitions of each breaker add up to, for as long as it is known.

Of breakers that are forgotten, or whose record is lost, the totals begin at zero.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.state import NO_COUNTS, Counts

TARGETS = ("closed", "open", "half_open", "held")
"""What transitions lead to; a hold of any kind is the last."""
_PLACES = 3 + len(TARGETS)
_NUMBER = re.compile(rb"\d{1,18}")


class Totals(NamedTuple):
    """The sums of one breaker."""

    calls: Counts = NO_COUNTS
    rejected: int = 0
    transitions: tuple[int, ...] = (0,) * len(TARGETS)
    """By TARGETS."""

    def moved(self, calls: Counts, to: str) -> "Totals":
        """Return the totals with the calls of a generation; it may end by a transition."""
        target = to if to in TARGETS or not to else TARGETS[-1]
        return self._replace(
            calls=self.calls + calls,
            transitions=tuple(
                number + (name == target)
                for name, number in zip(TARGETS, self.transitions, strict=True)
            ),
        )


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


def decode_totals(row: Sequence[bytes | None]) -> Totals | None:
    """Return the totals of a breaker from its row of ``read_totals.lua``."""
    counted, before, rejected = row
    if not counted:
        return None
    generation, *numbers = counted.split()
    totals = Totals(rejected=int(rejected) if rejected and _NUMBER.fullmatch(rejected) else 0)
    told, *earlier = (before or b"").split() or [b""]
    if told == generation and len(earlier) == _PLACES and all(map(_NUMBER.fullmatch, earlier)):
        calls, failures, slow, *transitions = map(int, earlier)
        counts = Counts(calls=calls, failures=failures, slow=slow)
        totals = totals._replace(calls=counts, transitions=tuple(transitions))
    calls, failures, slow = map(int, numbers)
    return totals.moved(Counts(calls=calls, failures=failures, slow=slow), "")
