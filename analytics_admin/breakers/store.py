"""What the engine asks of a store: a few atomic primitives, each one round trip.

A store decides nothing; every answer carries the whole snapshot and the store's own clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.snapshot import Counts, Results, Snapshot
from analytics_admin.connections import StoreUnavailable

__all__ = [
    "TRANSITIONS_KEPT",
    "BreakerStore",
    "Move",
    "Outcome",
    "Reading",
    "Report",
    "StoreUnavailable",
    "TransitionRecord",
]

TRANSITIONS_KEPT = 20
NO_RESULTS = Results()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of one breaker to be counted, and the window that the caller wants to know.

    Without results it only reads; so does one whose ``generation`` is not the record's.
    """

    name: str
    window: Window | None = None
    generation: str = ""
    results: Results = NO_RESULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one round trip saw: snapshots by name (None: no record) at ``now`` of the store."""

    now: float
    snapshots: dict[str, Snapshot | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change wanted of one breaker, provided it still is at ``expected`` (None: no record).

    With a ``cause`` it is kept among the breaker's transitions, under the caller's ``attempt`` id
    and the name of the operator who made it, if one did.
    """

    name: str
    expected: Snapshot | None
    new: Snapshot
    cause: str = ""
    attempt: str = ""
    actor: str = ""

    def applies_to(self, current: Snapshot | None) -> bool:
        """Compare generation and permits granted, and nothing else."""
        return _identity(current) == _identity(self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a move was made, and what the store holds now."""

    won: bool
    now: float
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRecord:
    """One transition as it was made: when, why, and what had been counted until then."""

    attempt: str
    from_state: str
    to_state: str
    cause: str
    at: float
    consecutive_failures: int
    counts: Counts
    actor: str = ""


class BreakerStore(Protocol):
    """Atomic primitives over all breakers of a site.

    Every method raises StoreUnavailable when the store did not answer as it should.
    """

    def add(self, reports: Sequence[Report]) -> Reading:
        """Count the results of each report whose generation is the record's, and read them all."""

    def load_many(self, names: Sequence[str]) -> Reading:
        """Read the named breakers, without windows; changes nothing."""

    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        """Make each move that still applies, in order; a new record is registered.

        A snapshot of a new generation starts with zero counts and is stamped with the store's
        time; one of the same generation changes the permits granted and nothing else.
        """

    def transitions(self, name: str) -> list[TransitionRecord]:
        """Return the last twenty transitions, newest first."""

    def list_names(self) -> list[str]:
        """Return the registered names, sorted."""

    def check_writable(self) -> None:
        """Write something that nobody reads, to see whether the store takes it."""


def _identity(snapshot: Snapshot | None) -> tuple[str, int]:
    return ("", 0) if snapshot is None else (snapshot.generation, snapshot.permits)
