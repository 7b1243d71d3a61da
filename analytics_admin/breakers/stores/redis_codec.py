"""What the Redis store's scripts are told and answer, to and from the engine's values.

Knows the order of their arguments and rows, and no connection.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from analytics_admin.breakers.history import (
    MAX_NAME_CHARS,
    Activity,
    FailureRecord,
    Period,
    TransitionRecord,
    oldest_period,
)
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import (
    NO_COUNTS,
    Control,
    Counts,
    FailureNote,
    Hold,
    Snapshot,
    State,
)
from analytics_admin.breakers.stores.base import Move, Report


def of_report(report: Report) -> Iterator[Any]:
    results = report.results
    yield report.name if report.policy_text is not None else ""
    yield report.policy_text or ""
    yield results.rejected
    yield _written(results.note) if results.note else ""
    yield report.generation
    yield from of_window(report.window)
    yield results.newest_success_at
    yield results.slow_successes
    yield results.failures
    yield results.slow_failures
    yield len(results.successes)
    for batch in results.successes:
        yield from batch


def of_move(move: Move) -> Iterator[Any]:
    yield move.expected.generation if move.expected else ""
    yield move.expected.permits if move.expected else 0
    yield move.new.generation
    yield move.new.state.value
    yield move.new.wait
    yield move.new.attempts
    yield move.new.permits
    yield move.cause
    yield move.attempt
    yield move.actor[:MAX_NAME_CHARS]
    hold = move.new.hold
    yield hold.control.value if hold else ""
    yield "" if hold is None or hold.until is None else hold.until
    yield hold.actor if hold else ""
    yield hold.reason if hold else ""
    yield move.name
    is_quiet = move.ends_quiet
    yield move.from_label if move.cause else ""
    yield move.to_label if move.cause or not is_quiet else ""
    yield int(is_quiet)


def snapshot(row: Sequence[Any]) -> Snapshot | None:
    """Return the record's snapshot; one that cannot be read is in the state UNKNOWN.

    A record that is not understood concerns its own breaker, and never the others.
    """
    if row[0] is None and row[1] is None:
        return None
    try:
        return _readable(row)
    except (ValueError, TypeError):
        generation = "" if row[0] is None else bytes(row[0]).decode(errors="replace")
        permits = bytes(row[5] or b"0") if not isinstance(row[5], int) else b"0"
        return Snapshot(
            generation=generation,
            state=State.UNKNOWN,
            permits=int(permits) if permits.isdigit() else 0,
        )


def windows(found: Sequence[Sequence[Any]]) -> dict[Window, Counts]:
    return {
        Window(timed=kind == b"time", size=size): Counts(calls=calls, failures=failures, slow=slow)
        for kind, size, calls, failures, slow in found
    }


def of_window(window: Window | None) -> tuple[str, int]:
    if window is None:
        return "", 0
    return "time" if window.timed else "count", window.size


def _readable(row: Sequence[Any]) -> Snapshot:
    window = NO_COUNTS
    if len(row) > 12:
        window = Counts(calls=row[12], failures=row[13], slow=row[14])
    return Snapshot(
        generation=sys.intern(text(row[0])),  # read again and again: one copy will do
        state=State(text(row[1])),
        entered_at=float(row[2]),
        wait=float(row[3]),
        attempts=int(row[4]),
        permits=int(row[5]),
        consecutive_failures=int(row[6]),
        last_failure_at=float(row[7]),
        counts=Counts(calls=int(row[8]), failures=int(row[9]), slow=int(row[10])),
        window=window,
        hold=_hold(row[11], *row[15:18]) if row[11] else None,
    )


def _hold(control: bytes, until: bytes, actor: bytes, reason: bytes) -> Hold:
    return Hold(
        control=Control(text(control)),
        until=float(until) if until else None,
        actor=text(actor),
        reason=text(reason),
    )


def transition(row: bytes) -> TransitionRecord:
    attempt, old, new, cause, at, run, calls, failures, slow, actor = text(row).split(" ", 9)
    return TransitionRecord(
        attempt=attempt,
        from_state=old,
        to_state=new,
        cause=cause,
        at=float(at),
        consecutive_failures=int(run),
        counts=Counts(calls=int(calls), failures=int(failures), slow=int(slow)),
        actor=actor,
    )


def transitions(found: Sequence[bytes]) -> list[TransitionRecord]:
    """Return a breaker's transitions; where one cannot be read, none is known."""
    try:
        return [transition(row) for row in found]
    except ValueError:
        return []


def text(value: bytes) -> str:
    return bytes(value).decode()


def failure(row: bytes) -> FailureRecord:
    at, _, rest = text(row).partition(" ")
    error, message, host, pid = json.loads(rest)
    return FailureRecord(at=float(at), error=error, message=message, host=host, pid=pid)


def periods(history: Sequence[bytes], now: float) -> list[Period]:
    """Return the periods of the last five minutes in which there were calls, oldest first."""
    found = []
    for at, row in pairs(history).items():
        if oldest_period(now) <= int(at) <= now:
            calls, failures, slow, rejected = map(int, row.split())
            counts = Counts(calls=calls, failures=failures, slow=slow)
            found.append(Period(at=int(at), calls=counts, rejected=rejected))
    return sorted(found, key=lambda period: period.at)


def activity(row: Sequence[bytes], now: float) -> Activity:
    """Return a breaker's activity; of one that cannot be read nothing is known."""
    move, history = row
    numbers, oldest = map(int, history.split()), oldest_period(now)
    try:
        tallies = zip(*[numbers] * 5, strict=True)
        return Activity(
            last_change=transition(move) if move else None,
            tallies=sorted(tally for tally in tallies if oldest <= tally[0] <= now),
        )
    except ValueError:
        return Activity()


def pairs(row: Sequence[bytes]) -> dict[str, str]:
    """Return what HGETALL answers inside a script."""
    return {text(row[at]): text(row[at + 1]) for at in range(0, len(row), 2)}


def _written(note: FailureNote) -> str:
    return json.dumps([note.error, note.message, note.host, note.pid], ensure_ascii=False)
