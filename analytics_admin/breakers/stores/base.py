"""What the engine asks of a store: a few atomic primitives, each one round trip.

A store decides nothing; every answer carries the whole snapshot and the store's own clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from analytics_admin.breakers.history import Activity, History, TransitionRecord
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import Control, Counts, Results, Snapshot, State
from analytics_admin.breakers.state_machine import control_in_force, label
from analytics_admin.stores.client import StoreUnavailable

__all__ = [
    "MAX_NAMES",
    "BreakerStore",
    "Inspection",
    "Move",
    "MoveOutcome",
    "Reading",
    "Report",
    "StoreUnavailable",
    "Survey",
]

MAX_NAMES = 10_000
"""Names that a site may register: more are made by code that puts data into names."""
WOULD_OPEN = "would_open"
"""Where a breaker under metrics_only is said to go when its rules would open it."""
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
    policy_text: str | None = None
    """The policy, as it is told, under which this process uses the breaker: so its name is kept.

    Not said with each report.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one round trip saw: snapshots by name (None: no record) at ``now`` of the store."""

    now: float
    snapshots: dict[str, Snapshot | None]
    activity: dict[str, Activity] = field(default_factory=dict)
    """Of those whose activity was asked for."""
    transitions: dict[str, list[TransitionRecord]] = field(default_factory=dict)
    """Of those that were looked back at: the last twenty, newest first."""

    def joined(self, later: "Reading") -> "Reading":
        """Return what both saw, at the time of the later one."""
        return Reading(
            now=later.now,
            snapshots=self.snapshots | later.snapshots,
            activity=self.activity | later.activity,
        )


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

    @property
    def from_label(self) -> str:
        return "" if self.expected is None else label(self.expected)

    @property
    def to_label(self) -> str:
        """The state or hold that begins; a permit under metrics_only stands for an opening."""
        begins = self.expected is None or self.expected.generation != self.new.generation
        control_in_force = (
            self.new.hold is not None and self.new.hold.control is Control.METRICS_ONLY
        )
        return WOULD_OPEN if control_in_force and not begins else label(self.new)

    @property
    def ends_quiet(self) -> bool:
        """Say whether the breaker is then closed and not held, as most are."""
        return self.new.state is State.CLOSED and self.new.hold is None

    def applies_to(self, current: Snapshot | None) -> bool:
        """Compare generation and permits granted, and nothing else."""
        return _identity(current) == _identity(self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """Whether a move was made, and what the store holds now."""

    won: bool
    now: float
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The registered names, and by name the label of each breaker that is not simply closed.

    ``reading`` holds those that were asked for, registered or not; all of them where they are few.
    """

    names: frozenset[str]
    non_closed: dict[str, str]
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All that the store holds of one breaker; ``seen_at`` is None for a name it does not know."""

    now: float
    snapshot: Snapshot | None
    seen_at: float | None
    evidence: History
    windows: Mapping[Window, Counts]
    """What is in the window that was asked for, and in those of the policies told."""

    def is_registered(self, keep_for: float | None) -> bool:
        """Say whether the name is in use, or held; a name unused for so long has retired."""
        if (
            self.snapshot is not None
            and control_in_force(self.snapshot, self.now) is not Control.AUTOMATIC
        ):
            return True
        if self.seen_at is None:
            return False
        return keep_for is None or self.seen_at > self.now - keep_for


class BreakerStore(Protocol):
    """Atomic primitives over all breakers of a site.

    Every method raises StoreUnavailable when the store did not answer as it should.
    """

    def add(self, reports: Sequence[Report]) -> Reading:
        """Count the results of each report whose generation is the record's, and read them all."""

    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        """Read the named breakers, without windows, and the activity of some; changes nothing."""

    def read_transitions(self, names: Sequence[str]) -> Reading:
        """Read the named breakers, without windows, and their transitions; changes nothing."""

    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        """Make each move that still applies, in order; the names of new records are registered.

        A snapshot of a new generation starts with zero counts and is stamped with the store's
        time; one of the same generation changes the permits granted and nothing else.
        """

    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        """Register names; return those for which there is no place beside MAX_NAMES others.

        Names that no process has used for ``keep_for`` seconds (None: for ever) make place first,
        with their records, unless an operator holds the breaker.
        """

    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
    ) -> Survey:
        """Return the names in use or held, and the breakers of these names, without windows.

        Where at most ``all_up_to`` names are in use or held, their breakers are read too, and the
        activity of every one that is read unless ``activity_of`` is None.
        """

    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        """Return all that there is to know of one breaker."""

    def transitions(self, name: str) -> list[TransitionRecord]:
        """Return the last twenty transitions, newest first."""

    def forget(self, name: str, *, generation: str) -> bool:
        """Drop a name, its record and what is known of it, and say whether that was done.

        It is not while the record is of another generation ("": there is none).
        """

    def check_writable(self) -> None:
        """Write something that nobody reads, to see whether the store takes it."""


def _identity(snapshot: Snapshot | None) -> tuple[str, int]:
    return ("", 0) if snapshot is None else (snapshot.generation, snapshot.permits)
