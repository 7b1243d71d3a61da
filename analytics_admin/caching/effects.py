"""The steps of a lookup that found no fresh value, as data; and who takes them.

A lookup is written once, as a generator of steps. ``run`` walks it in a thread, ``arun`` in an
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

from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.singleflight import Flight, FlightResult, running_loop
from analytics_admin.caching.stores.availability import StoreAccess, StoreBypassed, StoreCall


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer of the search cache, and where it comes from."""

    value: Any
    state: Literal["hit", "miss", "stale", "bypass"]
    """``hit``: fresh from the cache. ``miss``: computed by this call. ``stale``: past its time.
    ``bypass``: computed by this call, the store being away."""
    age: float
    """Seconds since the value was stored."""


class CallStore(NamedTuple):
    """Have the store do something; answered with what it returns, None if it is away."""

    step: StoreCall[Any]


class Sleep(NamedTuple):
    seconds: float


class WaitFor(NamedTuple):
    """Wait for another's flight; answered with a Waited."""

    flight: Flight
    seconds: float


class FlightWait(NamedTuple):
    ended: bool
    landing: FlightResult | None


class InBackground(NamedTuple):
    """Have these steps taken while the caller goes on; answered with whether they will be."""

    refreshes: BackgroundRefreshes
    steps: "Effects"


class Compute(NamedTuple):
    """Compute the value; answered with an Outcome."""


class Computation(NamedTuple):
    value: Any
    error: Exception | None
    seconds: float


Answer = Lookup | Exception
"""The end of a lookup; an exception is the computation's own, or says that its result cannot be."""
Effect = CallStore | Sleep | WaitFor | InBackground | Compute
Effects = Generator[Effect, Any, Answer]


def run(steps: Effects, line: StoreAccess, compute: Callable[[], Any]) -> Lookup:
    """Walk the lookup in this thread and return its answer."""
    reply: Any = None
    try:
        while True:
            reply = _do(steps.send(reply), line, compute)
    except StopIteration as end:
        return _settle(end.value)
    finally:
        steps.close()  # it gives back what it holds, if this thread was interrupted


async def arun(steps: Effects, line: StoreAccess, compute: Callable[[], Any]) -> Lookup:
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


def _do(step: Effect, line: StoreAccess, compute: Callable[[], Any]) -> Any:
    match step:
        case CallStore(exchange):
            with suppress(StoreBypassed):
                return line.run(exchange)
        case Sleep(seconds):
            time.sleep(seconds)
        case WaitFor(flight, seconds):
            return _wait(flight, seconds)
        case InBackground(refreshes, steps):
            return refreshes.begin(partial(run, steps, line, compute))
        case Compute():
            return _compute(compute)
    return None


def _wait(flight: Flight, seconds: float) -> FlightWait:
    if flight.loop is not None and flight.loop is running_loop():
        return FlightWait(False, None)  # this very thread is what the flight needs to go on
    try:
        return FlightWait(True, flight.future.result(timeout=max(0.0, seconds)))
    except TimeoutError:
        return FlightWait(False, None)


def _compute(compute: Callable[[], Any]) -> Computation:
    began = time.monotonic()
    try:
        return Computation(compute(), None, time.monotonic() - began)
    except Exception as error:  # the caller's own, raised to it in the end
        return Computation(None, error, time.monotonic() - began)


async def _ado(step: Effect, line: StoreAccess, compute: Callable[[], Any]) -> Any:
    match step:
        case CallStore(exchange):
            with suppress(StoreBypassed):
                return await line.arun(exchange)
        case Sleep(seconds):
            await asyncio.sleep(seconds)
        case WaitFor(flight, seconds):
            return await _await(flight, seconds)
        case InBackground(refreshes, steps):
            return refreshes.abegin(partial(arun, steps, line, compute))
        case Compute():
            return await _acompute(compute)
    return None


async def _await(flight: Flight, seconds: float) -> FlightWait:
    awaited = asyncio.wrap_future(flight.future)
    try:
        return FlightWait(True, await asyncio.wait_for(awaited, max(0.0, seconds)))
    except TimeoutError:
        return FlightWait(False, None)


async def _acompute(compute: Callable[[], Any]) -> Computation:
    began = time.monotonic()
    try:
        value = compute()
        if inspect.isawaitable(value):
            value = await value
        return Computation(value, None, time.monotonic() - began)
    except Exception as error:  # the caller's own, raised to it in the end
        return Computation(None, error, time.monotonic() - began)
