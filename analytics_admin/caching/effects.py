"""The effects of a lookup that found no fresh value, as data; and how they are carried out.

A lookup is written once, as a generator of effects. ``run`` carries them out in a thread; ``arun``
does so in an event loop without blocking it.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.codec import decode
from analytics_admin.caching.singleflight import (
    Flight,
    FlightEnd,
    current_flights,
    running_loop,
)
from analytics_admin.caching.stores.access import StoreAccess, StoreBypassed, StoreCall
from analytics_admin.stores.latency import CallerWait

State = Literal["hit", "miss", "stale", "bypass"]


class TextLookup(NamedTuple):
    """A value from the search cache as JSON, and where it comes from."""

    text: str
    state: State
    age: float
    """Seconds since the value was stored."""

    def decoded(self) -> "Lookup":
        """Return the value itself, which is the caller's own to change."""
        return Lookup(decode(self.text), self.state, self.age)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value from the search cache, and where it comes from."""

    value: Any
    state: State
    """``hit``: fresh from the cache. ``miss``: computed by this call. ``stale``: past its timeout.
    ``bypass``: computed because the store is unavailable or full, by this call or by another one
    of this process at the same time."""
    age: float
    """Seconds since the value was stored."""


class CallStore(NamedTuple):
    """Call the store; answered with the result, or None if the store is unavailable."""

    call: StoreCall[Any]
    is_owed: bool = False
    """Whether it is made in any case: answered with None if the caller waits no longer for it."""


class Sleep(NamedTuple):
    seconds: float


class WaitFor(NamedTuple):
    """Wait for another caller's flight, as long as it is alive; answered with a FlightWait."""

    flight: Flight


class FlightWait(NamedTuple):
    has_ended: bool
    """False: it came to no end, or would need the caller's own thread."""
    outcome: FlightEnd


NO_END = FlightWait(False, None)


class InBackground(NamedTuple):
    """Carry out these effects in the background; answered with whether that will happen."""

    refreshes: BackgroundRefreshes
    effects: "Effects"
    on_cut_off: Callable[[], object]
    """Called if they are cut off, also before they began."""


class Compute(NamedTuple):
    """Compute the value, as a part of a flight; answered with a Computation."""

    flight: Flight | None = None


class Computation(NamedTuple):
    value: Any
    error: Exception | None
    began_at: float
    """This process' monotonic clock."""
    seconds: float


LOOK_SECONDS = 0.25
"""Seconds after which a waiting caller looks whether the flight is still alive."""


Answer = TextLookup | Exception
"""The end of a lookup; the exception is the computation's own, or says why it cannot be stored."""
Effect = CallStore | Sleep | WaitFor | InBackground | Compute
Effects = Generator[Effect, Any, Answer]


def run(
    effects: Effects,
    access: StoreAccess,
    compute: Callable[[], Any],
    caller: CallerWait | None = None,
) -> TextLookup:
    """Carry out a lookup's effects in this thread and return its answer.

    ``caller`` holds what it has waited for the store before.
    """
    reply: Any = None
    caller = caller or CallerWait()
    try:
        while True:
            reply = _do(effects.send(reply), access, compute, caller)
    except StopIteration as end:
        return _return_or_raise(end.value)
    finally:
        effects.close()  # returns the lease if this thread was interrupted


async def arun(
    effects: Effects,
    access: StoreAccess,
    compute: Callable[[], Any],
    caller: CallerWait | None = None,
) -> TextLookup:
    """Carry out a lookup's effects in a task. ``compute`` may return an awaitable."""
    reply: Any = None
    caller = caller or CallerWait()
    try:
        while True:
            reply = await _ado(effects.send(reply), access, compute, caller)
    except StopIteration as end:
        return _return_or_raise(end.value)
    finally:
        effects.close()


def _return_or_raise(answer: Answer) -> TextLookup:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _do(effect: Effect, access: StoreAccess, compute: Callable[[], Any], caller: CallerWait) -> Any:
    match effect:
        case CallStore(call, is_owed=True) if caller.is_over:
            access.post(call)
        case CallStore(call):
            with suppress(StoreBypassed):
                return access.run(call, caller)
        case Sleep(seconds):
            time.sleep(seconds)
            caller.renew()
        case WaitFor(flight):
            return _wait(flight)
        case InBackground(refreshes, effects, _):
            return refreshes.start(partial(run, effects, access, compute))
        case Compute(flight):
            with _part_of(flight):
                return _compute(compute)
    return None


def _wait(flight: Flight) -> FlightWait:
    if flight.loop is not None and flight.loop is running_loop():
        return NO_END  # the flight needs this very thread to go on
    while True:
        try:
            return FlightWait(True, flight.future.result(timeout=LOOK_SECONDS))
        except TimeoutError:
            if not flight.is_alive:
                return _end_of(flight)


def _end_of(flight: Flight) -> FlightWait:
    return FlightWait(True, flight.future.result()) if flight.future.done() else NO_END


@contextmanager
def _part_of(flight: Flight | None) -> Iterator[None]:
    """Have the code in the block, and the tasks that it starts, be part of the flight."""
    if flight is None:
        yield
        return
    reset_token = current_flights.set((*current_flights.get(), flight))
    try:
        yield
    finally:
        with suppress(ValueError):  # a task that is closed elsewhere could not reset it
            current_flights.reset(reset_token)


def _compute(compute: Callable[[], Any]) -> Computation:
    started = time.monotonic()
    try:
        return Computation(compute(), None, started, time.monotonic() - started)
    except Exception as error:  # the caller's own; raised to it in the end
        return Computation(None, error, started, time.monotonic() - started)


async def _ado(
    effect: Effect, access: StoreAccess, compute: Callable[[], Any], caller: CallerWait
) -> Any:
    match effect:
        case CallStore(call, is_owed=True) if caller.is_over:
            access.post(call)
        case CallStore(call, is_owed):
            with suppress(StoreBypassed):
                return await access.arun(call, caller, is_owed=is_owed)
        case Sleep(seconds):
            await asyncio.sleep(seconds)
            caller.renew()
        case WaitFor(flight):
            return await _await(flight)
        case InBackground(refreshes, effects, on_cut_off):
            return refreshes.astart(partial(arun, effects, access, compute), on_cut_off)
        case Compute(flight):
            with _part_of(flight):
                return await _acompute(compute)
    return None


async def _await(flight: Flight) -> FlightWait:
    while True:
        future = asyncio.wrap_future(flight.future)
        try:
            return FlightWait(True, await asyncio.wait_for(future, LOOK_SECONDS))
        except TimeoutError:
            if not flight.is_alive:
                return _end_of(flight)


async def _acompute(compute: Callable[[], Any]) -> Computation:
    started = time.monotonic()
    try:
        value = compute()
        if inspect.isawaitable(value):
            value = await value
        return Computation(value, None, started, time.monotonic() - started)
    except Exception as error:  # the caller's own; raised to it in the end
        return Computation(None, error, started, time.monotonic() - started)
