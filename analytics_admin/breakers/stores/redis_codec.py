"""Encodes arguments for the Redis store's scripts and decodes their answers."""

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
from analytics_admin.breakers.state_machine import display_state
from analytics_admin.breakers.stores.base import Move, Report

_STATES = frozenset(State)
_HOLDS = frozenset(Control) - {Control.AUTOMATIC}


def encode_report(report: Report) -> Iterator[Any]:
    results = report.results
    yield report.name if report.policy_text is not None else ""
    yield report.policy_text or ""
    yield results.rejected
    yield _encode_note(results.note) if results.note else ""
    yield report.generation
    yield from encode_window(report.window)
    yield results.newest_success_at
    yield results.slow_successes
    yield results.failures
    yield results.slow_failures
    yield len(results.successes)
    for batch in results.successes:
        yield from batch


def encode_move(move: Move) -> Iterator[Any]:
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


def decode_snapshot(row: Sequence[Any]) -> Snapshot | None:
    """Return the record's snapshot, in state UNKNOWN if it cannot be read.

    An unreadable record affects its own breaker only.
    """
    if row[0] is None and row[1] is None:
        return None
    try:
        return _decode_record(row)
    except (ValueError, TypeError):
        generation = "" if row[0] is None else bytes(row[0]).decode(errors="replace")
        permits = bytes(row[5] or b"0") if not isinstance(row[5], int) else b"0"
        return Snapshot(
            generation=generation,
            state=State.UNKNOWN,
            permits=int(permits) if permits.isdigit() else 0,
        )


def decode_windows(rows: Sequence[Sequence[Any]]) -> dict[Window, Counts]:
    return {
        Window(timed=kind == b"time", size=size): Counts(calls=calls, failures=failures, slow=slow)
        for kind, size, calls, failures, slow in rows
    }


def encode_window(window: Window | None) -> tuple[str, int]:
    if window is None:
        return "", 0
    return "time" if window.timed else "count", window.size


def _decode_record(row: Sequence[Any]) -> Snapshot:
    window = NO_COUNTS
    if len(row) > 12:
        window = Counts(calls=row[12], failures=row[13], slow=row[14])
    return Snapshot(
        generation=sys.intern(decode_text(row[0])),  # read often: one copy is enough
        state=State(decode_text(row[1])),
        entered_at=float(row[2]),
        wait=float(row[3]),
        attempts=int(row[4]),
        permits=int(row[5]),
        consecutive_failures=int(row[6]),
        last_failure_at=float(row[7]),
        counts=Counts(calls=int(row[8]), failures=int(row[9]), slow=int(row[10])),
        window=window,
        hold=_decode_hold(row[11], *row[15:18]) if row[11] else None,
    )


def _decode_hold(control: bytes, until: bytes, actor: bytes, reason: bytes) -> Hold:
    return Hold(
        control=Control(decode_text(control)),
        until=float(until) if until else None,
        actor=decode_text(actor),
        reason=decode_text(reason),
    )


def decode_transition(row: bytes) -> TransitionRecord:
    attempt, old, new, cause, at, run, calls, failures, slow, actor = decode_text(row).split(" ", 9)
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


def decode_transitions(rows: Sequence[bytes]) -> list[TransitionRecord]:
    """Return a breaker's transitions, or none if one cannot be read."""
    try:
        return [decode_transition(row) for row in rows]
    except ValueError:
        return []


def decode_text(value: bytes) -> str:
    return bytes(value).decode()


def decode_failure(row: bytes) -> FailureRecord:
    at, _, rest = decode_text(row).partition(" ")
    error, message, host, pid = json.loads(rest)
    return FailureRecord(at=float(at), error=error, message=message, host=host, pid=pid)


def decode_periods(history: Sequence[bytes], now: float) -> list[Period]:
    """Return the periods of the last five minutes with calls, oldest first."""
    periods = []
    for at, row in decode_pairs(history).items():
        if oldest_period(now) <= int(at) <= now:
            calls, failures, slow, rejected = map(int, row.split())
            counts = Counts(calls=calls, failures=failures, slow=slow)
            periods.append(Period(at=int(at), calls=counts, rejected=rejected))
    return sorted(periods, key=lambda period: period.at)


def decode_activity(row: Sequence[bytes], now: float) -> Activity:
    """Return a breaker's activity, or none if it cannot be read."""
    move, history = row
    numbers, oldest = map(int, history.split()), oldest_period(now)
    try:
        tallies = zip(*[numbers] * 5, strict=True)
        return Activity(
            last_change=decode_transition(move) if move else None,
            tallies=sorted(tally for tally in tallies if oldest <= tally[0] <= now),
        )
    except ValueError:
        return Activity()


def decode_non_closed(row: Sequence[bytes], now: float) -> dict[str, str]:
    """Return the displayed states by name; one that is not known here is UNKNOWN."""
    states = {}
    for name, entry in decode_pairs(row).items():
        label, _, ends = entry.partition(" ")
        if label in _HOLDS:
            hold = Hold(control=Control(label), until=float(ends) if ends else None)
            states[name] = display_state(Snapshot(generation="", hold=hold), now)
        else:
            states[name] = label if label in _STATES else State.UNKNOWN.value
    return states


def decode_pairs(row: Sequence[bytes]) -> dict[str, str]:
    """Return the hash behind HGETALL's flat answer in a script."""
    return {decode_text(row[at]): decode_text(row[at + 1]) for at in range(0, len(row), 2)}


def _encode_note(note: FailureNote) -> str:
    return json.dumps([note.error, note.message, note.host, note.pid], ensure_ascii=False)
