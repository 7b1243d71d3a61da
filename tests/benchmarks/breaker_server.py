"""What processes with healthy breakers cost the server, and how long its scripts take."""

import multiprocessing
import random
import re
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import redis
from redis.connection import AbstractConnection

from analytics_admin.breakers import CircuitBreaker, circuit_breaker, runtime
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.policy import TIME_BASED, BreakerPolicy
from analytics_admin.breakers.schedule import YOUNG_SECONDS
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from tests.benchmarks.breaker_bench import Line, set_up
from tests.benchmarks.breaker_timing import nothing

BREAKERS = 50
PROCESSES = 200
SECONDS = 10.0
SETTLES_AFTER = YOUNG_SECONDS + 2.0
"""Seconds until a process tells of healthy breakers as seldom as it will."""
TIME_WINDOW: dict[str, Any] = {
    "failure_rate_threshold": 50,
    "sliding_window_type": TIME_BASED,
    "sliding_window_size": 60,
}
KINDS: dict[str, tuple[dict[str, Any], bool, float, float | None]] = {
    "without windows": ({}, True, 1.5, 0.2),
    "with 60 s windows": (TIME_WINDOW, True, 5.5, 2.0),
    "idle": ({}, False, 1.2, None),
}
"""Policy, whether calls go on, and bounds: commands a second, the server's ms a second."""
_COMMAND = re.compile(rb"(?:^|\r\n)\*\d+\r\n\$")


def server_costs(url: str, rounds: int) -> list[Line]:
    """Have one process use its breakers, one kind after the other; reckon what many cost."""
    lines, windows = [], 0.0
    for kind, (policy, goes_on, most_commands, most_work) in KINDS.items():
        commands, work = _costs(url, kind, policy, goes_on)
        process = f"a process with {BREAKERS} breakers, {kind}"
        lines += [
            Line(measure=f"{process}: commands/s", values=[commands], bound=most_commands),
            Line(measure=f"{process}: server", values=[work], unit="ms/s", bound=most_work),
        ]
        windows = max(windows, work)
    share, fleet = PROCESSES * windows / 10, f"{PROCESSES} such processes"
    lines += [
        Line(measure=f"{fleet}: server's core, reckoned", values=[share], unit="%"),
        Line(
            measure=f"{fleet}: server's core, all at once",
            values=[_in_a_process(_use_as_a_fleet, url)],
            unit="%",
            bound=40,
        ),
    ]
    return lines + _scripts(url, rounds)


def _costs(url: str, kind: str, policy: dict[str, Any], goes_on: bool) -> tuple[float, float]:
    """Return commands, and milliseconds of the server, per second."""
    result: tuple[float, float] = _in_a_process(_use, url, kind, policy, goes_on)
    return result


def _in_a_process(measure: Callable[..., None], *arguments: Any) -> Any:
    """Return what it sends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(*arguments, theirs), daemon=True)
    process.start()
    result = ours.recv()
    process.terminate()
    process.join()
    return result


def _use_as_a_fleet(url: str, caller: Connection) -> None:
    """Use breakers with windows through as many engines; send what the server's core is busy."""
    set_up(url)
    client, policy = redis.Redis.from_url(url), BreakerPolicy.from_options(TIME_WINDOW)
    calls = []
    for _ in range(PROCESSES):
        engine = Engine(runtime.call_store, lambda event: None)
        for number in range(BREAKERS):
            calls.append(CircuitBreaker(f"fleet-{number}", engine, lambda: policy)(nothing))
    _keep_calling(calls, 2 * SETTLES_AFTER)
    began, before = time.monotonic(), _busy(client)
    _keep_calling(calls, SECONDS)
    caller.send(100 * (_busy(client) - before) / (time.monotonic() - began))


def _busy(client: "redis.Redis") -> float:
    """Return for how many seconds the server has used its processor."""
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _use(url: str, kind: str, policy: dict[str, Any], goes_on: bool, caller: Connection) -> None:
    set_up(url)
    client = redis.Redis.from_url(url)
    prefix = kind.replace(" ", "-")
    calls = [circuit_breaker(f"{prefix}-{number}", **policy)(nothing) for number in range(BREAKERS)]
    _keep_calling(calls, SETTLES_AFTER)
    if not goes_on:
        time.sleep(SETTLES_AFTER)
    client.info("commandstats")
    sent, before = _count_commands(), _work(client)
    began, sent_before = time.monotonic(), sent[0]
    if goes_on:
        _keep_calling(calls, SECONDS)
    else:
        time.sleep(SECONDS)
    passed, number = time.monotonic() - began, sent[0] - sent_before
    caller.send((number / passed, (_work(client) - before) / passed))


def _keep_calling(calls: Sequence[Callable[[], None]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for call in calls:
            call()
        time.sleep(0.01)


def _count_commands() -> list[int]:
    """Count the commands that this process sends from now on."""
    sent, send = [0], AbstractConnection.send_packed_command

    def counting(connection: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        parts = [command] if isinstance(command, bytes | str) else command
        packed = b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)
        sent[0] += len(_COMMAND.findall(packed))
        return send(connection, command, *args, **kwargs)

    AbstractConnection.send_packed_command = counting  # type: ignore[method-assign]
    return sent


def _work(client: "redis.Redis") -> float:
    """Return the milliseconds that the server has spent in scripts, and in what they call."""
    return float(client.info("commandstats")["cmdstat_evalsha"]["usec"] / 1000)


def _scripts(url: str, rounds: int) -> list[Line]:
    """Move and read whole batches while many processes listen."""
    client, store = redis.Redis.from_url(url), runtime.operator_store()
    listeners = [redis.Redis.from_url(url).pubsub() for _ in range(PROCESSES)]
    channel = getattr(store, "_channel", "breakers")
    for listener in listeners:
        listener.subscribe(channel)
    names = [f"batch-{number}" for number in range(100)]
    store.register(names, keep_for=None)
    store.compare_and_set([Move(name=name, expected=None, new=new_record()) for name in names])
    window = BreakerPolicy.from_options(TIME_WINDOW).window
    took: dict[str, list[float]] = {"moves": [], "reads": []}
    for _ in range(10 * rounds):
        before = store.load_many(names).snapshots
        moves = [
            Move(name=name, expected=before[name], new=new_record(), cause="reset", attempt="b")
            for name in random.sample(names, 50)
        ]
        for kind, act in (
            ("moves", lambda moves=moves: store.compare_and_set(moves)),
            ("reads", lambda: store.add([Report(name=name, window=window) for name in names])),
        ):
            work = _work(client)
            act()
            took[kind].append(_work(client) - work)
    for listener in listeners:
        listener.close()
    return [
        Line(
            measure=f"the script that {what}, {PROCESSES} subscribers",
            values=took[kind],
            unit="ms",
            bound=2,
        )
        for kind, what in (("moves", "moves 50 breakers"), ("reads", "reads 100 windows"))
    ]
