"""How the Redis store writes breakers down, and what it makes of what it finds.

What it finds may be damaged: written by another program, by another release, or by hand. A record
that cannot be read is that of a breaker in state UNKNOWN; an unreadable piece of a history is left
out. ``redis_scripts`` describes the keys.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from analytics_admin.breakers.history import (
    MAX_HISTORY_NAME_CHARS,
    Activity,
    FailureRecord,
    Period,
    Tally,
    TransitionRecord,
    oldest_period,
)
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.presence import GONE_SECONDS, Process
from analytics_admin.breakers.state import (
    NO_COUNTS,
    Control,
    Counts,
    Hold,
    Results,
    Snapshot,
    State,
)
from analytics_admin.breakers.state_machine import display_state
from analytics_admin.breakers.stores.base import NAME_PATTERN, Move, Push, Report

T = TypeVar("T")

UNREADABLE = "damaged"
"""Generation of a record that cannot be read, so that a reset can replace it."""
MAX_RECORD_BYTES = 1024
MAX_HOLD_BYTES = 8192
MAX_PROCESS_BYTES = 2048
MAX_ANSWER_MS = 9999
MAX_SEQUENCE_DIGITS = 18
MAX_ROW_BYTES = 4096
"""Size of a failure, a transition or a policy; larger ones are left out."""
MAX_HOLD_CHARS = 1000
QUESTION = "?"
"""In place of a message's number: the processes are asked for their successes."""
MAX_PUBLISHED_BYTES = 1024
"""Size of a message that brings records along; a larger change names the breakers only."""
MAX_MOMENT = 2.5e11
"""Latest time, in the year 9892; a date cannot hold much more."""
MAX_WAIT_SECONDS = 1e10
MAX_SHOWN_CHARS = 100
NO_CONTROL = "-"
NO_NAME = "\\empty"
"""What an empty name is shown as."""

_DAMAGE = (ValueError, TypeError, LookupError, OverflowError, RecursionError)
_NAME = re.compile(NAME_PATTERN.encode())
_NAMES = re.compile(rf"(?:{NAME_PATTERN}\n)*".encode())
_TALLIES = re.compile(rb"(?:\d{1,15} \d{1,15} \d{1,15} \d{1,15} \d{1,15}\n)*")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_STATES = frozenset(State)
_HOLDS = frozenset(Control) - {Control.AUTOMATIC}

# The same as the pattern of record.lua: both must find the same records damaged.
_RECORD = re.compile(
    r"([!-~]{1,100}) ([!-~]+) ([!-~]+) ([!-~]+) (\d{1,15}) (\d{1,15}) (\d{1,15}) "
    r"((?=[!-~]{1,20} )\d+\.?\d*) (\d{1,15}) (\d{1,15}) (\d{1,15}) ([!-~]+) ([\d,]+)",
    re.ASCII,
)


_RESULTS = {
    "slow": "slow_successes",
    **{it: it for it in ("failures", "slow_failures", "ended_failures", "failed_at", "rejected")},
}
"""Names of results beside quick successes, as the scripts have them and as we do."""


def pack(items: Iterable[Any]) -> str:
    """Return a script's argument."""
    return json.dumps(list(items), ensure_ascii=False, separators=(",", ":"))


def encode_report(report: Report, windows: list[Any]) -> list[Any]:
    """Return a report as ``count_results.lua`` reads it, and add its window to those of all."""
    window, results, timed = 0, report.results, False
    if report.window is not None:
        timed = report.window.timed
        encoded = [window_field(report.window), *report.rates]
        if encoded not in windows:
            windows.append(encoded)
        window = windows.index(encoded) + 1
    rest: dict[str, Any] = {
        "used": report.policy_text is not None,
        "policy": report.policy_text,
        "prober": report.prober,
    }
    if not has_results(results):
        told: list[Any] = [window, 0, 0, 0, 0]
    else:
        seconds = [number for batch in results.successes for number in batch] if timed else 0
        quick = sum(number for _, number in results.successes)
        told = [window, report.generation, results.newest_success_at, quick, seconds]
        rest |= {name: getattr(results, ours) for name, ours in _RESULTS.items()}
        if results.all_failures:
            rest["question"] = report.question_at
            rest["notes"] = [
                json.dumps([note.error, note.message, note.host, note.pid], ensure_ascii=False)
                for note in results.notes
            ]
    rest = {name: value for name, value in rest.items() if value}
    return [*told, rest] if rest else told


def has_results(results: Results) -> bool:
    """Return whether there is anything to count."""
    return bool(results.rejected or results.all_successes or results.all_failures)


def encode_move(move: Move) -> dict[str, Any]:
    """Return a move as ``compare_and_set.lua`` reads it, without what is empty."""
    new, hold, expected = move.new, move.new.hold, move.expected
    encoded: dict[str, Any] = {
        "expected_generation": expected.generation if expected else "",
        "expected_permits": expected.permits if expected else 0,
        "generation": new.generation,
        "state": new.state.value,
        "wait": repr(min(float(new.wait), MAX_WAIT_SECONDS)),
        "attempts": new.attempts,
        "permits": new.permits,
        "control": hold.control.value if hold else NO_CONTROL,
        "entry": encode_entry(new),
    }
    if hold:
        encoded["hold"] = json.dumps(
            {
                "until": hold.until,
                "actor": hold.actor[: MAX_HISTORY_NAME_CHARS * 5],
                "reason": hold.reason[:MAX_HOLD_CHARS],
            },
            ensure_ascii=False,
        )
    if move.prober:
        encoded["prober"] = move.prober
    if move.cause:
        encoded["transition"] = f"{move.attempt} {move.from_label} {move.to_label} {move.cause}"
        encoded["actor"] = move.actor[:MAX_HISTORY_NAME_CHARS]
    return encoded


def encode_process(process: Process) -> list[str]:
    """Return a process as ``write_process.lua`` takes it."""
    identity = [process.host, process.pid, process.release, process.policies]
    return [
        process.process_id,
        f"{process.since:.6f}" if process.since else "0",
        str(process.acknowledged),
        str(int(process.gets_pushes)),
        str(min(round(1000 * process.answered_in), MAX_ANSWER_MS)),
        pack(identity),
    ]


def encode_entry(snapshot: Snapshot) -> str:
    """Return the state or hold, and when the hold ends; "" for a breaker that is closed."""
    hold = snapshot.hold
    if hold is None:
        return "" if snapshot.state is State.CLOSED else snapshot.state.value
    return hold.control.value if hold.until is None else f"{hold.control.value} {hold.until}"


def window_field(window: Window) -> str:
    """Return the field of a record's hash that holds the window's sums."""
    return f"{'time' if window.timed else 'count'}:{window.size}"


def decode_name(raw: bytes) -> str:
    """Return the name; one that no breaker can have is escaped, and shortened if it is long."""
    if not raw:
        return NO_NAME
    if _NAME.fullmatch(raw):
        return raw.decode()
    text = "".join(
        chr(byte) if 32 < byte < 127 and byte not in b"\\/" else f"\\x{byte:02x}"
        for byte in raw[: MAX_SHOWN_CHARS + 1]
    )
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()[:9]
    return f"{text[: MAX_SHOWN_CHARS - 12]}...{digest}"


def decode_names(raw_names: Collection[bytes]) -> dict[bytes, str]:
    """Return the names by what is stored; a list has thousands."""
    lines = b"".join([raw + b"\n" for raw in raw_names])
    if _NAMES.fullmatch(lines) and lines.count(b"\n") == len(raw_names):
        return dict(zip(raw_names, lines.decode().split("\n"), strict=False))
    return {raw: decode_name(raw) for raw in raw_names}


def encode_name(name: str) -> str | bytes:
    """Return a name as it is stored, also an escaped one that was not shortened."""
    if name == NO_NAME:
        return b""
    if "\\x" not in name:
        return name
    raw = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return raw if decode_name(raw) == name else name


def decode_snapshot(row: Sequence[Any]) -> Snapshot | None:
    """Return the snapshot of a row: record, hold, and the window's counts if it was read.

    Generation and permits are those that the scripts compare, whatever else is damaged.
    """
    if row[0] is None:
        return None
    found = _RECORD.fullmatch(row[0].decode("latin-1"))  # which takes any byte
    if found is None:
        return Snapshot(generation=UNREADABLE, state=State.UNKNOWN)
    parts = found.groups()
    try:
        return _decode_record(parts, row)
    except _DAMAGE:
        return Snapshot(generation=parts[0], state=State.UNKNOWN, permits=int(parts[5]))


def decode_sequence(value: Any) -> int:
    """Return the number of the last change; 0 if there is none, or none that can be read."""
    return int(value) if value and len(value) < 18 and value.isdigit() else 0


def decode_push(text: bytes) -> Push | None:
    """Return a change as it was published; one that cannot be read is found missing later."""
    try:
        sequence, now, breakers = json.loads(text)
        return Push(
            sequence=0 if sequence == QUESTION else decode_sequence(sequence),
            is_question=sequence == QUESTION,
            now=_moment(now),
            snapshots={name: _decode_pushed(row) for name, *row in breakers},
        )
    except _DAMAGE:
        return None


def _decode_pushed(row: Sequence[Any]) -> Snapshot | None:
    """Return the pushed breaker; None: it is to be read."""
    if not row:
        return None
    record, hold = row
    return decode_snapshot([record.encode(), hold.encode() if hold else None])


def _decode_record(parts: Sequence[str], row: Sequence[Any]) -> Snapshot:
    """Return the snapshot. Operators read thousands at once, so each part is named here."""
    generation, state, entered_at, wait, attempts, permits, run, failed_at, *rest = parts
    calls, failures, slow, control, times = rest
    began = _moment(entered_at)
    success, *failed = _times(times)
    return Snapshot(
        generation=sys.intern(generation),  # read often: one copy is enough
        state=State(state),
        entered_at=began,
        wait=_wait(wait),
        attempts=int(attempts),
        permits=int(permits),
        consecutive_failures=int(run),
        run_times=tuple(began + at / 1e6 for at in failed) if failed else (),
        last_success_at=began + success / 1e6 if success else 0.0,
        last_failure_at=_moment(failed_at),
        counts=Counts(calls=int(calls), failures=int(failures), slow=int(slow)),
        window=Counts(calls=row[2], failures=row[3], slow=row[4]) if len(row) > 2 else NO_COUNTS,
        hold=None if control == NO_CONTROL else _decode_hold(Control(control), row[1]),
    )


def _decode_hold(control: Control, text: bytes | None) -> Hold:
    if text is None:
        raise ValueError("a hold without its details")
    told = json.loads(text.decode())
    return Hold(
        control=control,
        until=None if told["until"] is None else _moment(told["until"]),
        actor=_text(told["actor"]),
        reason=_text(told["reason"]),
    )


def _moment(value: Any) -> float:
    return _between(0.0, value, MAX_MOMENT)


def _wait(value: Any) -> float:
    return _between(0.0, value, MAX_WAIT_SECONDS)


def _between(least: float, value: Any, most: float) -> float:
    number = float(value)
    if not least <= number <= most:  # also for a number that is none
        raise ValueError(value)
    return number or 0.0  # one object for all that are 0


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 10**15:
        raise ValueError(value)
    return number


def _number_of_change(value: str) -> int:
    if not value.isdecimal() or len(value) > MAX_SEQUENCE_DIGITS:
        raise ValueError(value)
    return int(value)


def _text(value: Any) -> str:
    """Return a text that can be encoded again."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value.encode(errors="replace").decode()


def _word(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError(value)
    return value


def _times(value: str) -> list[int]:
    """Return microseconds since the record's beginning: of the newest success, of failures."""
    return [_count(part) for part in value.split(",")]


def readable(rows: Iterable[Any], decode: Callable[[Any], T]) -> Iterator[T]:
    """Yield the rows that can be decoded."""
    for row in rows:
        try:
            yield decode(row)
        except _DAMAGE:
            continue


def decode_transition(row: bytes) -> TransitionRecord:
    attempt, old, new, cause, at, run, calls, failures, slow, actor = row.decode().split(" ", 9)
    return TransitionRecord(
        attempt=_word(attempt),
        from_state=_word(old),
        to_state=_word(new),
        cause=_word(cause),
        at=_moment(at),
        consecutive_failures=_count(run),
        counts=Counts(calls=_count(calls), failures=_count(failures), slow=_count(slow)),
        actor=actor,
    )


def decode_transitions(rows: Sequence[bytes]) -> list[TransitionRecord]:
    """Return a breaker's transitions, or none if one cannot be read: each may be what matters."""
    transitions = list(readable(rows, decode_transition))
    return transitions if len(transitions) == len(rows) else []


def decode_failure(row: bytes) -> FailureRecord:
    at, _, rest = row.decode().partition(" ")
    error, message, host, pid = json.loads(rest)
    return FailureRecord(
        at=_moment(at),
        error=_text(error),
        message=_text(message),
        host=_text(host),
        pid=_count(pid),
    )


def decode_policies(row: Sequence[bytes]) -> dict[str, float]:
    """Return the encoded policies, and when each was last reported."""
    return dict(readable(_pairs(row), lambda pair: (pair[0].decode(), _moment(pair[1]))))


def decode_periods(row: Sequence[bytes], now: float) -> list[Period]:
    """Return the periods of the last five minutes with calls, oldest first."""
    return [
        Period(at=at, calls=Counts(calls=calls, failures=failures, slow=slow), rejected=rejected)
        for at, calls, failures, slow, rejected in _decode_tallies(row, now)
    ]


def decode_activity(row: Sequence[Any], now: float) -> Activity:
    move, periods = row
    last_change = next(readable([move] if move else [], decode_transition), None)
    return Activity(last_change=last_change, tallies=_decode_tallies(periods, now))


def _decode_tallies(row: Sequence[bytes], now: float) -> list[Tally]:
    """Return the tallies of the last five minutes, or none if one cannot be read."""
    lines = b"".join([at + b" " + tally + b"\n" for at, tally in _pairs(row)])
    if not _TALLIES.fullmatch(lines):
        return []
    numbers, oldest = map(int, lines.split()), oldest_period(now)
    tallies = zip(numbers, numbers, numbers, numbers, numbers, strict=True)
    return sorted(tally for tally in tallies if oldest <= tally[0] <= now)


def decode_processes(rows: Sequence[bytes], now: float) -> list[Process]:
    """Return the processes that are present at ``now``."""
    processes = readable(_pairs(rows), _decode_process)
    return [process for process in processes if abs(now - process.seen_at) < GONE_SECONDS]


def _decode_process(pair: tuple[bytes, bytes]) -> Process:
    seen_at, since, acknowledged, gets_pushes, answered_in, identity = (
        pair[1].decode().split(" ", 5)
    )
    host, pid, release, policies = json.loads(identity)
    return Process(
        process_id=_word(pair[0].decode()),
        host=_text(host),
        pid=_count(pid),
        release=_text(release),
        policies=_text(policies),
        since=_moment(since),
        seen_at=_moment(seen_at),
        acknowledged=_number_of_change(acknowledged),
        gets_pushes=gets_pushes == "1",
        answered_in=_count(answered_in) / 1000,
    )


def decode_windows(rows: Sequence[Sequence[Any]]) -> dict[Window, Counts]:
    windows = {}
    for field, calls, failures, slow in rows:
        kind, _, size = field.partition(b":")
        window = Window(timed=kind == b"time", size=int(size))
        windows[window] = Counts(calls=calls, failures=failures, slow=slow)
    return windows


def decode_entry(entry: bytes, now: float) -> tuple[str, bool]:
    """Return the displayed state of a breaker that is not closed, and whether it is held.

    One that is not known here is UNKNOWN.
    """
    label, _, ends = entry[:100].decode(errors="replace").partition(" ")
    try:
        if label in _STATES:
            return label, False
        if label not in _HOLDS:
            raise ValueError(label)
        hold = Hold(control=Control(label), until=_moment(ends) if ends else None)
    except _DAMAGE:
        return State.UNKNOWN.value, False
    return display_state(Snapshot(generation="", hold=hold), now), not hold.is_over(now)


def decode_end(entry: bytes) -> float:
    """Return when the hold of such an entry ends; infinity: never."""
    ends = entry.partition(b" ")[2]
    return _moment(ends) if ends else float("inf")


def _pairs(row: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the fields and values behind HGETALL's flat answer in a script."""
    return zip(row[::2], row[1::2], strict=True)
