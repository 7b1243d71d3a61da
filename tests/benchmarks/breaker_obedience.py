"""When the other processes of a fleet obey a trip, a hold, its release and a reset.

Three processes call all the time; then they rest, and make their next call a moment later. A server
that refuses channels to its users cuts the pushes off. A released breaker lets probes pass: a
process has seen the release when its calls are no longer rejected for the hold, and its first probe
is a round trip later. Beside them: when three bare clients hear of a plain PUBLISH.
"""

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import redis

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker, control
from analytics_admin.breakers.state import Control
from tests.benchmarks.breaker_bench import SYNC_INTERVAL, Line, set_up
from tests.benchmarks.breaker_timing import enduring, fail, nothing

OTHERS = 3
WATCHED = "watched"
HOUR = 3600
BARE = "bare"
RELEASE = "release"
REST = 0.03
"""Seconds after which a process that has rested makes its next call."""
GIVE_UP = 5.0
ACTS: dict[str, tuple[Callable[[], object], bool]] = {
    "trip": (lambda: enduring(_watched()(fail))(1), False),
    "reset": (lambda: control.reset([WATCHED], only_open=False), True),
    "hold": (lambda: _hold(Control.FORCED_OPEN), False),
    RELEASE: (lambda: _hold(Control.AUTOMATIC), True),
}
"""In the order in which they are done; and whether calls pass afterwards."""


def obedience(url: str, rounds: int) -> list[Line]:
    """Do each act some times while the others watch or rest; then again without pushes."""
    client = redis.Redis.from_url(url)
    _watched().call(nothing)
    with _other_processes(url) as others:
        lines = [line for act in ACTS for line in _pushed(act, _seen(act, others, 5 * rounds))]
        lines += [
            Line(
                measure=f"release, a probe passes in {OTHERS} processes after",
                values=_seen(RELEASE, others, 5 * rounds, probe=True),
                unit="ms",
            ),
            Line(
                measure=f"a plain PUBLISH, heard by {OTHERS} bare clients after",
                values=_heard(client, others, 5 * rounds),
                unit="ms",
            ),
        ]
        late = sum(_rested(act, others) for _ in range(rounds) for act in ACTS)
        lines.append(
            Line(
                measure=f"calls that did not obey, by processes idle for {1000 * REST:.0f} ms",
                values=[late],
                bound=0,
                exact=True,
            )
        )
    client.execute_command("ACL", "SETUSER", "default", "resetchannels")
    with _other_processes(url) as others:
        for act in ACTS:
            delays = _seen(act, others, rounds)
            lines.append(
                Line(
                    measure=f"{act} without pushes, seen after: longest",
                    values=[max(delays)],
                    spread=delays,
                    unit="ms",
                    bound=1000 * SYNC_INTERVAL + 50,
                )
            )
    client.execute_command("ACL", "SETUSER", "default", "allchannels")
    return lines


def _pushed(act: str, delays: list[float]) -> list[Line]:
    p99 = statistics.quantiles(delays, n=100)[98]
    return [
        Line(measure=f"{act}, seen by {OTHERS} processes after", values=delays, unit="ms", bound=3),
        Line(measure=f"{act}: p99", values=[p99], spread=delays, unit="ms", bound=25),
    ]


def _seen(act: str, others: list[Connection], times: int, *, probe: bool = False) -> list[float]:
    """Return after how many milliseconds each process obeyed, each time."""
    delays = []
    for _ in range(times):
        _prepare(act, others)
        do, passes = ACTS[act]
        how = RELEASE if act == RELEASE and not probe else "watch"
        delays += _delays(others, (how, passes), do)
    return delays


def _heard(client: Any, others: list[Connection], times: int) -> list[float]:
    """Return after how many milliseconds each process heard of a plain PUBLISH, each time."""
    delays = []
    for _ in range(times):
        delays += _delays(others, (BARE, True), lambda: client.publish(BARE, "x" * 300))
    return delays


def _delays(
    others: list[Connection], order: tuple[str, bool], do: Callable[[], object]
) -> list[float]:
    for other in others:
        other.send(order)
    time.sleep(random.uniform(0.05, 0.05 + SYNC_INTERVAL))  # any phase of their interval
    began = time.monotonic()
    do()
    return [1000 * (other.recv() - began) for other in others]


def _rested(act: str, others: list[Connection]) -> int:
    """Return how many processes did not obey at their next call."""
    _prepare(act, others)
    do, passes = ACTS[act]
    time.sleep(SYNC_INTERVAL)
    do()
    time.sleep(REST)
    for other in others:
        other.send(("call", passes))
    return sum(not other.recv() for other in others)


def _prepare(act: str, others: list[Connection]) -> None:
    """Bring the breaker, and all who watch it, where the act begins."""
    passes = not ACTS[act][1]
    if act == RELEASE:
        _hold(Control.FORCED_OPEN)
    elif act == "reset":
        enduring(_watched()(fail))(1)
    else:
        _hold(Control.AUTOMATIC)
        control.reset([WATCHED], only_open=False)
    for process in (*others, None):
        if process is None:
            _wait_for(_watched()(nothing), passes=passes)
        else:
            process.send(("watch", passes))
            process.recv()


def _hold(held: Control) -> None:
    control.set_control([WATCHED], held, for_seconds=None, actor="benchmark", reason="")


def _watched() -> CircuitBreaker:
    return circuit_breaker(
        WATCHED,
        failure_threshold=1,
        wait_duration_in_open_state=HOUR,
        permitted_number_of_calls_in_half_open_state=OTHERS + 1,  # a release lets all of them probe
    )


@contextmanager
def _other_processes(url: str) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    processes, connections = [], []
    for _ in range(OTHERS):
        ours, theirs = context.Pipe()
        process = context.Process(target=_obey, args=(url, theirs), daemon=True)
        process.start()
        processes.append(process)
        connections.append(ours)
    try:
        yield connections
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _obey(url: str, caller: Connection) -> None:
    set_up(url)
    protected = _watched()(nothing)
    bare = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
    bare.subscribe(BARE)
    while True:
        how, passes = caller.recv()
        if how == "call":
            caller.send(_passes(protected) is passes)
        elif how == BARE:
            while bare.get_message(timeout=GIVE_UP) is None:
                pass  # the confirmation of the subscription
            caller.send(time.monotonic())
        elif how == RELEASE:
            _wait_until(lambda: _watched().state != Control.FORCED_OPEN)
            caller.send(time.monotonic())
        else:
            _wait_for(protected, passes=passes)
            caller.send(time.monotonic())


def _wait_for(protected: Callable[[], object], *, passes: bool) -> None:
    _wait_until(lambda: _passes(protected) is passes)


def _wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + GIVE_UP
    while not is_so() and time.monotonic() < until:
        time.sleep(0.0005)


def _passes(protected: Callable[[], object]) -> bool:
    try:
        protected()
    except CircuitOpenError:
        return False
    return True
