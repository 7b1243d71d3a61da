"""What a breaker is at one instant, and what calls came to: plain values, no rules."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a breaker does with calls.

    UNKNOWN: its record cannot be read (another release wrote it, say). Calls pass and nothing is
    due, until a reset writes it anew.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    UNKNOWN = "unknown"


class Control(StrEnum):
    """What an operator makes of a breaker, whatever its state."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An operator's hold on a breaker, until it ends or is released.

    FORCED_OPEN rejects every call, DISABLED lets every call pass and counts none, METRICS_ONLY
    lets every call pass and counts. The state beneath stays as it is.
    """

    control: Control
    until: float | None
    """Store time at which it ends; None: only when it is released."""
    actor: str = ""
    reason: str = ""

    def is_over(self, now: float) -> bool:
        return self.until is not None and now >= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of calls; a slow one that failed is in both ``failures`` and ``slow``."""

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
        """Per cent of the calls; 0 without any."""
        return 100 * self.failures / self.calls if self.calls else 0.0

    def slow_rate(self) -> float:
        """Per cent of the calls; 0 without any."""
        return 100 * self.slow / self.calls if self.calls else 0.0


NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A breaker as the store holds it at one instant.

    ``generation`` is compared for equality only; every transition and reset makes a new one, and
    the counts belong to it.
    """

    generation: str
    state: State = State.CLOSED
    entered_at: float = 0.0
    """Store time at which this generation began."""
    wait: float = 0.0
    """Seconds that this open state lasts."""
    attempts: int = 0
    """Times it has opened without closing in between."""
    permits: int = 0
    """Probe permits granted in this half-open round."""
    consecutive_failures: int = 0
    last_failure_at: float = 0.0
    counts: Counts = NO_COUNTS
    """All calls of this generation."""
    window: Counts = NO_COUNTS
    """Those in the window that was asked for."""
    hold: Hold | None = None
    """What an operator makes of it; also one that is over, until somebody writes its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureNote:
    """How one call failed and in which process; ``error`` is "" where no exception said so."""

    error: str = ""
    message: str = ""
    host: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What calls of one generation have come to, not yet told to the store.

    Within one report the quick successes came first and the failures last. Rejected calls belong
    to no generation: they are counted for operators alone.
    """

    successes: tuple[tuple[int, int], ...] = ()
    """Quick successes: (second of the store's clock, how many), oldest first."""
    newest_success_at: float = 0.0
    slow_successes: int = 0
    failures: int = 0
    slow_failures: int = 0
    rejected: int = 0
    note: FailureNote | None = None
    """Of the last failure."""

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
    """Where a breaker is to go, and the rule that sends it there."""

    new: Snapshot
    cause: str
