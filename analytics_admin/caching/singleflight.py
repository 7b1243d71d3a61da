"""Who in this process is at work on a missing value, so that its other callers wait for that one.

Knows nothing of a store. A flight's end wakes all that wait for it, without one poll of theirs.
"""

import asyncio
import threading
from concurrent.futures import Future
from contextvars import ContextVar
from typing import NamedTuple

from analytics_admin.caching.stores.availability import never_cancelled
from analytics_admin.caching.stores.base import EntryKeys


class FlightResult(NamedTuple):
    """What a flight brings to those who wait for it."""

    text: str
    """The encoded value."""
    born: float
    """This process' monotonic clock when it was stored."""
    computed_in: float
    """Seconds that its computation took."""


class Flight:
    """One caller's way to a value: its computation, or its wait for another process'."""

    __slots__ = ("future", "is_behind", "loop", "place", "stamp")

    def __init__(self, place: EntryKeys) -> None:
        self.place = place
        self.is_behind = False
        """True: it is led behind the back of the caller, who was served."""
        self.stamp: str | None = None
        """What the value would carry, once that is known."""
        self.loop = running_loop()
        """The event loop that a caller must not block who waits for this flight."""
        self.future: Future[FlightResult | None] = never_cancelled()


within: ContextVar[tuple[Flight, ...]] = ContextVar("within", default=())
"""The computations that this thread or task is in the middle of, or was begun by."""


class SingleFlight:
    """The flights of one process; not to be used on the other side of a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[EntryKeys, Flight] = {}

    def join(self, place: EntryKeys, *, stamps: frozenset[str]) -> tuple[Flight, bool]:
        """Return the flight to this place, and whether it is the caller's own to lead.

        ``stamps`` are what the caller has seen accepted. A flight under another one is left to
        itself: the store was cleared since, and will refuse its value.
        """
        with self._lock:
            flight = self._under_way.get(place)
            if flight is not None and (flight.stamp is None or flight.stamp in stamps):
                return flight, False
            flight = self._under_way[place] = Flight(place)
            return flight, True

    def end(self, flight: Flight, landing: FlightResult | None = None) -> None:
        """End the caller's own flight and wake those who wait for it.

        Without a landing there is nothing for them, and they look again. Ends but once.
        """
        if flight.future.done():
            return
        with self._lock:
            if self._under_way.get(flight.place) is flight:
                del self._under_way[flight.place]
        flight.future.set_result(landing)


def is_being_computed_here(place: EntryKeys) -> bool:
    """Say whether the caller is part of a computation of this very value."""
    return any(outer.place == place and not outer.future.done() for outer in within.get())


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
