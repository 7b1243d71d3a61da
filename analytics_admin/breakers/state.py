"""A breaker at one instant, and the results of calls: plain values without rules."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a breaker, which decides what happens to calls.

    UNKNOWN: the record cannot be read, for example because another release wrote it. Calls pass,
    and the breaker makes no transition until a reset rewrites the record.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    UNKNOWN = "unknown"


class Control(StrEnum):
    """What an operator has set, whatever the state."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An operator's hold on a breaker, until it expires or is released.

    FORCED_OPEN rejects every call. DISABLED lets every call pass and counts none. METRICS_ONLY
    lets every call pass and counts them. The state beneath does not change.
    """

    control: Control
    until: float | None
    """Store time at which it expires; None: it lasts until released."""
    actor: str = ""
    reason: str = ""

    def is_over(self, now: float) -> bool:
        return self.until is not None and now >= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of calls. A slow call that failed is in both ``failures`` and ``slow``."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            calls=self.calls + other.calls,
            failures=self.failures + other.failures,
            slow=self.slow + other.slow,
        )

    def failure_rate(self) -> float:
        """Return the percentage of calls; 0 without calls."""
        return 100 * self.failures / self.calls if self.calls else 0.0

    def slow_rate(self) -> float:
        """Return the percentage of calls; 0 without calls."""
        return 100 * self.slow / self.calls if self.calls else 0.0


NO_COUNTS = Counts()


RUN_TIMES = 20
"""Times kept of the failures of a run: of a longer one, half of them of its first failures, which
say since when it is that long, and half of its last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A breaker as the store holds it at one instant.

    Each transition and each reset begins a new ``generation`` with new counts. Of two generations
    ``is_earlier`` says which came first.
    """

    generation: str
    state: State = State.CLOSED
    entered_at: float = 0.0
    """Store time at which this generation began."""
    wait: float = 0.0
    """Seconds for which it stays open."""
    attempts: int = 0
    """Number of openings since it was last closed."""
    permits: int = 0
    """Probe permits granted in this half-open round."""
    consecutive_failures: int = 0
    run_times: tuple[float, ...] = ()
    """Store times of RUN_TIMES of the consecutive failures at most, oldest first."""
    last_success_at: float = 0.0
    """Store time of the newest success that ended a run or forbade one to begin."""
    last_failure_at: float = 0.0
    counts: Counts = NO_COUNTS
    """All calls of this generation."""
    window: Counts = NO_COUNTS
    """Calls in the window that was requested."""
    hold: Hold | None = None
    """The operator's hold. An expired one stays until a process records its end."""

    @property
    def is_plain(self) -> bool:
        """Whether it is closed and not held, as most are."""
        return self.state is State.CLOSED and self.hold is None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureNote:
    """How one call failed and in which process; ``error`` is "" without an exception."""

    error: str = ""
    message: str = ""
    host: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Results of calls of one generation that the store does not have yet.

    Rejected calls belong to no generation and are counted for operators only. Times are the
    store's, as the process reckons them.
    """

    successes: tuple[tuple[int, int], ...] = ()
    """Quick successes as (second of the store's clock, number), oldest first."""
    newest_success_at: float = 0.0
    slow_successes: int = 0
    failures: int = 0
    slow_failures: int = 0
    ended_failures: int = 0
    """How many of the failures the newest success came after: they are part of no run."""
    failed_at: tuple[float, ...] = ()
    """Times of the last failures, RUN_TIMES at most, oldest first."""
    rejected: int = 0
    notes: tuple[FailureNote, ...] = ()
    """Of the last failures, oldest first."""

    @property
    def all_successes(self) -> int:
        return self.slow_successes + sum(number for _, number in self.successes)

    @property
    def all_failures(self) -> int:
        return self.failures + self.slow_failures

    @property
    def counts(self) -> Counts:
        return Counts(
            calls=self.all_successes + self.all_failures,
            failures=self.all_failures,
            slow=self.slow_successes + self.slow_failures,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The next snapshot of a breaker, the one that it follows, and the rule that requires it.

    It can be made while the breaker is still as in ``old``: another thread may learn of a newer
    snapshot as soon as this one is decided.
    """

    old: Snapshot
    new: Snapshot
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A transition that this process made."""

    name: str
    from_state: str
    to_state: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChange:
    """The store was lost for this reason, or is back (None)."""

    reason: str | None
