"""Loops of calls, and the time of a call in them: contestants take turns.

What waits for no server is timed by the processor time of the whole process, in many short turns:
other work on the machine disturbs that little, and our figures hold what the reporter does. What
waits is timed by the clock, in turns longer than SYNC_INTERVAL.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from typing import Any

from analytics_admin.breakers import CircuitBreaker
from tests.benchmarks.breaker_bench import SYNC_INTERVAL

TURN = 1.1 * SYNC_INTERVAL
SHORT_TURN = 0.03
clock = time.monotonic
Clock = Callable[[], float]
Calls = Callable[[int], None]
"""Makes that many calls."""


def nothing() -> None:
    return None


def fail() -> None:
    raise OSError


async def nothing_async() -> None:
    return None


def watching(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that takes any arguments, reads the clock twice and looks at errors: no more."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            raise RuntimeError(began) from error
        clock()
        return result

    return watched


def watching_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """What ``watching`` is to plain functions."""

    async def watched(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            raise RuntimeError(began) from error
        clock()
        return result

    return watched


def calling(function: Callable[[], Any]) -> Calls:
    def calls(number: int) -> None:
        for _ in repeat(None, number):
            function()

    return calls


def awaiting(function: Callable[[], Any]) -> Calls:
    async def loop(number: int) -> None:
        for _ in repeat(None, number):
            await function()

    return lambda number: asyncio.run(loop(number))


def entering(block: AbstractContextManager[Any]) -> Calls:
    def calls(number: int) -> None:
        for _ in repeat(None, number):
            with block:
                pass

    return calls


def calling_through(breaker: CircuitBreaker) -> Calls:
    def calls(number: int) -> None:
        for _ in repeat(None, number):
            breaker.call(nothing)

    return calls


def looping(number: int) -> None:
    for _ in repeat(None, number):
        pass


def enduring(function: Callable[[], Any]) -> Calls:
    """Calls that raise: the function's own error, or a breaker's no."""

    def calls(number: int) -> None:
        for _ in repeat(None, number):
            try:
                function()
            except Exception:
                continue

    return calls


def measure(contestants: dict[str, Calls], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per call of each contestant in each round."""
    return _measure(contestants, rounds, TURN, time.perf_counter)


def measure_work(contestants: dict[str, Calls], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of processor time per call of each contestant in each of ten turns."""
    return _measure(contestants, 10 * rounds, SHORT_TURN, time.process_time)


def _measure(
    contestants: dict[str, Calls], rounds: int, turn: float, clock: Clock
) -> dict[str, list[float]]:
    sizes = {name: _size(calls, turn, clock) for name, calls in contestants.items()}
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, calls in contestants.items():
            seen[name].append(_seconds(calls, sizes[name], clock) / sizes[name])
    return seen


def _size(calls: Calls, turn: float, clock: Clock) -> int:
    """Return how many calls take about a turn."""
    number = 1
    while (took := _seconds(calls, number, clock)) < turn / 5:
        number *= 4
    return max(1, int(number * turn / took))


def _seconds(calls: Calls, number: int, clock: Clock) -> float:
    calls(1)  # a breaker that was idle meanwhile is read again
    with _without_collector():
        began = clock()
        calls(number)
        return clock() - began


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
