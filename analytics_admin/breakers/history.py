"""The history of a breaker: last failures, transitions, policies and calls of five minutes.

At most about 20 KB per breaker, stored apart from the record that calls read.
"""

import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from analytics_admin.breakers.predicates import dotted_name
from analytics_admin.breakers.state import NO_COUNTS, Counts, FailureNote, Results

MAX_TRANSITIONS = 20
MAX_FAILURES = 10
PERIOD_SECONDS = 10
"""Length of a period; its calls are counted together."""
MAX_PERIODS = 30
MAX_POLICIES = 3
RETENTION_SECONDS = 7 * 86_400
"""Time for which failures, or transitions, are kept after the last one."""
MAX_FAILURE_TEXT_CHARS = 200
MAX_FAILURE_TEXT_BYTES = 4 * MAX_FAILURE_TEXT_CHARS + 2
"""Size of a failure's message as it is stored."""
MAX_HISTORY_NAME_CHARS = 60
"""Characters stored of the name of a class, a host or an operator."""
UNPRINTABLE = "(message not available)"

_host = socket.gethostname()[:MAX_HISTORY_NAME_CHARS]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord(FailureNote):
    """A stored failure; ``at`` in seconds of the store's clock."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRecord:
    """One transition: when, why, and the counts before it."""

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
    """The calls of PERIOD_SECONDS from ``at`` on, and the number of rejected ones besides."""

    at: int
    calls: Counts = NO_COUNTS
    rejected: int = 0


Tally = tuple[int, int, int, int, int]
"""One period: the second at which it begins, calls, failures, slow calls, rejected calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The part of the history that a list shows; cheap, since many are read at once."""

    last_change: TransitionRecord | None = None
    tallies: Sequence[Tally] = ()
    """The periods with calls, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is kept of one breaker: failures and transitions newest first, periods oldest first.

    Periods without calls are left out.
    """

    failures: list[FailureRecord] = field(default_factory=list)
    transitions: list[TransitionRecord] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    policies: dict[str, float] = field(default_factory=dict)
    """The last encoded policies, and when a process last reported each."""


@dataclass(slots=True)
class HistoryBuffer:
    """The history of one breaker in memory."""

    failures: deque[FailureRecord] = field(default_factory=lambda: deque(maxlen=MAX_FAILURES))
    transitions: deque[TransitionRecord] = field(
        default_factory=lambda: deque(maxlen=MAX_TRANSITIONS)
    )
    periods: deque[Period] = field(default_factory=lambda: deque(maxlen=MAX_PERIODS))
    policies: dict[str, float] = field(default_factory=dict)

    def add(self, results: Results, now: float, *, counted: bool) -> None:
        """Add results; of those not counted, only the rejected calls."""
        if counted and results.all_failures:
            self.failures.extendleft(
                FailureRecord(
                    at=now, error=note.error, message=note.message, host=note.host, pid=note.pid
                )
                for note in results.notes
            )
        if counted or results.rejected:
            self._tally(results.counts if counted else NO_COUNTS, results.rejected, now)

    def add_policy(self, policy: str, now: float) -> None:
        """Note that a process uses the breaker under this policy."""
        self.policies[policy] = now
        if len(self.policies) > MAX_POLICIES:
            del self.policies[min(self.policies, key=self.policies.__getitem__)]

    def history(self, now: float) -> History:
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
                (
                    period.at,
                    period.calls.calls,
                    period.calls.failures,
                    period.calls.slow,
                    period.rejected,
                )
                for period in self._periods(now)
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


TakenNote = tuple[type[BaseException] | None, str]
"""What is noted of a failed call at once: its exception's class and the beginning of its text."""


def take_note(error: BaseException | None, *, with_text: bool) -> TakenNote:
    """Return what is to be kept of a call that has just failed, with this exception if any.

    It holds no exception, and so no traceback and no frame. ``encode_note`` does the rest.
    """
    if error is None:
        return None, ""
    if not with_text:
        return type(error), ""
    # The exception's own code runs here; what it raises must not replace the call's error.
    try:
        text = str(error)[:MAX_FAILURE_TEXT_CHARS]
        if type(text) is not str:
            text = str.encode(text, errors="replace").decode()
        return type(error), text
    except Exception:
        return type(error), UNPRINTABLE


def encode_note(taken: TakenNote) -> FailureNote:
    """Return the note of a call that failed in this process, cut to the stored lengths."""
    cls, text = taken
    try:
        error = "" if cls is None else _class_name(cls)
    except Exception:  # the class' own code
        error = ""
    return FailureNote(error=error, message=_message(text), host=_host, pid=os.getpid())


def oldest_period(now: float) -> int:
    """Return the start of the oldest period kept."""
    return (int(now) // PERIOD_SECONDS - MAX_PERIODS + 1) * PERIOD_SECONDS


def _class_name(cls: type[BaseException]) -> str:
    return dotted_name(cls).removeprefix("builtins.")[-MAX_HISTORY_NAME_CHARS:]


def _message(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if text.isprintable() else _cut(text)


def _cut(text: str) -> str:
    """Shorten a text with control characters, each of which is stored as six characters."""
    while len(json.dumps(text, ensure_ascii=False).encode()) > MAX_FAILURE_TEXT_BYTES:
        text = text[:-10]
    return text
