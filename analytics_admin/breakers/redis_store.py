"""The breakers' store over the Redis server behind a cache alias, shared by the whole fleet.

Each primitive is one round trip per batch; the scripts compare and count, the rules are elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from django.core.cache import caches
from redis.exceptions import NoScriptError, RedisError

from analytics_admin.breakers.machine import Results, Snapshot, State
from analytics_admin.breakers.store import Move, Outcome, Reading, StoreUnavailable
from analytics_admin.connections import explain, own_client

P = ParamSpec("P")
R = TypeVar("R")

BATCH = 500
"""Breakers per script call: keeps one call under about 5 ms of the server's time."""

# One hash per breaker. Its fields, in the order in which every script returns them:
# generation, state, entered_at, wait, attempts, permits, run of failures, last_failure_at,
# successes, failures.
_FIELDS = "'g','s','e','w','a','p','r','l','y','n'"

_NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""

_LOAD = f"""{_NOW}
local answer = {{now}}
for i, key in ipairs(KEYS) do
  answer[i + 1] = redis.call('HMGET', key, {_FIELDS})
end
return answer
"""

# ARGV: generation, failures, successes, newest_success_at.
_ADD = f"""{_NOW}
local key = KEYS[1]
local record = redis.call('HMGET', key, 'g', 'r', 'l')
if record[1] == ARGV[1] then
  local run = tonumber(record[2])
  if tonumber(ARGV[3]) > 0 and tonumber(ARGV[4]) > tonumber(record[3]) then run = 0 end
  if tonumber(ARGV[2]) > 0 then
    run = run + tonumber(ARGV[2])
    redis.call('HSET', key, 'l', now)
  end
  redis.call('HSET', key, 'r', run)
  redis.call('HINCRBY', key, 'y', ARGV[3])
  redis.call('HINCRBY', key, 'n', ARGV[2])
end
return {{now, redis.call('HMGET', key, {_FIELDS})}}
"""

# ARGV per key: expected generation, expected permits, new generation, state, wait, attempts,
# permits.
_COMPARE_AND_SET = f"""{_NOW}
local answer = {{now}}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 7
  local record = redis.call('HMGET', key, 'g', 'p')
  local won = 0
  if (record[1] or '') == ARGV[at + 1]
      and tonumber(record[2] or '0') == tonumber(ARGV[at + 2]) then
    won = 1
    if record[1] == ARGV[at + 3] then
      redis.call('HSET', key, 'p', ARGV[at + 7])
    else
      redis.call('HSET', key, 'g', ARGV[at + 3], 's', ARGV[at + 4], 'e', now, 'w', ARGV[at + 5],
        'a', ARGV[at + 6], 'p', ARGV[at + 7], 'r', 0, 'l', 0, 'y', 0, 'n', 0)
    end
  end
  answer[i + 1] = {{won, redis.call('HMGET', key, {_FIELDS})}}
end
return answer
"""


def _store_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(explain(error)) from None

    return wrapper


class RedisStore:
    """The protocol over ``CACHES[alias]``: its server, credentials and key names."""

    def __init__(self, alias: str, *, timeout: float = 0.1) -> None:
        self._cache = caches[alias]
        self._client = own_client(alias, timeout=timeout)
        self._shas: dict[str, str] = {}
        self._index = self._cache.make_key("breakers")

    @_store_errors
    def load_many(self, names: Sequence[str]) -> Reading:
        now = 0.0
        snapshots: dict[str, Snapshot | None] = {}
        for batch in _batched(names, BATCH):
            answer = self._run(_LOAD, [self._key(name) for name in batch])
            now = float(answer[0])
            snapshots.update(zip(batch, map(_snapshot, answer[1:]), strict=True))
        return Reading(now=now, snapshots=snapshots)

    @_store_errors
    def add(self, name: str, generation: str, results: Results) -> Reading:
        answer = self._run(
            _ADD,
            [self._key(name)],
            generation,
            results.failures,
            results.successes,
            results.newest_success_at,
        )
        return Reading(now=float(answer[0]), snapshots={name: _snapshot(answer[1])})

    @_store_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[Outcome]:
        # Registered first: a name without a record is harmless, a record without a name is lost.
        fresh = {move.name: 0 for move in moves if move.expected is None}
        if fresh:
            self._client.zadd(self._index, fresh, nx=True)
        outcomes: list[Outcome] = []
        for batch in _batched(moves, BATCH):
            arguments = [part for move in batch for part in _arguments(move)]
            answer = self._run(
                _COMPARE_AND_SET, [self._key(move.name) for move in batch], *arguments
            )
            now = float(answer[0])
            outcomes += [
                Outcome(won=bool(won), now=now, snapshot=_snapshot(row)) for won, row in answer[1:]
            ]
        return outcomes

    @_store_errors
    def list_names(self) -> list[str]:
        return sorted(_text(name) for name in self._client.zrange(self._index, 0, -1))

    def _key(self, name: str) -> Any:
        return self._cache.make_key(f"breaker:{{{name}}}")

    def _run(self, script: str, keys: Sequence[Any], *arguments: Any) -> Any:
        """Run a script by its hash; a server that has forgotten it is told it again."""
        sha = self._shas.get(script)
        if sha is not None:
            try:
                return self._client.evalsha(sha, len(keys), *keys, *arguments)
            except NoScriptError:
                pass  # a script is refused before it runs, so asking again repeats nothing
        self._shas[script] = self._client.script_load(script)
        return self._client.evalsha(self._shas[script], len(keys), *keys, *arguments)


def _arguments(move: Move) -> Iterator[Any]:
    yield move.expected.generation if move.expected else ""
    yield move.expected.permits if move.expected else 0
    yield move.new.generation
    yield move.new.state.value
    yield move.new.wait
    yield move.new.attempts
    yield move.new.permits


def _snapshot(row: Sequence[Any]) -> Snapshot | None:
    if row[0] is None:
        return None
    return Snapshot(
        generation=_text(row[0]),
        state=State(_text(row[1])),
        entered_at=float(row[2]),
        wait=float(row[3]),
        attempts=int(row[4]),
        permits=int(row[5]),
        consecutive_failures=int(row[6]),
        last_failure_at=float(row[7]),
        successes=int(row[8]),
        failures=int(row[9]),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


T = TypeVar("T")


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
