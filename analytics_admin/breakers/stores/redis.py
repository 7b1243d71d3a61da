"""The breakers' store on the Redis server behind a cache alias, shared by the whole fleet.

Each operation is one round trip per batch.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError

from analytics_admin.breakers.history import History, TransitionRecord
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.stores import redis_codec as codec
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
                reading.snapshots[report.name] = codec.decode_snapshot(row)
        return reading

    @translate_errors
    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        batches = list(_batched(_unique(activity_of, names), BATCH))
        calls: list[Call] = [
            (scripts.LOAD_MANY, self._keys(batch), [max(0, len(activity_of) - start * BATCH)])
            for start, batch in enumerate(batches)
        ]
        for batch, (now, *rows) in zip(batches, self._run_all(calls), strict=True):
            reading = replace(reading, now=float(now))
            for name, row in zip(batch, rows, strict=True):
                _add_row(reading, name, *row)
        return reading

    @translate_errors
    def read_transitions(self, names: Sequence[str]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        batches = list(_batched(names, BATCH))
        calls: list[Call] = [(scripts.READ_TRANSITIONS, self._keys(batch), []) for batch in batches]
        for batch, (now, *rows) in zip(batches, self._run_all(calls), strict=True):
            reading = replace(reading, now=float(now))
            for name, (row, moves) in zip(batch, rows, strict=True):
                reading.snapshots[name] = codec.decode_snapshot(row)
                reading.transitions[name] = codec.decode_transitions(moves)
        return reading

    @translate_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        outcomes: list[MoveOutcome] = []
        for batch in _batched(moves, BATCH):
            keys = [*(self._key(move.name) for move in batch), self._index, self._non_closed]
            arguments = [part for move in batch for part in codec.encode_move(move)]
            answer = self._run(scripts.COMPARE_AND_SET, keys, arguments)
            now = float(answer[0])
            outcomes += [
                MoveOutcome(won=bool(won), now=now, snapshot=codec.decode_snapshot(row))
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
        for batch in _batched(map(codec.decode_text, retired), BATCH):
            self._client.unlink(*(key for name in batch for key in self._keys_of(name)))
        return [codec.decode_text(name) for name in refused]

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
            _add_row(reading, codec.decode_text(name), *row)
        return Survey(
            names=frozenset(map(codec.decode_text, registered)),
            non_closed=codec.decode_non_closed(non_closed, float(now)),
            reading=reading,
        )

    @translate_errors
    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        at, row, seen_at, moves, failures, periods, policies, windows = self._run(
            scripts.INSPECT,
            [self._key(name), self._index],
            [name, *codec.encode_window(window)],
        )
        now = float(at)
        history = History(
            failures=[codec.decode_failure(row) for row in failures],
            transitions=[codec.decode_transition(row) for row in moves],
            periods=codec.decode_periods(periods, now),
            policies={policy: float(at) for policy, at in codec.decode_pairs(policies).items()},
        )
        return Inspection(
            now=now,
            snapshot=codec.decode_snapshot(row),
            seen_at=None if seen_at is None else float(seen_at),
            history=history,
            windows=codec.decode_windows(windows),
        )

    @translate_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        moves = self._client.lrange(f"{self._key(name)}:moves", 0, -1)
        return [codec.decode_transition(row) for row in moves]

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
            [part for report in reports for part in codec.encode_report(report)],
        )

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its hash; load it if the server does not have it."""
        try:
            return self._client.evalsha(script_hash(script), len(keys), *keys, *arguments)
        except NoScriptError:  # it did not run, so running it again repeats nothing
            return self._pipe([(script, keys, arguments)], loading={script})[0]

    def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run read-only scripts in one round trip."""
        try:
            return self._pipe(calls)
        except NoScriptError:
            return self._pipe(calls, loading={script for script, _, _ in calls})

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
    reading.snapshots[name] = codec.decode_snapshot(row)
    if activity is not None:
        reading.activity[name] = codec.decode_activity(activity, reading.now)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
