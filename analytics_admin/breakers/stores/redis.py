"""The breakers' store over the Redis server behind a cache alias, shared by the whole fleet.

Each primitive is one round trip per batch; the scripts compare and count, the rules are elsewhere.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError, RedisError

from analytics_admin.breakers.history import History, TransitionRecord
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.stores import (
    redis_codec,
    redis_scripts,
)
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    Inspection,
    Move,
    MoveOutcome,
    Reading,
    Report,
    StoreUnavailable,
    Survey,
)
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import dedicated_client, explain_error

P = ParamSpec("P")
R = TypeVar("R")

BATCH = 500
"""Breakers per script call: keeps one call under about 5 ms of the server's time."""
ANY_NAME = ("Aa0._:-" * 15)[:100]
"""Stands for a name where only the form of its key matters: all that a name can have is in it."""
Call = tuple[str, Sequence[str], Sequence[Any]]
"""A script, its keys, its arguments."""


def _store_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(explain_error(error)) from None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreUnavailable(Message(_("the store's answer cannot be read"))) from error

    return wrapper


class RedisStore:
    """The protocol over ``CACHES[alias]``: its server, credentials and key names."""

    def __init__(self, alias: str, *, timeout: float = 0.1) -> None:
        self._client = dedicated_client(alias, timeout=timeout)
        self._cache = caches[alias]
        self._index = str(self._cache.make_key("breakers"))
        self._non_closed = f"{self._index}:astir"

    @_store_errors
    def add(self, reports: Sequence[Report]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        for batch in _batched(reports, BATCH):
            now, *found = self._run(*self._adding(batch))
            reading = replace(reading, now=float(now))
            for report, row in zip(batch, found, strict=True):
                reading.snapshots[report.name] = redis_codec.snapshot(row)
        return reading

    @_store_errors
    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        batches = list(_batched(_first(activity_of, names), BATCH))
        calls: list[Call] = [
            (redis_scripts.LOAD_MANY, self._keys(batch), [max(0, len(activity_of) - start * BATCH)])
            for start, batch in enumerate(batches)
        ]
        for batch, (now, *found) in zip(batches, self._run_all(calls), strict=True):
            reading = replace(reading, now=float(now))
            for name, row in zip(batch, found, strict=True):
                _take(reading, name, *row)
        return reading

    @_store_errors
    def read_transitions(self, names: Sequence[str]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        batches = list(_batched(names, BATCH))
        calls: list[Call] = [
            (redis_scripts.READ_TRANSITIONS, self._keys(batch), []) for batch in batches
        ]
        for batch, (now, *found) in zip(batches, self._run_all(calls), strict=True):
            reading = replace(reading, now=float(now))
            for name, (row, moves) in zip(batch, found, strict=True):
                reading.snapshots[name] = redis_codec.snapshot(row)
                reading.transitions[name] = redis_codec.transitions(moves)
        return reading

    @_store_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        outcomes: list[MoveOutcome] = []
        for batch in _batched(moves, BATCH):
            keys = [*(self._key(move.name) for move in batch), self._index, self._non_closed]
            arguments = [part for move in batch for part in redis_codec.of_move(move)]
            answer = self._run(redis_scripts.COMPARE_AND_SET, keys, arguments)
            now = float(answer[0])
            outcomes += [
                MoveOutcome(won=bool(won), now=now, snapshot=redis_codec.snapshot(row))
                for won, row in answer[1:]
            ]
        return outcomes

    @_store_errors
    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        refused, retired = self._run(
            redis_scripts.REGISTER,
            [self._index, self._non_closed],
            ["" if keep_for is None else keep_for, MAX_NAMES, *names],
        )
        for batch in _batched(map(redis_codec.text, retired), BATCH):
            self._client.unlink(*(key for name in batch for key in self._keys_of(name)))
        return [redis_codec.text(name) for name in refused]

    @_store_errors
    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
    ) -> Survey:
        names = _first(activity_of or (), names)
        head, is_plain, tail = self._key(ANY_NAME).partition(ANY_NAME)
        now, registered, non_closed, looks = self._run(
            redis_scripts.SURVEY,
            [self._index, self._non_closed, *self._keys(names)],
            [
                "" if keep_for is None else keep_for,
                all_up_to if is_plain else -1,  # no script knows the site's own KEY_FUNCTION
                head,
                tail,
                -1 if activity_of is None else len(activity_of),
                *names,
            ],
        )
        reading = Reading(now=float(now), snapshots={})
        for name, *row in looks:
            _take(reading, redis_codec.text(name), *row)
        return Survey(
            names=frozenset(map(redis_codec.text, registered)),
            non_closed={
                name: told.partition(" ")[0] for name, told in redis_codec.pairs(non_closed).items()
            },
            reading=reading,
        )

    @_store_errors
    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        at, row, seen_at, moves, failures, history, policies, windows = self._run(
            redis_scripts.INSPECT,
            [self._key(name), self._index],
            [name, *redis_codec.of_window(window)],
        )
        now = float(at)
        evidence = History(
            failures=[redis_codec.failure(row) for row in failures],
            transitions=[redis_codec.transition(row) for row in moves],
            periods=redis_codec.periods(history, now),
            policies={policy: float(at) for policy, at in redis_codec.pairs(policies).items()},
        )
        return Inspection(
            now=now,
            snapshot=redis_codec.snapshot(row),
            seen_at=None if seen_at is None else float(seen_at),
            evidence=evidence,
            windows=redis_codec.windows(windows),
        )

    @_store_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        moves = self._client.lrange(f"{self._key(name)}:moves", 0, -1)
        return [redis_codec.transition(row) for row in moves]

    @_store_errors
    def forget(self, name: str, *, generation: str) -> bool:
        keys = [self._index, self._non_closed, *self._keys_of(name)]
        return bool(self._run(redis_scripts.FORGET, keys, [name, generation]))

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

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [self._key(name) for name in names]

    def _keys_of(self, name: str) -> list[str]:
        """Return the keys that stay until somebody removes them, or for long."""
        key = self._key(name)
        return [key, f"{key}:moves", f"{key}:failures", f"{key}:history", f"{key}:policies"]

    def _adding(self, reports: Sequence[Report]) -> Call:
        keys = [*(self._key(report.name) for report in reports), self._index]
        return (
            redis_scripts.ADD,
            keys,
            [part for report in reports for part in redis_codec.of_report(report)],
        )

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its hash; a server that has forgotten it is told it again."""
        try:
            return self._client.evalsha(_sha(script), len(keys), *keys, *arguments)
        except NoScriptError:  # refused before it ran, so asking again repeats nothing
            return self._pipe([(script, keys, arguments)], telling={script})[0]

    def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts that only read, in one round trip."""
        try:
            return self._pipe(calls)
        except NoScriptError:
            return self._pipe(calls, telling={script for script, _, _ in calls})

    def _pipe(self, calls: Sequence[Call], telling: Collection[str] = ()) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for script in telling:
            pipeline.script_load(script)
        for script, keys, arguments in calls:
            pipeline.evalsha(_sha(script), len(keys), *keys, *arguments)
        answers: list[Any] = pipeline.execute()
        return answers[len(telling) :]


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


T = TypeVar("T")


def _first(some: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names, each once, some of them first."""
    return list(dict.fromkeys((*some, *names)))


def _take(
    reading: Reading, name: str, row: Sequence[Any], activity: Sequence[bytes] | None
) -> None:
    reading.snapshots[name] = redis_codec.snapshot(row)
    if activity is not None:
        reading.activity[name] = redis_codec.activity(activity, reading.now)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
