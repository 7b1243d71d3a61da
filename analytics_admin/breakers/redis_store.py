"""The breakers' store over the Redis server behind a cache alias, shared by the whole fleet.

Each primitive is one round trip per batch; the scripts compare and count, the rules are elsewhere.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError, RedisError

from analytics_admin.breakers import index_scripts, rows, scripts
from analytics_admin.breakers.evidence import Evidence, TransitionRecord
from analytics_admin.breakers.snapshot import Snapshot
from analytics_admin.breakers.store import (
    MOST_NAMES,
    Inspection,
    Move,
    Outcome,
    Reading,
    Report,
    StoreUnavailable,
    Survey,
)
from analytics_admin.connections import explain, own_client

P = ParamSpec("P")
R = TypeVar("R")

BATCH = 500
"""Breakers per script call: keeps one call under about 5 ms of the server's time."""
Call = tuple[str, Sequence[str], Sequence[Any]]
"""A script, its keys, its arguments."""


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
        self._index = str(self._cache.make_key("breakers"))
        self._astir = f"{self._index}:astir"

    @_store_errors
    def add(self, reports: Sequence[Report]) -> Reading:
        batches = list(_batched(reports, BATCH))
        return _reading(batches, [self._run(*self._adding(batch)) for batch in batches])

    @_store_errors
    def load_many(self, names: Sequence[str]) -> Reading:
        batches = _questions(names)
        return _reading(batches, self._run_all([self._adding(batch) for batch in batches]))

    @_store_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for batch in _batched(moves, BATCH):
            keys = [*(self._key(move.name) for move in batch), self._index, self._astir]
            arguments = [part for move in batch for part in rows.of_move(move)]
            answer = self._run(scripts.COMPARE_AND_SET, keys, arguments)
            now = float(answer[0])
            outcomes += [
                Outcome(won=bool(won), now=now, snapshot=rows.snapshot(row))
                for won, row in answer[1:]
            ]
        return outcomes

    @_store_errors
    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        refused, retired = self._run(
            index_scripts.REGISTER,
            [self._index, self._astir],
            ["" if keep_for is None else keep_for, MOST_NAMES, *names],
        )
        for batch in _batched(map(rows.text, retired), BATCH):
            self._client.unlink(*(key for name in batch for key in self._keys_of(name)))
        return [rows.text(name) for name in refused]

    @_store_errors
    def survey(self, names: Sequence[str], *, keep_for: float | None) -> Survey:
        index = [self._index, self._astir]
        calls = [(index_scripts.NAMES, index, ["" if keep_for is None else keep_for])]
        batches = _questions(names)
        (now, found, astir), *answers = self._run_all([*calls, *map(self._adding, batches)])
        return Survey(
            names=frozenset(map(rows.text, found)),
            astir={name: told.partition(" ")[0] for name, told in rows.pairs(astir).items()},
            reading=replace(_reading(batches, answers), now=float(now)),
        )

    @_store_errors
    def inspect(self, report: Report) -> Inspection:
        key = self._key(report.name)
        calls = [self._adding([report])]
        answer, seen_at, moves, failures, history, policies = self._run_all(
            calls,
            lambda pipeline: (
                pipeline.zscore(self._index, report.name)
                .lrange(f"{key}:moves", 0, -1)
                .lrange(f"{key}:failures", 0, -1)
                .hgetall(f"{key}:history")
                .hgetall(f"{key}:policies")
            ),
        )
        now = float(answer[0])
        evidence = Evidence(
            failures=[rows.failure(row) for row in failures],
            transitions=[rows.transition(row) for row in moves],
            periods=rows.periods(history, now),
            policies={rows.text(policy): float(at) for policy, at in policies.items()},
        )
        return Inspection(
            now=now, snapshot=rows.snapshot(answer[1]), seen_at=seen_at, evidence=evidence
        )

    @_store_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        moves = self._client.lrange(f"{self._key(name)}:moves", 0, -1)
        return [rows.transition(row) for row in moves]

    @_store_errors
    def forget(self, name: str, *, generation: str) -> bool:
        keys = [self._index, self._astir, *self._keys_of(name)]
        return bool(self._run(index_scripts.FORGET, keys, [name, generation]))

    @_store_errors
    def check_writable(self) -> None:
        self._client.set(f"{self._index}:probe", 1, ex=60)
        self._run(*self._adding([]))

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

    def _keys_of(self, name: str) -> list[str]:
        """Return the keys that stay until somebody removes them, or for long."""
        key = self._key(name)
        return [key, f"{key}:moves", f"{key}:failures", f"{key}:history", f"{key}:policies"]

    def _adding(self, reports: Sequence[Report]) -> Call:
        keys = [*(self._key(report.name) for report in reports), self._index]
        return scripts.ADD, keys, [part for report in reports for part in rows.of_report(report)]

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its hash; a server that has forgotten it is told it again."""
        sha = _sha(script)
        try:
            return self._client.evalsha(sha, len(keys), *keys, *arguments)
        except NoScriptError:  # refused before it ran, so asking again repeats nothing
            self._client.script_load(script)
        return self._client.evalsha(sha, len(keys), *keys, *arguments)

    def _run_all(
        self, calls: Sequence[Call], and_then: Callable[[Any], Any] = lambda pipeline: pipeline
    ) -> list[Any]:
        """Run scripts that only read, and what else the pipeline is given, in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipeline.evalsha(_sha(script), len(keys), *keys, *arguments)
        and_then(pipeline)
        try:
            answers: list[Any] = pipeline.execute()
        except NoScriptError:
            for script in {script for script, _, _ in calls}:
                self._client.script_load(script)
            return self._run_all(calls, and_then)
        return answers


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


T = TypeVar("T")


def _questions(names: Sequence[str]) -> list[list[Report]]:
    """Return what asks of breakers by name, without results to be counted."""
    return list(_batched([Report(name=name) for name in names], BATCH))


def _reading(batches: Sequence[Sequence[Report]], answers: Sequence[Sequence[Any]]) -> Reading:
    now, snapshots = 0.0, dict[str, Snapshot | None]()
    for batch, answer in zip(batches, answers, strict=True):
        now = float(answer[0])
        for report, row in zip(batch, answer[1:], strict=True):
            snapshots[report.name] = rows.snapshot(row)
    return Reading(now=now, snapshots=snapshots)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
