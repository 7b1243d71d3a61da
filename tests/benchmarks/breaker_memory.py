"""What a breaker takes while nobody uses it: in the process, and in the store."""

import gc
import multiprocessing
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import redis

from analytics_admin.breakers import CircuitBreaker, circuit_breaker, runtime
from analytics_admin.breakers.history import MAX_TRANSITIONS
from tests.benchmarks.breaker_bench import Line, set_up, undisturbed
from tests.benchmarks.breaker_many import (
    COUNT_WINDOW,
    IDLE_AFTER,
    TIME_WINDOW,
    count,
    successes_in_last_seconds,
)
from tests.benchmarks.breaker_reset import open_all
from tests.benchmarks.breaker_timing import nothing
from tests.support.servers import StoreServer

BREAKERS = 10_000
LONG_USED = 200
SECONDS_IN_USE = 7  # a breaker then holds all the counts that it ever holds
PROCESS_BOUND, STORE_BOUND = 2048, 1024
SOME = 20


def idle_breakers() -> list[Line]:
    """Use breakers in a process of its own, on a server of its own, and then no more."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with StoreServer() as store:
        process = context.Process(target=_use_many, args=(store.url, theirs), daemon=True)
        process.start()
        lines: list[Line] = ours.recv()
        process.join()
    return lines


def _use_many(url: str, caller: Connection) -> None:
    set_up(url)
    caller.send(undisturbed(lambda: _measured(url)))


def _measured(url: str) -> list[Line]:
    client = redis.Redis.from_url(url)
    breaker = circuit_breaker("first")
    _use(breaker)  # what the first one needs is not the others'
    client.flushall()
    in_process = _traced(lambda: _use_each(BREAKERS)) / BREAKERS
    in_store = _stored(client) / BREAKERS
    client.flushall()  # or there would be no place for more
    long_used = _traced(lambda: _use_for_long(LONG_USED)) / LONG_USED
    decorated: list[Any] = [None] * 1000
    decorators = _traced(lambda: _decorate(breaker, decorated)) / len(decorated)
    return [
        _line("in the process", in_process, PROCESS_BOUND),
        _line(f"in the process, after {SECONDS_IN_USE} s of use", long_used, PROCESS_BOUND),
        _line("each function it decorates", decorators),
        _line("in the store", in_store, STORE_BOUND),
        *(_line(f"in the store, {kind}", _stored_by(client, kind)) for kind in KINDS),
    ]


def _line(where: str, size: float, bound: float | None = None) -> Line:
    return Line(measure=f"idle breaker, {where}", values=[size], unit="B", bound=bound)


def _use(breaker: CircuitBreaker) -> None:
    assert breaker.call(nothing) is None


def _use_each(count: int) -> None:
    for number in range(count):
        _use(circuit_breaker(f"backend-{number}"))


def _use_for_long(count: int) -> None:
    breakers = [circuit_breaker(f"long-used-{number}") for number in range(count)]
    until = time.monotonic() + SECONDS_IN_USE
    while time.monotonic() < until:
        for breaker in breakers:
            _use(breaker)
        time.sleep(0.05)


def _decorate(breaker: CircuitBreaker, decorated: list[Any]) -> None:
    for number in range(len(decorated)):
        decorated[number] = breaker(nothing)


def _traced(act: Callable[[], None]) -> int:
    """Return the bytes that Python holds more than before once all that was used is at rest."""
    gc.collect()
    tracemalloc.start()
    act()
    while runtime.engine.schedule.followed:  # ten seconds after its last call, or a little more
        time.sleep(0.1)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


def _stored(client: "redis.Redis") -> int:
    """Return the bytes of all keys, the list of names among them."""
    return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))


def _stored_by(client: "redis.Redis", kind: str) -> float:
    """Return the bytes in the store of each of some breakers of the kind."""
    time.sleep(IDLE_AFTER)  # until no other breaker would be registered again
    client.flushall()
    policy, prepare = KINDS[kind]
    for number in range(SOME):
        breaker = circuit_breaker(f"{len(policy)}-{number}", **policy)
        _use(breaker)
        prepare(breaker)
    return _stored(client) / SOME


def _fill(breaker: CircuitBreaker) -> None:
    count(breaker, successes_in_last_seconds(60))


def _alternate(breaker: CircuitBreaker) -> None:
    for _ in range(50):
        count(breaker, successes_in_last_seconds(1), failures=1)


def _move(breaker: CircuitBreaker) -> None:
    for _ in range(MAX_TRANSITIONS):
        open_all([breaker.name])


KINDS: dict[str, tuple[dict[str, Any], Callable[[CircuitBreaker], None]]] = {
    "count window of 100, alternating": (COUNT_WINDOW, _alternate),
    "time window of 60 s, full": (TIME_WINDOW, _fill),
    "20 transitions": ({}, _move),
}
