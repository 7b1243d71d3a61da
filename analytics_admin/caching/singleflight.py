"""Single flight: of the callers in one process that miss the same value, one works on it.

The others wait for that flight. Its end wakes them all, without polling. Which process computes
is decided by a lease in the store: see ``lease``.

A flight may have ended its work in the store before a caller joins it: the reply is still on its
way. The value can be cleared at that time. So a caller takes a result only if the value counted
after the caller's own look at the store.
"""

import asyncio
import threading
from concurrent.futures import Future
from contextvars import ContextVar
from typing import NamedTuple

from analytics_admin.caching.stores.base import EntryKeys


class FlightResult(NamedTuple):
    """What a flight brings to the callers that wait for it."""

    text: str
    """The encoded value."""
    counted_at: float
    """This process' monotonic clock just before it sent the request that stored the value or found
    it fresh: the value counted at some later time."""
    stored_at: float
    """This process' monotonic clock when the value was stored."""
    computed_in: float
    """Seconds that its computation took."""


class Flight:
    """One caller's work on a value: its computation, or its wait for another process'."""

    __slots__ = ("epochs", "future", "is_background", "keys", "loop")

    def __init__(self, keys: EntryKeys) -> None:
        self.keys = keys
        self.is_background = False
        """True: its caller was served a stale value and does not wait for it."""
        self.epochs: str | None = None
        """The epochs that the value would carry, once they are known."""
        self.loop = running_loop()
        """The event loop that runs the flight; a caller that waits must not block it."""
        self.future: Future[FlightResult | None] = Future()
        self.future.set_running_or_notify_cancel()  # a cancelled waiter must not cancel the flight


current_flights: ContextVar[tuple[Flight, ...]] = ContextVar("current_flights", default=())
"""The flights that this thread or task computes for, also those of the code that started it."""


class SingleFlight:
    """The flights of one process; must not be used after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[EntryKeys, Flight] = {}

    def join(self, keys: EntryKeys, *, accepted: frozenset[str]) -> tuple[Flight, bool]:
        """Return the flight for these keys, and whether the caller has to lead it.

        ``accepted`` are the epochs that the caller has read as accepted. It does not join a flight
        under other epochs: the cache was cleared since, and will refuse that value.
        """
        with self._lock:
            flight = self._flights.get(keys)
            if flight is not None and (flight.epochs is None or flight.epochs in accepted):
                return flight, False
            flight = self._flights[keys] = Flight(keys)
            return flight, True

    def end(self, flight: Flight, result: FlightResult | None = None) -> None:
        """End the caller's own flight and wake the callers that wait for it.

        Without a result they look again. Only the first end counts.
        """
        if flight.future.done():
            return
        with self._lock:
            if self._flights.get(flight.keys) is flight:
                del self._flights[flight.keys]
        flight.future.set_result(result)


def is_being_computed_here(keys: EntryKeys) -> bool:
    """Say whether the caller is itself part of a computation of this value."""
    return any(flight.keys == keys and not flight.future.done() for flight in current_flights.get())


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
