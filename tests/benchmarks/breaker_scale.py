"""How large a fleet one server carries: what its processes ask, as fast as the server answers.

Each breaker is healthy, and called 20 times a second in each process. One client sends what all
these processes send, with the real scripts, and the processor time that the server uses is divided
by the time in which they would have sent it. ``a push`` is one move of a breaker, beside so many
subscribers. The machine's own GET is there to compare another machine with.
"""

import argparse
import os
import resource
import selectors
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.connection import Connection
from rich.console import Console
from rich.table import Table

from analytics_admin.breakers.listener import PROOF_SECONDS
from analytics_admin.breakers.policy import COUNT_BASED, TIME_BASED, BreakerPolicy, Window
from analytics_admin.breakers.presence import PRESENT_SECONDS, Process
from analytics_admin.breakers.schedule import RATES_SECONDS, STATISTICS_SECONDS
from analytics_admin.breakers.state import Results
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores.sentinel import SentinelRoute
from tests.benchmarks.breaker_bench import SERVER_CORE, SYNC_INTERVAL, pin, set_up
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer, free_port

BREAKERS = 50
CALLS = 20
"""Calls a second of each breaker in each process."""
SECONDS = 20
"""Of a fleet's time that are sent, or one report of each process if that is more."""
MOST_ROWS = 100_000
"""Breakers in the reports that are sent for one figure: then less of the fleet's time."""
FEW = 200
"""Processes by which the cost of one process is measured."""
PUSHES = 50
GETS = 20_000
LOOKS = 2_000
FULL = 0.7
"""Part of the server's core that a fleet may take."""
RATE = {"failure_rate_threshold": 50}
TIMED = BreakerPolicy.from_options(
    {**RATE, "sliding_window_type": TIME_BASED, "sliding_window_size": 60}
).window
COUNTED = BreakerPolicy.from_options(
    {**RATE, "sliding_window_type": COUNT_BASED, "sliding_window_size": 100}
).window
KINDS: dict[str, tuple[Window | None, float]] = {
    "without windows": (None, STATISTICS_SECONDS),
    "with 60 s windows": (TIMED, RATES_SECONDS),
    "with windows of 100 calls": (COUNTED, SYNC_INTERVAL),
}
"""The window, and the seconds after which a process reports its successes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many processes cost the server."""

    commands: float
    share: float
    """Part of its core."""
    memory: int
    """Bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="*", default=[200, 2000])
    parser.add_argument("--breakers", type=int, nargs="*", default=[5, 50, 500])
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 20_000)), hard))
    console = Console(width=120)
    with StoreServer(port=free_port(), maxclients="20000") as server:
        assert server.process is not None
        pin(server.process.pid, SERVER_CORE)
        set_up(server.url)
        client = redis.Redis.from_url(server.url)
        console.print(f"a plain GET: {1e6 * _cost_of_get(client):.1f} µs of the server's processor")
        console.print(f"a look at a Sentinel: {1e6 * _cost_of_look():.1f} µs of its processor")
        console.print(_of_a_process(client, options.breakers))
        console.print(_of_pushes(client, [0, *options.processes]))
        console.print(_of_fleets(client, options.processes))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"{title} (server on core {SERVER_CORE}, {os.uname().machine})")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _of_a_process(client: Any, numbers: Sequence[int]) -> Table:
    table = _table("One process", "breakers", "commands/s", "server", "memory of the fleet's data")
    for number in numbers:
        for kind, (window, every) in KINDS.items():
            load = _load(client, FEW, number, window, every)
            table.add_row(
                f"{number} {kind}",
                f"{load.commands / FEW:.1f}",
                f"{1000 * load.share / FEW:.3f} ms/s",
                f"{load.memory / 1024:,.0f} kB",
            )
    return table


def _of_pushes(client: Any, numbers: Sequence[int]) -> Table:
    table = _table("One move of a breaker", "subscribers", "server", "output buffers")
    for number in numbers:
        cost, buffers = _cost_of_push(client, number)
        table.add_row(f"{number:,}", f"{1000 * cost:.2f} ms", f"{buffers / 1024:,.0f} kB")
    return table


def _of_fleets(client: Any, numbers: Sequence[int]) -> Table:
    table = _table(
        f"Processes with {BREAKERS} breakers", "fleet", "commands/s", "server's core", "carries"
    )
    for number in numbers:
        for kind, (window, every) in KINDS.items():
            load = _load(client, number, BREAKERS, window, every)
            table.add_row(
                f"{number:,} processes, {kind}",
                f"{load.commands:,.0f}",
                f"{load.share:.1%}",
                f"{FULL * number / load.share:,.0f} processes",
            )
    return table


def _load(client: Any, number: int, breakers: int, window: Window | None, every: float) -> Load:
    """Send what these processes send; return what that costs the server."""
    client.flushall()
    store = RedisStore("breakers", timeout=30)
    names = [f"backend-{place}" for place in range(breakers)]
    store.register(names, keep_for=None)
    moves = [Move(name=name, expected=None, new=new_record()) for name in names]
    made = [outcome.snapshot for outcome in store.compare_and_set(moves)]
    reports = [
        Report(
            name=name,
            window=window,
            generation=snapshot.generation,
            results=_successes(every, client),
        )
        for name, snapshot in zip(names, made, strict=True)
        if snapshot is not None
    ]
    processes = [
        Process(process_id=uuid.uuid4().hex, host="host", pid=pid, release="1", policies="0" * 8)
        for pid in range(number)
    ]
    for process in processes:
        store.present(process)
    rounds = max(1, min(round(SECONDS / every), MOST_ROWS // (number * breakers)))
    before = _busy(client)
    for _ in range(rounds * number):
        store.add(reports)
    reported = (_busy(client) - before) / (rounds * every)
    before = _busy(client)
    for process in processes:
        store.present(process)
    # While these are told the list is swept once or twice; in real time once each interval.
    told = (_busy(client) - before) / PRESENT_SECONDS
    before = _busy(client)
    for _ in processes:
        client.get(store._sequence)
    proven = (_busy(client) - before) / PROOF_SECONDS
    return Load(
        commands=number * (1 / every + 1 / PRESENT_SECONDS + 1 / PROOF_SECONDS),
        share=reported + told + proven,
        memory=sum(client.memory_usage(key, samples=0) for key in client.scan_iter()),
    )


def _successes(every: float, client: Any) -> Results:
    second = int(client.time()[0])
    seconds = range(second - max(1, int(every)), second)
    calls = round(CALLS * min(every, 1))
    return Results(
        successes=tuple((at, calls) for at in seconds), newest_success_at=float(second) - 0.5
    )


def _cost_of_get(client: Any) -> float:
    """Return for how many seconds a GET that is waited for keeps the server busy."""
    client.set("plain", "x" * 100)
    before = _busy(client)
    for _ in range(GETS):
        client.get("plain")
    return (_busy(client) - before) / GETS


def _cost_of_look() -> float:
    """Return for how many seconds a Sentinel is busy that is asked over a new connection."""
    with SentinelGroup() as group:
        address = group.addresses[:1]
        route = SentinelRoute(SERVICE, address, connection_class=Connection, kwargs={})
        sentinel = redis.Redis(port=address[0][1])
        before = _busy(sentinel)
        for _ in range(LOOKS):
            route.look()
        return (_busy(sentinel) - before) / LOOKS


def _cost_of_push(client: Any, number: int) -> tuple[float, int]:
    """Return for how many seconds one move keeps the server busy, and its clients' memory."""
    client.flushall()
    store = RedisStore("breakers", timeout=30)
    (made,) = store.compare_and_set([Move(name="one", expected=None, new=new_record())])
    with _subscribers(client, store._channel, number):
        before = _busy(client)
        for _ in range(PUSHES):
            (made,) = store.compare_and_set(
                [Move(name="one", expected=made.snapshot, new=new_record(), cause="reset")]
            )
            assert made.won
        cost = (_busy(client) - before) / PUSHES
        return cost, int(client.info("memory")["mem_clients_normal"])


@contextmanager
def _subscribers(client: Any, channel: str, number: int) -> Iterator[None]:
    """Keep that many connections that listen, and read what they are told."""
    address = client.connection_pool.connection_kwargs
    text = channel.encode()
    subscribe = b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(text), text)
    selector, sockets, ended = selectors.DefaultSelector(), [], threading.Event()
    for _ in range(number):
        connection = socket.create_connection((address["host"], address["port"]))
        connection.sendall(subscribe)
        connection.recv(4096)
        selector.register(connection, selectors.EVENT_READ)
        sockets.append(connection)

    def drain() -> None:
        while not ended.wait(0.001):
            for key, _ in selector.select(0.1) if sockets else ():
                key.fileobj.recv(65536)  # type: ignore[union-attr]

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()
        for connection in sockets:
            connection.close()


def _busy(client: Any) -> float:
    """Return for how many seconds the server has used its processor."""
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


if __name__ == "__main__":
    main()
