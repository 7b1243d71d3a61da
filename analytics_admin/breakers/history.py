"""What is kept of a breaker for its operators: last failures, transitions, calls of five minutes.

Plain values, bounded to about 20 KB a breaker. They lie apart from the record, which a call reads.
"""

import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from analytics_admin.breakers.state import NO_COUNTS, Counts, FailureNote, Results

MAX_TRANSITIONS = 20
MAX_FAILURES = 10
PERIOD_SECONDS = 10
"""Seconds of the store's clock whose calls are counted together."""
MAX_PERIODS = 30
MAX_POLICIES = 3
RETENTION_SECONDS = 7 * 86_400
"""Seconds after its last one that a breaker's failures, or its transitions, are dropped."""
MAX_MESSAGE_CHARS = 200
MAX_MESSAGE_BYTES = 4 * MAX_MESSAGE_CHARS + 2
"""Bytes of a message as it is stored."""
MAX_NAME_CHARS = 60
"""Characters of a class, a host, or an operator that are kept."""
UNPRINTABLE = "(its text cannot be had)"

_host = socket.gethostname()[:MAX_NAME_CHARS]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord(FailureNote):
    """A failure as the store keeps it; ``at`` in seconds of its clock."""

    at: float


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The calls of PERIOD_SECONDS seconds from ``at`` on, and how many were rejected besides."""

    at: int
    calls: Counts = NO_COUNTS
    rejected: int = 0


Tally = tuple[int, int, int, int, int]
"""Of one period: the second at which it begins, calls, failures, slow calls, rejected calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a list tells of one breaker: many are read at once, so it is cheap to read."""

    last_change: TransitionRecord | None = None
    tallies: Sequence[Tally] = ()
    """The periods in which there were calls, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is kept of one breaker: failures and transitions newest first, periods oldest first.

    A period without calls is left out.
    """

    failures: list[FailureRecord] = field(default_factory=list)
    transitions: list[TransitionRecord] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    policies: dict[str, float] = field(default_factory=dict)
    """The last few that processes told, and when that was last."""


@dataclass(slots=True)
class HistoryBuffer:
    """The evidence of one breaker, as a store in memory keeps it."""

    failures: deque[FailureRecord] = field(default_factory=lambda: deque(maxlen=MAX_FAILURES))
    transitions: deque[TransitionRecord] = field(
        default_factory=lambda: deque(maxlen=MAX_TRANSITIONS)
    )
    periods: deque[Period] = field(default_factory=lambda: deque(maxlen=MAX_PERIODS))
    policies: dict[str, float] = field(default_factory=dict)

    def add(self, results: Results, now: float, *, counted: bool) -> None:
        """Keep what the results tell; those that are not counted tell of rejected calls alone."""
        note = results.note
        if counted and note is not None and results.all_failures:
            self.failures.appendleft(
                FailureRecord(
                    at=now, error=note.error, message=note.message, host=note.host, pid=note.pid
                )
            )
        if counted or results.rejected:
            self._tally(results.counts if counted else NO_COUNTS, results.rejected, now)

    def add_policy(self, policy: str, now: float) -> None:
        """Keep that a process uses the breaker under this policy."""
        self.policies[policy] = now
        if len(self.policies) > MAX_POLICIES:
            del self.policies[min(self.policies, key=self.policies.__getitem__)]

    def evidence(self, now: float) -> History:
        return History(
            failures=list(self.failures),
            transitions=list(self.transitions),
            periods=self._periods(now),
            policies=dict(self.policies),
        )

    def activity(self, now: float) -> Activity:
        return Activity(
            last_change=self.transitions[0] if self.transitions else None,
            tallies=[
                (it.at, it.calls.calls, it.calls.failures, it.calls.slow, it.rejected)
                for it in self._periods(now)
            ],
        )

    def _periods(self, now: float) -> list[Period]:
        oldest = oldest_period(now)
        return [period for period in self.periods if oldest <= period.at <= now]

    def _tally(self, calls: Counts, rejected: int, now: float) -> None:
        at = int(now) // PERIOD_SECONDS * PERIOD_SECONDS
        last = self.periods.pop() if self.periods and self.periods[-1].at == at else Period(at=at)
        self.periods.append(
            Period(at=at, calls=last.calls + calls, rejected=last.rejected + rejected)
        )


def note_failure(error: BaseException | None, *, with_text: bool) -> FailureNote:
    """Return the note of a call of this process that failed now, cut to what is kept."""
    if error is None:
        return FailureNote(host=_host, pid=os.getpid())
    return FailureNote(
        error=_class_of(error),
        message=_text_of(error) if with_text else "",
        host=_host,
        pid=os.getpid(),
    )


def oldest_period(now: float) -> int:
    """Return the start of the oldest period that is kept."""
    return (int(now) // PERIOD_SECONDS - MAX_PERIODS + 1) * PERIOD_SECONDS


def _class_of(error: BaseException) -> str:
    cls = type(error)
    home = getattr(cls, "__module__", "builtins")  # code that runs in no module makes such classes
    module = "" if home == "builtins" else f"{home}."
    return f"{module}{cls.__qualname__}"[-MAX_NAME_CHARS:]


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)[:MAX_MESSAGE_CHARS]
    # The failed call's own code; whatever it raises must not take the place of the call's error.
    except Exception:
        return UNPRINTABLE
    text = text.encode(errors="replace").decode()
    return text if text.isprintable() else _cut(text)


def _cut(text: str) -> str:
    """Cut what takes more room than other texts: a control character is written as six."""
    while len(json.dumps(text, ensure_ascii=False).encode()) > MAX_MESSAGE_BYTES:
        text = text[:-10]
    return text
