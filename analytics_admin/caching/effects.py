"""The steps of a lookup that found no fresh value, as data; and who takes them.

A lookup is written once, as a generator of steps. ``take`` walks it in a thread, ``atake`` in an
event loop, which it never blocks.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from analytics_admin.caching.background import Refreshes
from analytics_admin.caching.singleflight import Flight, Landing, running_loop
from analytics_admin.caching.stores.availability import Away, Line, Step


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer of the search cache, and where it comes from."""

    value: Any
    state: Literal["hit", "miss", "stale", "bypass"]
    """``hit``: fresh from the cache. ``miss``: computed by this call. ``stale``: past its time.
    ``bypass``: computed by this call, the store being away."""
    age: float
    """Seconds since the value was stored."""


class Exchange(NamedTuple):
    """Have the store do something; answered with what it returns, None if it is away."""

    step: Step[Any]


class Pause(NamedTuple):
    seconds: float


class Wait(NamedTuple):
    """Wait for another's flight; answered with a Waited."""

    flight: Flight
    seconds: float


class Waited(NamedTuple):
    ended: bool
    landing: Landing | None


class Behind(NamedTuple):
    """Have these steps taken while the caller goes on; answered with whether they will be."""

    refreshes: Refreshes
    steps: "Steps"


class Compute(NamedTuple):
    """Compute the value; answered with an Outcome."""


class Outcome(NamedTuple):
    value: Any
    error: Exception | None
    seconds: float


Answer = Lookup | Exception
"""The end of a lookup; an exception is the computation's own, or says that its result cannot be."""
AnyStep = Exchange | Pause | Wait | Behind | Compute
Steps = Generator[AnyStep, Any, Answer]


def take(steps: Steps, line: Line, compute: Callable[[], Any]) -> Lookup:
    """Walk the lookup in this thread and return its answer."""
    reply: Any = None
    try:
        while True:
            reply = _do(steps.send(reply), line, compute)
    except StopIteration as end:
        return _settle(end.value)
    finally:
        steps.close()  # it gives back what it holds, if this thread was interrupted


async def atake(steps: Steps, line: Line, compute: Callable[[], Any]) -> Lookup:
    """Walk the lookup in a task and return its answer. ``compute`` may return an awaitable."""
    reply: Any = None
    try:
        while True:
            reply = await _ado(steps.send(reply), line, compute)
    except StopIteration as end:
        return _settle(end.value)
    finally:
        steps.close()


def _settle(answer: Answer) -> Lookup:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _do(step: AnyStep, line: Line, compute: Callable[[], Any]) -> Any:
    match step:
        case Exchange(exchange):
            with suppress(Away):
                return line.run(exchange)
        case Pause(seconds):
            time.sleep(seconds)
        case Wait(flight, seconds):
            return _wait(flight, seconds)
        case Behind(refreshes, steps):
            return refreshes.begin(partial(take, steps, line, compute))
        case Compute():
            return _compute(compute)
    return None


def _wait(flight: Flight, seconds: float) -> Waited:
    if flight.loop is not None and flight.loop is running_loop():
        return Waited(False, None)  # this very thread is what the flight needs to go on
    try:
        return Waited(True, flight.future.result(timeout=max(0.0, seconds)))
    except TimeoutError:
        return Waited(False, None)


def _compute(compute: Callable[[], Any]) -> Outcome:
    began = time.monotonic()
    try:
        return Outcome(compute(), None, time.monotonic() - began)
    except Exception as error:  # the caller's own, raised to it in the end
        return Outcome(None, error, time.monotonic() - began)


async def _ado(step: AnyStep, line: Line, compute: Callable[[], Any]) -> Any:
    match step:
        case Exchange(exchange):
            with suppress(Away):
                return await line.arun(exchange)
        case Pause(seconds):
            await asyncio.sleep(seconds)
        case Wait(flight, seconds):
            return await _await(flight, seconds)
        case Behind(refreshes, steps):
            return refreshes.abegin(partial(atake, steps, line, compute))
        case Compute():
            return await _acompute(compute)
    return None


async def _await(flight: Flight, seconds: float) -> Waited:
    awaited = asyncio.wrap_future(flight.future)
    try:
        return Waited(True, await asyncio.wait_for(awaited, max(0.0, seconds)))
    except TimeoutError:
        return Waited(False, None)


async def _acompute(compute: Callable[[], Any]) -> Outcome:
    began = time.monotonic()
    try:
        value = compute()
        if inspect.isawaitable(value):
            value = await value
        return Outcome(value, None, time.monotonic() - began)
    except Exception as error:  # the caller's own, raised to it in the end
        return Outcome(None, error, time.monotonic() - began)
