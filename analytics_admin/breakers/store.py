"""What the engine asks of a store, and the store that lives in one process' memory.

A store decides nothing: it offers atomic primitives, each answering with the whole snapshot and
the store's own clock.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from analytics_admin.breakers.machine import Results, Snapshot, apply_results
from analytics_admin.connections import StoreUnavailable

__all__ = ["BreakerStore", "MemoryStore", "Move", "Outcome", "Reading", "StoreUnavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one round trip saw: snapshots by name (None: no record) at ``now`` of the store."""

    now: float
    snapshots: Mapping[str, Snapshot | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change wanted of one breaker, provided it still is at ``expected`` (None: no record)."""

    name: str
    expected: Snapshot | None
    new: Snapshot

    def applies_to(self, current: Snapshot | None) -> bool:
        """Compare generation and permits granted, and nothing else."""
        return _identity(current) == _identity(self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a move was made, and what the store holds now."""

    won: bool
    now: float
    snapshot: Snapshot | None


class BreakerStore(Protocol):
    """Atomic primitives over all breakers of a site.

    Every method raises StoreUnavailable when the store did not answer as it should.
    """

    def load_many(self, names: Sequence[str]) -> Reading:
        """Read the named breakers; changes nothing."""

    def add(self, name: str, generation: str, results: Results) -> Reading:
        """Count results, unless the record is missing or of another generation."""

    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        """Make each move that still applies, in order; a new record is registered.

        A snapshot of a new generation starts with zero counts and is stamped with the store's
        time; one of the same generation changes the permits granted and nothing else.
        """

    def list_names(self) -> list[str]:
        """Return the registered names, sorted."""


class MemoryStore:
    """The protocol within one process; exact under threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[str, Snapshot] = {}

    def load_many(self, names: Sequence[str]) -> Reading:
        with self._lock:
            return self._read(names)

    def add(self, name: str, generation: str, results: Results) -> Reading:
        with self._lock:
            current = self._records.get(name)
            if current is not None and current.generation == generation:
                self._records[name] = apply_results(current, results, self._clock())
            return self._read([name])

    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        with self._lock:
            return [self._move(move) for move in moves]

    def list_names(self) -> list[str]:
        with self._lock:
            return sorted(self._records)

    def _read(self, names: Iterable[str]) -> Reading:
        return Reading(
            now=self._clock(), snapshots={name: self._records.get(name) for name in names}
        )

    def _move(self, move: Move) -> Outcome:
        current, now = self._records.get(move.name), self._clock()
        if not move.applies_to(current):
            return Outcome(won=False, now=now, snapshot=current)
        if current is not None and current.generation == move.new.generation:
            new = replace(current, permits=move.new.permits)
        else:
            new = replace(move.new, entered_at=now)
        self._records[move.name] = new
        return Outcome(won=True, now=now, snapshot=new)


def _identity(snapshot: Snapshot | None) -> tuple[str, int]:
    return ("", 0) if snapshot is None else (snapshot.generation, snapshot.permits)
