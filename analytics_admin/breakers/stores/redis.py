"""The breakers' store on the Redis server behind a cache alias, shared by the whole fleet.

Each operation is one round trip per batch. The functions below the store encode its scripts'
arguments and decode their answers.
"""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError

from analytics_admin.breakers.history import (
    MAX_NAME_CHARS,
    Activity,
    FailureRecord,
    History,
    Period,
    TransitionRecord,
    oldest_period,
)
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import NO_COUNTS, Control, Counts, Hold, Snapshot, State
from analytics_admin.breakers.state_machine import display_state
from analytics_admin.breakers.stores import redis_scripts as scripts
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    Inspection,
    Move,
    MoveOutcome,
    Reading,
    Report,
    Survey,
)
from analytics_admin.stores.client import dedicated_client, script_hash, translate_errors

T = TypeVar("T")

BATCH = 500
"""Breakers per script call, so that one call takes the server under about 5 ms."""
SAMPLE_NAME = ("Aa0._:-" * 15)[:100]
"""A name with every kind of character, to learn the form of the keys."""
Call = tuple[str, Sequence[str], Sequence[Any]]
"""A script, its keys, its arguments."""

_STATES = frozenset(State)
_HOLDS = frozenset(Control) - {Control.AUTOMATIC}


class RedisStore:
    """The BreakerStore protocol on the server of ``CACHES[alias]``."""

    def __init__(self, alias: str, *, timeout: float = 0.1) -> None:
        self._client = dedicated_client(alias, timeout=timeout)
        self._cache = caches[alias]
        self._index = str(self._cache.make_key("breakers"))
        self._non_closed = f"{self._index}:astir"

    @translate_errors
    def add(self, reports: Sequence[Report]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        for batch in _batched(reports, BATCH):
            now, *rows = self._run(*self._adding(batch))
            reading = replace(reading, now=float(now))
            for report, row in zip(batch, rows, strict=True):
                reading.snapshots[report.name] = _decode_snapshot(row)
        return reading

    @translate_errors
    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        now, rows = self._read(scripts.LOAD_MANY, _unique(activity_of, names), len(activity_of))
        reading = Reading(now=now, snapshots={})
        for name, row in rows:
            _add_row(reading, name, *row)
        return reading

    @translate_errors
    def read_transitions(self, names: Sequence[str]) -> Reading:
        now, rows = self._read(scripts.READ_TRANSITIONS, names)
        reading = Reading(now=now, snapshots={})
        for name, (row, moves) in rows:
            reading.snapshots[name] = _decode_snapshot(row)
            reading.transitions[name] = _decode_transitions(moves)
        return reading

    @translate_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        outcomes: list[MoveOutcome] = []
        for batch in _batched(moves, BATCH):
            keys = [*(self._key(move.name) for move in batch), self._index, self._non_closed]
            arguments = [part for move in batch for part in _encode_move(move)]
            answer = self._run(scripts.COMPARE_AND_SET, keys, arguments)
            now = float(answer[0])
            outcomes += [
                MoveOutcome(won=bool(won), now=now, snapshot=_decode_snapshot(row))
                for won, row in answer[1:]
            ]
        return outcomes

    @translate_errors
    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        refused, retired = self._run(
            scripts.REGISTER,
            [self._index, self._non_closed],
            ["" if keep_for is None else keep_for, MAX_NAMES, *names],
        )
        for batch in _batched(map(_decode_text, retired), BATCH):
            self._client.unlink(*(key for name in batch for key in self._keys_of(name)))
        return [_decode_text(name) for name in refused]

    @translate_errors
    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
    ) -> Survey:
        names = _unique(activity_of or (), names)
        head, is_in_key, tail = self._key(SAMPLE_NAME).partition(SAMPLE_NAME)
        now, registered, non_closed, rows = self._run(
            scripts.SURVEY,
            [self._index, self._non_closed, *self._keys(names)],
            [
                "" if keep_for is None else keep_for,
                all_up_to if is_in_key else -1,  # a script cannot call the site's KEY_FUNCTION
                head,
                tail,
                -1 if activity_of is None else len(activity_of),
                *names,
            ],
        )
        reading = Reading(now=float(now), snapshots={})
        for name, *row in rows:
            _add_row(reading, _decode_text(name), *row)
        return Survey(
            names=frozenset(map(_decode_text, registered)),
            non_closed=_decode_non_closed(non_closed, float(now)),
            reading=reading,
        )

    @translate_errors
    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        at, row, seen_at, moves, failures, periods, policies, windows = self._run(
            scripts.INSPECT,
            [self._key(name), self._index],
            [name, *_encode_window(window)],
        )
        now = float(at)
        history = History(
            failures=[_decode_failure(row) for row in failures],
            transitions=[_decode_transition(row) for row in moves],
            periods=_decode_periods(periods, now),
            policies={policy: float(at) for policy, at in _decode_pairs(policies).items()},
        )
        return Inspection(
            now=now,
            snapshot=_decode_snapshot(row),
            seen_at=None if seen_at is None else float(seen_at),
            history=history,
            windows=_decode_windows(windows),
        )

    @translate_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        moves = self._client.lrange(f"{self._key(name)}:moves", 0, -1)
        return [_decode_transition(row) for row in moves]

    @translate_errors
    def forget(self, name: str, *, generation: str) -> bool:
        keys = [self._index, self._non_closed, *self._keys_of(name)]
        return bool(self._run(scripts.FORGET, keys, [name, generation]))

    @translate_errors
    def check_writable(self) -> None:
        self._client.set(f"{self._index}:probe", 1, ex=60)
        self._run(*self._adding([]))

    @translate_errors
    def may_evict(self) -> bool:
        """Return whether the server may evict keys without expiry when its memory is full."""
        memory = self._client.info("memory")
        return bool(memory["maxmemory"]) and str(memory["maxmemory_policy"]).startswith("allkeys")

    @translate_errors
    def is_persistent(self) -> bool:
        """Return whether the server keeps its data over a restart."""
        if self._client.info("persistence")["aof_enabled"]:
            return True
        return any(self._client.config_get("save").values())

    def _key(self, name: str) -> str:
        return str(self._cache.make_key(f"breaker:{{{name}}}"))

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [self._key(name) for name in names]

    def _keys_of(self, name: str) -> list[str]:
        """Return the keys of a breaker, except its short-lived windows."""
        key = self._key(name)
        return [key, f"{key}:moves", f"{key}:failures", f"{key}:history", f"{key}:policies"]

    def _adding(self, reports: Sequence[Report]) -> Call:
        keys = [*(self._key(report.name) for report in reports), self._index]
        return (
            scripts.ADD,
            keys,
            [part for report in reports for part in _encode_report(report)],
        )

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its hash; load it if the server does not have it."""
        try:
            return self._client.evalsha(script_hash(script), len(keys), *keys, *arguments)
        except NoScriptError:  # it did not run, so running it again repeats nothing
            return self._pipe([(script, keys, arguments)], loading={script})[0]

    def _read(
        self, script: str, names: Sequence[str], active: int = 0
    ) -> tuple[float, Iterator[tuple[str, Any]]]:
        """Return the store's time and a row for each name, in one round trip.

        The rows of the first ``active`` names hold their activity too.
        """
        calls: list[Call] = [
            (script, self._keys(batch), [max(0, active - start * BATCH)])
            for start, batch in enumerate(_batched(names, BATCH))
        ]
        try:
            answers = self._pipe(calls)
        except NoScriptError:
            answers = self._pipe(calls, loading={script})
        now = float(answers[-1][0]) if answers else 0.0
        rows = (row for _, *batch in answers for row in batch)
        return now, zip(names, rows, strict=True)

    def _pipe(self, calls: Sequence[Call], loading: Collection[str] = ()) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for script in loading:
            pipeline.script_load(script)
        for script, keys, arguments in calls:
            pipeline.evalsha(script_hash(script), len(keys), *keys, *arguments)
        answers: list[Any] = pipeline.execute()
        return answers[len(loading) :]


def _unique(first: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return all names, each once, in order."""
    return list(dict.fromkeys((*first, *names)))


def _add_row(
    reading: Reading, name: str, row: Sequence[Any], activity: Sequence[bytes] | None
) -> None:
    reading.snapshots[name] = _decode_snapshot(row)
    if activity is not None:
        reading.activity[name] = _decode_activity(activity, reading.now)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _encode_report(report: Report) -> Iterator[Any]:
    results = report.results
    yield report.name if report.policy_text is not None else ""
    yield report.policy_text or ""
    yield results.rejected
    if (note := results.note) is None:
        yield ""
    else:
        yield json.dumps([note.error, note.message, note.host, note.pid], ensure_ascii=False)
    yield report.generation
    yield from _encode_window(report.window)
    yield results.newest_success_at
    yield results.slow_successes
    yield results.failures
    yield results.slow_failures
    yield len(results.successes)
    for batch in results.successes:
        yield from batch


def _encode_move(move: Move) -> Iterator[Any]:
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


def _decode_snapshot(row: Sequence[Any]) -> Snapshot | None:
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


def _decode_windows(rows: Sequence[Sequence[Any]]) -> dict[Window, Counts]:
    return {
        Window(timed=kind == b"time", size=size): Counts(calls=calls, failures=failures, slow=slow)
        for kind, size, calls, failures, slow in rows
    }


def _encode_window(window: Window | None) -> tuple[str, int]:
    if window is None:
        return "", 0
    return "time" if window.timed else "count", window.size


def _decode_record(row: Sequence[Any]) -> Snapshot:
    window = NO_COUNTS
    if len(row) > 12:
        window = Counts(calls=row[12], failures=row[13], slow=row[14])
    return Snapshot(
        generation=sys.intern(_decode_text(row[0])),  # read often: one copy is enough
        state=State(_decode_text(row[1])),
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
        control=Control(_decode_text(control)),
        until=float(until) if until else None,
        actor=_decode_text(actor),
        reason=_decode_text(reason),
    )


def _decode_transition(row: bytes) -> TransitionRecord:
    attempt, old, new, cause, at, run, calls, failures, slow, actor = _decode_text(row).split(
        " ", 9
    )
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


def _decode_transitions(rows: Sequence[bytes]) -> list[TransitionRecord]:
    """Return a breaker's transitions, or none if one cannot be read."""
    try:
        return [_decode_transition(row) for row in rows]
    except ValueError:
        return []


def _decode_text(value: bytes) -> str:
    return bytes(value).decode()


def _decode_failure(row: bytes) -> FailureRecord:
    at, _, rest = _decode_text(row).partition(" ")
    error, message, host, pid = json.loads(rest)
    return FailureRecord(at=float(at), error=error, message=message, host=host, pid=pid)


def _decode_periods(history: Sequence[bytes], now: float) -> list[Period]:
    """Return the periods of the last five minutes with calls, oldest first."""
    periods = []
    for at, row in _decode_pairs(history).items():
        if oldest_period(now) <= int(at) <= now:
            calls, failures, slow, rejected = map(int, row.split())
            counts = Counts(calls=calls, failures=failures, slow=slow)
            periods.append(Period(at=int(at), calls=counts, rejected=rejected))
    return sorted(periods, key=lambda period: period.at)


def _decode_activity(row: Sequence[bytes], now: float) -> Activity:
    """Return a breaker's activity, or none if it cannot be read."""
    move, history = row
    numbers, oldest = map(int, history.split()), oldest_period(now)
    try:
        tallies = zip(*[numbers] * 5, strict=True)
        return Activity(
            last_change=_decode_transition(move) if move else None,
            tallies=sorted(tally for tally in tallies if oldest <= tally[0] <= now),
        )
    except ValueError:
        return Activity()


def _decode_non_closed(row: Sequence[bytes], now: float) -> dict[str, str]:
    """Return the displayed states by name; one that is not known here is UNKNOWN."""
    states = {}
    for name, entry in _decode_pairs(row).items():
        label, _, ends = entry.partition(" ")
        if label in _HOLDS:
            hold = Hold(control=Control(label), until=float(ends) if ends else None)
            states[name] = display_state(Snapshot(generation="", hold=hold), now)
        else:
            states[name] = label if label in _STATES else State.UNKNOWN.value
    return states


def _decode_pairs(row: Sequence[bytes]) -> dict[str, str]:
    """Return the hash behind HGETALL's flat answer in a script."""
    return {_decode_text(row[at]): _decode_text(row[at + 1]) for at in range(0, len(row), 2)}
