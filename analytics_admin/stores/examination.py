"""What the server behind a cache alias says of itself, and how quickly."""

import re
import secrets
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import RedisError, ResponseError

from analytics_admin.stores.client import operation_client

TIMEOUT = 1.0
"""Seconds for connecting and for each reply."""
SAMPLES = 20
WAIT_SECONDS = 0.3
"""How long the replicas have to confirm a write, as after an operation."""
KEPT_MILLISECONDS = 5000
MAX_KEY_CHARS = 40
MIN_VERSIONS = {"Redis": (6, 2), "Valkey": (8, 0)}
"""The oldest servers with which the app is tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One server; None and "" are what its user may not ask."""

    latencies: Sequence[float]
    """Seconds of each of SAMPLES questions, sorted."""
    clock_ahead: float
    """Seconds by which its clock is ahead of this machine's; the network makes it uncertain."""
    clock_uncertainty: float
    kind: str
    """``Redis`` or ``Valkey``."""
    version: str
    role: str
    """``master`` or ``slave``."""
    replicas: int | None
    confirmed: int | None
    """By how many replicas a write was confirmed in time; None also without replicas."""
    eviction: str
    """Its ``maxmemory-policy``, or "unlimited" without a limit."""
    persistence: str
    """``appendonly``, ``snapshots`` or ``none``."""
    found_keys: Sequence[str]
    """Those of the keys asked for that are in its database, so far as a look at 1,000 tells."""

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        return self.latencies[min(len(self.latencies) - 1, round(0.99 * len(self.latencies)))]

    @property
    def is_too_old(self) -> bool:
        numbers = tuple(map(int, re.findall(r"\d+", self.version)[:2]))
        return bool(numbers) and numbers < MIN_VERSIONS.get(self.kind, (0,))


def examine(alias: str, *, keys: Sequence[str] = (), prefixes: tuple[str, ...] = ()) -> Examination:
    """Ask the server; also for ``keys`` and for keys that begin with one of the ``prefixes``.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with operation_client(alias, timeout=TIMEOUT) as client:
        client.time()  # connects
        timed = [_time(client) for _ in range(SAMPLES)]
        names = ("server", "replication", "memory", "persistence")
        *sections, save = _ask(client, [*(("INFO", name) for name in names), _SAVE])
        server, replication, memory, persistence = map(_section, sections)
        *exist, scanned = _ask(client, [*(("EXISTS", key) for key in keys), _SCAN])
        found = {key for key, exists in zip(keys, exist, strict=True) if exists == 1}
        if prefixes and not isinstance(scanned, Exception):
            scanned_names = (raw.decode(errors="replace") for raw in scanned[1])
            found |= {name[:MAX_KEY_CHARS] for name in scanned_names if name.startswith(prefixes)}
        replicas = replication.get("connected_slaves")
        return Examination(
            latencies=sorted(seconds for seconds, _ in timed),
            clock_ahead=min(timed)[1],
            clock_uncertainty=min(timed)[0] / 2,
            kind="Valkey" if "valkey_version" in server else "Redis" if server else "",
            version=str(server.get("valkey_version") or server.get("redis_version") or ""),
            role=str(replication.get("role", "")),
            replicas=replicas if isinstance(replicas, int) else None,
            confirmed=_confirmed(client, alias, replicas) if replicas else None,
            eviction=_eviction(memory),
            persistence=_persistence(persistence, save),
            found_keys=sorted(found),
        )


_SAVE = ("CONFIG GET", "save")
_SCAN = ("SCAN", 0, "COUNT", 1000)


def _time(client: Any) -> tuple[float, float]:
    """Return how long the server took, and how far its clock is ahead."""
    sent_at, began = time.time(), time.monotonic()
    seconds, micros = client.time()
    took = time.monotonic() - began
    return took, seconds + micros / 1e6 - (sent_at + took / 2)


def _ask(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the answers, among them errors of what the user may not ask."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, RedisError) and not isinstance(answer, ResponseError):
            raise answer
    return answers


def _section(answer: Any) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) else {}


def _confirmed(client: Any, alias: str, replicas: int) -> int | None:
    key = str(caches[alias].make_key(f"analytics_admin:check:{secrets.token_urlsafe(12)}"))
    write = ("SET", key, 1, "PX", KEPT_MILLISECONDS)
    _, confirmed = _ask(client, [write, ("WAIT", replicas, int(1000 * WAIT_SECONDS))])
    return confirmed if isinstance(confirmed, int) else None


def _eviction(memory: Mapping[str, Any]) -> str:
    if "maxmemory_policy" not in memory:
        return ""
    return str(memory["maxmemory_policy"]) if memory.get("maxmemory") else "unlimited"


def _persistence(section: Mapping[str, Any], save: Any) -> str:
    if section.get("aof_enabled"):
        return "appendonly"
    if not section or not isinstance(save, Mapping):
        return ""
    return "snapshots" if any(save.values()) else "none"
