"""How large a fleet one server carries: what its processes ask in a minute, as fast as it answers.

Each process has 50 healthy breakers, called 20 times a second each. One client sends what all these
processes send, with the real scripts, and the server's own processor time is divided by the time in
which they would have sent it. ``a push`` is one move of a breaker, beside so many subscribers.
"""

import argparse
import os
import resource
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from analytics_admin.breakers.listener import PROOF_SECONDS
from analytics_admin.breakers.policy import TIME_BASED, BreakerPolicy, Window
from analytics_admin.breakers.presence import PRESENT_SECONDS, Process
from analytics_admin.breakers.schedule import RATES_SECONDS, STATISTICS_SECONDS
from analytics_admin.breakers.state import Results
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.redis import RedisStore
from tests.benchmarks.breaker_bench import SERVER_CORE, pin, set_up
from tests.support.servers import StoreServer, free_port

BREAKERS = 50
CALLS = 20
"""Calls a second of each breaker in each process."""
SECONDS = 60
PUSHES = 50
FULL = 0.7
"""Part of the server's core that a fleet may take."""
WINDOWED = BreakerPolicy.from_options(
    {
        "failure_rate_threshold": 50,
        "sliding_window_type": TIME_BASED,
        "sliding_window_size": 60,
    }
).window
KINDS: dict[str, tuple[Window | None, float]] = {
    "without windows": (None, STATISTICS_SECONDS),
    "with 60 s windows": (WINDOWED, RATES_SECONDS),
}
"""The window, and the seconds after which a process reports its successes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many processes cost the server."""

    commands: float
    share: float
    """Part of its core."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="*", default=[200, 2000])
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 20_000)), hard))
    table = Table(title=f"One server on core {SERVER_CORE}; {os.uname().machine}")
    for column in ("fleet", "commands/s", "server's core", "carries at most", "a push"):
        table.add_column(column, justify="left" if column == "fleet" else "right")
    with StoreServer(port=free_port(), maxclients="20000") as server:
        assert server.process is not None
        pin(server.process.pid, SERVER_CORE)
        set_up(server.url)
        client = redis.Redis.from_url(server.url)
        for number in options.processes:
            push = _cost_of_push(client, number)
            for kind, (window, every) in KINDS.items():
                client.flushall()
                load = _load(client, number, window, every)
                table.add_row(
                    f"{number:,} processes, {kind}",
                    f"{load.commands:,.0f}",
                    f"{load.share:.1%}",
                    f"{FULL * number / load.share:,.0f} processes",
                    f"{1000 * push:.2f} ms",
                )
    Console(width=120).print(table)


def _load(client: Any, number: int, window: Window | None, every: float) -> Load:
    """Send what these processes send in SECONDS; return what that costs the server."""
    store = RedisStore("breakers", timeout=30)
    names = [f"backend-{place}" for place in range(BREAKERS)]
    store.register(names, keep_for=None)
    moves = [Move(name=name, expected=None, new=new_record()) for name in names]
    made = [outcome.snapshot for outcome in store.compare_and_set(moves)]
    reports = [
        Report(
            name=snapshot_name,
            window=window,
            generation=snapshot.generation,
            results=_successes(every, client),
        )
        for snapshot_name, snapshot in zip(names, made, strict=True)
        if snapshot is not None
    ]
    processes = [
        Process(process_id=uuid.uuid4().hex, host="host", pid=pid, release="1", policies="0" * 8)
        for pid in range(number)
    ]
    for process in processes:
        store.present(process)
    began, before, commands = time.monotonic(), _busy(client), 0
    for _round in range(max(1, round(SECONDS / every))):
        for _process in processes:
            store.add(reports)
            commands += 1
    reported = (_busy(client) - before) / (max(1, round(SECONDS / every)) * every)
    before = _busy(client)
    for process in processes:
        store.present(process)
    # While these are told the list is swept once or twice; in real time once each interval.
    told = (_busy(client) - before) / PRESENT_SECONDS
    before, proofs = _busy(client), client.pipeline(transaction=False)
    for _process in processes:
        proofs.get(store._sequence)
    proofs.execute()
    proven = (_busy(client) - before) / PROOF_SECONDS
    assert time.monotonic() > began
    rate = number * (1 / every + 1 / PRESENT_SECONDS + 1 / PROOF_SECONDS)
    return Load(commands=rate, share=reported + told + proven)


def _successes(every: float, client: Any) -> Results:
    second = int(client.time()[0])
    seconds = range(second - int(every), second)
    return Results(
        successes=tuple((at, CALLS) for at in seconds), newest_success_at=float(second) - 0.5
    )


def _cost_of_push(client: Any, number: int) -> float:
    """Return for how many seconds one move keeps the server busy, beside these subscribers."""
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
        return (_busy(client) - before) / PUSHES


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
        while not ended.is_set():
            for key, _ in selector.select(0.1):
                key.fileobj.recv(65536)  # type: ignore[union-attr]

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()
        _close(sockets)


def _close(sockets: Sequence[socket.socket]) -> None:
    for connection in sockets:
        connection.close()


def _busy(client: Any) -> float:
    """Return for how many seconds the server has used its processor."""
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


if __name__ == "__main__":
    main()
