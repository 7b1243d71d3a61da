"""The breakers' store over the Redis server behind a cache alias, shared by the whole fleet.

Each primitive is one round trip per batch; the scripts compare and count, the rules are elsewhere.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError, RedisError

from analytics_admin.breakers import scripts
from analytics_admin.breakers.snapshot import (
    NO_COUNTS,
    Control,
    Counts,
    Hold,
    Snapshot,
    State,
)
from analytics_admin.breakers.store import (
    TRANSITIONS_KEPT,
    Move,
    Outcome,
    Reading,
    Report,
    StoreUnavailable,
    TransitionRecord,
)
from analytics_admin.connections import explain, own_client

P = ParamSpec("P")
R = TypeVar("R")

BATCH = 500
"""Breakers per script call: keeps one call under about 5 ms of the server's time."""


def _store_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(explain(error)) from None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreUnavailable("the store's answer cannot be read") from error

    return wrapper


class RedisStore:
    """The protocol over ``CACHES[alias]``: its server, credentials and key names."""

    def __init__(self, alias: str, *, timeout: float = 0.1) -> None:
        self._client = own_client(alias, timeout=timeout)
        self._cache = caches[alias]
        self._index = self._cache.make_key("breakers")

    @_store_errors
    def add(self, reports: Sequence[Report]) -> Reading:
        now = 0.0
        snapshots: dict[str, Snapshot | None] = {}
        for batch in _batched(reports, BATCH):
            arguments = [part for report in batch for part in _report_arguments(report)]
            answer = self._run(scripts.ADD, [self._key(report.name) for report in batch], arguments)
            now = float(answer[0])
            for report, row in zip(batch, answer[1:], strict=True):
                snapshots[report.name] = _snapshot(row)
        return Reading(now=now, snapshots=snapshots)

    def load_many(self, names: Sequence[str]) -> Reading:
        return self.add([Report(name=name) for name in names])

    @_store_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        # Registered first: a name without a record is harmless, a record without a name is lost.
        fresh = {move.name: 0 for move in moves if move.expected is None}
        if fresh:
            self._client.zadd(self._index, fresh, nx=True)
        outcomes: list[Outcome] = []
        for batch in _batched(moves, BATCH):
            arguments = [part for move in batch for part in _move_arguments(move)]
            answer = self._run(
                scripts.COMPARE_AND_SET, [self._key(move.name) for move in batch], arguments
            )
            now = float(answer[0])
            outcomes += [
                Outcome(won=bool(won), now=now, snapshot=_snapshot(row)) for won, row in answer[1:]
            ]
        return outcomes

    @_store_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        rows = self._client.lrange(f"{self._key(name)}:moves", 0, TRANSITIONS_KEPT - 1)
        return [_transition(_text(row)) for row in rows]

    @_store_errors
    def list_names(self) -> list[str]:
        return sorted(_text(name) for name in self._client.zrange(self._index, 0, -1))

    @_store_errors
    def check_writable(self) -> None:
        self._client.set(f"{self._index}:probe", 1, ex=60)
        self._run(scripts.ADD, [], [])

    @_store_errors
    def may_evict(self) -> bool:
        """Say whether the server drops keys that never expire when its memory is full."""
        memory = self._client.info("memory")
        return bool(memory["maxmemory"]) and str(memory["maxmemory_policy"]).startswith("allkeys")

    @_store_errors
    def is_persistent(self) -> bool:
        """Say whether the server comes back with its data after a restart."""
        if self._client.info("persistence")["aof_enabled"]:
            return True
        return any(self._client.config_get("save").values())

    def _key(self, name: str) -> str:
        return str(self._cache.make_key(f"breaker:{{{name}}}"))

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its hash; a server that has forgotten it is told it again."""
        sha = _sha(script)
        try:
            return self._client.evalsha(sha, len(keys), *keys, *arguments)
        except NoScriptError:  # refused before it ran, so asking again repeats nothing
            self._client.script_load(script)
        return self._client.evalsha(sha, len(keys), *keys, *arguments)


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _report_arguments(report: Report) -> Iterator[Any]:
    results, window = report.results, report.window
    yield report.generation
    yield "" if window is None else "time" if window.timed else "count"
    yield 0 if window is None else window.size
    yield results.newest_success_at
    yield results.slow_successes
    yield results.failures
    yield results.slow_failures
    yield len(results.successes)
    for batch in results.successes:
        yield from batch


def _move_arguments(move: Move) -> Iterator[Any]:
    yield move.expected.generation if move.expected else ""
    yield move.expected.permits if move.expected else 0
    yield move.new.generation
    yield move.new.state.value
    yield move.new.wait
    yield move.new.attempts
    yield move.new.permits
    yield move.cause
    yield move.attempt
    yield move.actor
    hold = move.new.hold
    yield hold.control.value if hold else ""
    yield "" if hold is None or hold.until is None else hold.until
    yield hold.actor if hold else ""
    yield hold.reason if hold else ""


def _snapshot(row: Sequence[Any]) -> Snapshot | None:
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


def _readable(row: Sequence[Any]) -> Snapshot:
    window = NO_COUNTS
    if len(row) > 12:
        window = Counts(calls=row[12], failures=row[13], slow=row[14])
    return Snapshot(
        generation=sys.intern(_text(row[0])),  # read again and again: one copy will do
        state=State(_text(row[1])),
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
        control=Control(_text(control)),
        until=float(until) if until else None,
        actor=_text(actor),
        reason=_text(reason),
    )


def _transition(row: str) -> TransitionRecord:
    attempt, old, new, cause, at, run, calls, failures, slow, actor = row.split(" ", 9)
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


def _text(value: bytes) -> str:
    return bytes(value).decode()


T = TypeVar("T")


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
