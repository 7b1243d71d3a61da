"""The breakers' store: a few atomic operations, each one round trip.

A store counts and compares; it decides nothing. Every answer carries whole snapshots and the
store's time.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from analytics_admin.breakers.history import Activity, History, TransitionRecord
from analytics_admin.breakers.policy import NO_RATES, Rates, Window
from analytics_admin.breakers.presence import PresenceStore, Process
from analytics_admin.breakers.state import Control, Counts, Results, Snapshot
from analytics_admin.breakers.state_machine import Move, control_in_force
from analytics_admin.breakers.stores.totals import TotalsReading
from analytics_admin.stores.client import RequestRefused, StoreUnavailable
from analytics_admin.stores.copies import Copies

__all__ = [
    "MAX_NAMES",
    "NAME_PATTERN",
    "BreakerStore",
    "Channel",
    "DamagedList",
    "Inspection",
    "Move",
    "MoveOutcome",
    "Process",
    "Push",
    "Reading",
    "Report",
    "RequestRefused",
    "StoreUnavailable",
    "Survey",
]

MAX_NAMES = 10_000
"""Names that a site may register. Code that puts data into names makes more."""
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"
NO_RESULTS = Results()


class DamagedList(StoreUnavailable):
    """What lists the breakers of a site is not readable; a reset of all breakers replaces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of one breaker to count, and the window to return.

    Without results it only reads; likewise when ``generation`` is not the record's.
    """

    name: str
    window: Window | None = None
    generation: str = ""
    results: Results = NO_RESULTS
    question_at: int | None = None
    """Ask all processes for their successes once the run is as long as this."""
    rates: Rates = NO_RATES
    """Ask them, too, once a rate of the window comes close to this, and once it reaches it."""
    policy_text: str | None = None
    """The encoded policy of this process, which also marks the name as used; None: neither."""
    prober: str = ""
    """The id of this process where the breaker may be half-open. Results are of permits that it
    holds; those that processes hold which are gone are forgiven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The result of one round trip: snapshots by name (None: no record) at store time ``now``."""

    now: float
    snapshots: dict[str, Snapshot | None]
    activity: dict[str, Activity] = field(default_factory=dict)
    """By name, where it was requested."""
    transitions: dict[str, list[TransitionRecord]] = field(default_factory=dict)
    """By name, where they were requested: the last twenty, newest first."""
    sequence: int = 0
    """The number of the last change in the store, where it was read."""
    is_question_heard: bool = False
    """Whether all processes were asked for their successes, and hear it."""
    is_alone: bool = False
    """Whether there was a question, and no other process to answer it."""
    slowest_answer: float = 0.0
    """In how many seconds the process that is farthest from the store is answered."""

    def joined(self, later: "Reading") -> "Reading":
        """Return both readings, at the time of the later one."""
        return replace(
            later,
            snapshots=self.snapshots | later.snapshots,
            activity=self.activity | later.activity,
            transitions=self.transitions | later.transitions,
            sequence=min(self.sequence, later.sequence),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """Whether a move was made, and what the store holds now."""

    won: bool
    now: float
    snapshot: Snapshot | None
    sequence: int
    """The number of the last change in the store: of this one, or a later one, if it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The registered names, and the displayed state by name of those that are not simply closed.

    ``reading`` holds the breakers that were requested, registered or not; all of them if few.
    """

    names: frozenset[str]
    not_closed: dict[str, str]
    reading: Reading
    processes: Sequence[Process] = ()
    """Those that are present, where they were requested; ``reading`` has the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All that the store holds of one breaker; ``seen_at`` is None for an unknown name."""

    now: float
    snapshot: Snapshot | None
    seen_at: float | None
    history: History
    windows: Mapping[Window, Counts]
    """The counts of the requested window and of the stored policies' windows."""

    def is_registered(self, keep_for: float | None) -> bool:
        """Return whether the name was used in the last ``keep_for`` seconds, or is held."""
        return is_in_use(self.snapshot, self.seen_at, now=self.now, keep_for=keep_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a store has told all processes: some breakers have changed.

    A question asks for their successes of these breakers.
    """

    sequence: int
    """The number of the change; a question has none."""
    now: float = 0.0
    snapshots: Mapping[str, Snapshot | None] = field(default_factory=dict)
    """By name; None: to be read."""
    is_gap: bool = False
    """Whether changes before it may have been missed, so that every breaker is to be read."""
    is_question: bool = False


class Channel(Protocol):
    """A connection on which a store tells of changes.

    ``open``, ``request_proof`` and ``receive`` raise StoreUnavailable once it is of no
    use any more.
    """

    def open(self) -> int:
        """Begin to hear; return the number of the last change before."""

    def request_proof(self) -> None:
        """Ask for the number of the last change; ``receive`` returns it after all earlier ones."""

    def receive(self, timeout: float) -> Push | int | None:
        """Return what comes next, or None if nothing comes in that many seconds."""

    def interrupt(self) -> None:
        """Have the thread that receives find the channel closed. Never waits."""

    def close(self) -> None:
        """Hear nothing more."""


class BreakerStore(PresenceStore, Protocol):
    """Atomic operations on all breakers of a site.

    Every method raises StoreUnavailable when the store does not answer as it should, but for the
    last two, which never wait.
    """

    is_shared: bool
    """Whether this is the fleet's store, not one with which a process goes on alone."""
    asks_processes: bool
    """Whether ``add`` asks all processes for successes that may keep a breaker closed."""
    connecting_since: float | None
    """Since when it looks for its server (monotonic seconds): a look-up may never end."""

    def add(self, reports: Sequence[Report]) -> Reading:
        """Count the results of each report whose generation is the record's, and read all."""

    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        """Read the named breakers, without windows, and the activity of some. Changes nothing."""

    def read_transitions(self, names: Sequence[str]) -> Reading:
        """Read the named breakers, without windows, and their transitions. Changes nothing."""

    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        """Make each move that still applies, in order; register the names of new records.

        A new generation starts with zero counts at the store's time. A move within a generation
        changes only the permits granted.
        """

    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        """Register names; return those beyond MAX_NAMES, which are not registered.

        First drops the names, with their records, that no process has used for ``keep_for`` seconds
        (None: never), unless an operator holds the breaker.
        """

    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
        with_processes: bool = False,
    ) -> Survey:
        """Return the names in use or held, and the breakers of ``names``, without windows.

        If at most ``all_up_to`` names are in use or held, reads their breakers too, and the
        activity of every breaker read unless ``activity_of`` is None. Names that no breaker can
        have are escaped.

        Raises:
            DamagedList
        """

    def read_totals(
        self,
        names: Iterable[str],
        *,
        keep_for: float | None,
        most: int,
        beside: Sequence[Sequence[Any]] = (),
    ) -> TotalsReading:
        """Return the totals of the names in use or held, of at most so many.

        ``names`` are some of them that are known here, ``beside`` commands for the same round trip.

        Raises:
            DamagedList
        """

    def not_closed(self) -> set[str]:
        """Return the names of the breakers that are not simply closed.

        Raises:
            DamagedList
        """

    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        """Return everything about one breaker."""

    def transitions(self, name: str) -> list[TransitionRecord]:
        """Return the last twenty transitions, newest first."""

    def forget(self, name: str, *, generation: str) -> bool:
        """Drop a name with its record and history; return whether that was done.

        It is not done if the record is of another generation ("": no record).
        """

    def repair(self) -> None:
        """Replace what lists the breakers, where it raises DamagedList, by what can be found."""

    def channel(self) -> Channel | None:
        """Return a connection on which to hear of changes, not yet open; None: there is none."""

    def connect(self) -> None:
        """Make sure that there is a connection, before there is anything to lose."""

    def renew(self) -> None:
        """Close the connections, so that the next request looks for the server."""

    def check_writable(self) -> None:
        """Write a key that is never read, to check that the store accepts writes."""

    def await_copies(self) -> Copies | None:
        """Wait a moment until all copies have what the store holds now; None: it has none.

        Raises nothing.
        """

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Limit the time that all requests in the block take together."""

    def ping(self) -> bool | None:
        """Return whether a lost store has answered a PING; None: not yet, ask again."""


def is_in_use(
    snapshot: Snapshot | None, seen_at: float | None, *, now: float, keep_for: float | None
) -> bool:
    """Return whether a name was used in the last ``keep_for`` seconds, or is held."""
    if snapshot is not None and control_in_force(snapshot, now) is not Control.AUTOMATIC:
        return True
    return seen_at is not None and (keep_for is None or seen_at > now - keep_for)
