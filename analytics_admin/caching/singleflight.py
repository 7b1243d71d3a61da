"""Single flight: of the callers in one process that miss the same value, one works on it.

The others wait for that flight. Its end wakes them all, without polling. Which process computes
is decided by a lease in the store: see ``lease``.

A flight may have ended its work in the store before a caller joins it: the reply is still on its
way. The value can be cleared at that time. So a caller takes a result only if the value counted
after the caller's own look at the store, or was computed after it.

A flight may never end: its event loop is closed, or its backend hangs. Then the next caller leads
another. What garbage collection may call here takes no lock that its own thread could hold.
"""

import asyncio
import copy
import math
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from typing import Literal, NamedTuple

from analytics_admin.caching.stores.base import Claim, EntryKeys

MAX_FLIGHT_LEASES = 10.0
"""A flight that takes longer than this many leases is hung: another caller leads a new one."""

Epochs = frozenset[str]


class FlightResult(NamedTuple):
    """What a flight brings to the callers that wait for it."""

    text: str
    """The encoded value."""
    state: Literal["hit", "miss", "bypass"]
    """Its state for a caller that takes it: a hit, unless it was not stored."""
    stored_at: float
    """This process' monotonic clock when the value was stored."""
    computed_in: float
    """Seconds that its computation took."""
    counted_at: float = -math.inf
    """This process' monotonic clock just before it sent the request that stored the value or found
    it fresh: the value counted at some later time."""
    computed_from: float = -math.inf
    """This process' monotonic clock when its computation began, if it was computed here."""
    epochs: Epochs = frozenset()
    """The epochs of which one was accepted when the flight began, if it could not store."""
    is_unanswered: bool = False
    """The store has not said whether it took the value: another process' ``delete`` or ``set`` may
    have ended it."""

    def needs_look(self, caller: "Caller") -> bool:
        """Say whether the caller has to look at the store before it takes it."""
        return self.is_unanswered and self.computed_from <= caller.began_at

    def may_be_taken(self, caller: "Caller") -> bool:
        """Say whether the caller may take it."""
        if self.computed_from > caller.began_at or self.counted_at > caller.looked_at:
            return True
        return self.state == "bypass" and _agree(self.epochs, caller.accepted)


class Caller(NamedTuple):
    """What a caller of a flight knows, by this process' monotonic clock."""

    began_at: float
    """Before it looked at the store: what is computed from then on is its own affair."""
    looked_at: float
    """After it looked at the store: what counts from then on, has not been cleared before."""
    accepted: Epochs | None
    """The epochs that it found accepted; None: it could not look."""


def _agree(epochs: Epochs | None, accepted: Epochs | None) -> bool:
    """Say whether no clear lies between two looks, as far as anybody knows."""
    if epochs is None or accepted is None:
        return True
    return epochs == accepted or not epochs.isdisjoint(accepted)


class FlightFailure(NamedTuple):
    """The exception with which a flight ended."""

    error: Exception


class FlightRefusal(NamedTuple):
    """What was computed does not count: it was cleared, set or deleted meanwhile."""


REFUSED = FlightRefusal()
FlightEnd = FlightResult | FlightFailure | FlightRefusal | None
"""None: its caller left. Who waits looks again."""


class Flight:
    """One caller's work on a value: its computation, or its wait for another process'."""

    __slots__ = (
        "awaits",
        "claim",
        "claimed_at",
        "epochs",
        "expires_at",
        "future",
        "is_background",
        "keys",
        "lease",
        "loop",
        "replaces",
    )

    def __init__(self, keys: EntryKeys, lease: float) -> None:
        self.keys = keys
        self.lease = lease
        """Seconds of one lease."""
        self.is_background = False
        """True: its caller was served a stale value and does not wait for it."""
        self.epochs: Epochs | None = None
        """Epochs of which one must be accepted for its value to count, once they are known."""
        self.claimed_at = -math.inf
        """This process' monotonic clock when it heard of these epochs."""
        self.claim: Claim | None = None
        """The lease that it holds."""
        self.replaces: Flight | None = None
        """A flight of the same value that came to no end; its lease is of no use."""
        self.awaits: set[Flight] = set()
        """The flights that its computation waits for."""
        self.loop = running_loop()
        """The event loop that runs the flight; a caller that waits must not block it."""
        self.expires_at = 0.0
        self.future: Future[FlightEnd] = Future()
        self.future.set_running_or_notify_cancel()  # a cancelled waiter must not cancel the flight
        self.extend()

    def extend(self) -> None:
        """Note that the flight goes on; its next part may take all the time again."""
        self.expires_at = time.monotonic() + MAX_FLIGHT_LEASES * self.lease

    @property
    def is_alive(self) -> bool:
        """Whether it may still come to an end."""
        if self.future.done() or time.monotonic() > self.expires_at:
            return False
        return self.loop is None or self.loop.is_running()

    def may_still_compute(self) -> bool:
        """Say whether nothing but its age speaks against it."""
        return not self.future.done() and (self.loop is None or self.loop.is_running())


current_flights: ContextVar[tuple[Flight, ...]] = ContextVar("current_flights", default=())
"""The flights that this thread or task computes for, also those of the code that started it."""


class SingleFlight:
    """The flights of one process."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the running flights are its parent's."""
        self._lock = threading.RLock()  # a garbage collection in join() may end another flight
        self._flights: dict[EntryKeys, Flight] = {}

    @property
    def number(self) -> int:
        """How many flights there are."""
        return len(self._flights)

    def join(self, keys: EntryKeys, caller: Caller, *, lease: float) -> tuple[Flight, bool]:
        """Return the flight for these keys, and whether the caller has to lead it.

        A caller does not join a flight under other epochs than those that it found: the cache was
        cleared since, and will refuse that value. If it found none, those of the flight may have
        been created after its look.
        """
        new = Flight(keys, lease)
        with self._lock:
            flight = self._flights.get(keys)
            if flight is not None and flight.is_alive:
                is_new = not caller.accepted and caller.began_at < flight.claimed_at
                if is_new or _agree(flight.epochs, caller.accepted):
                    return flight, False
            elif flight is not None:
                new.replaces = flight
            self._flights[keys] = new
            return new, True

    def end(self, flight: Flight, outcome: FlightEnd = None) -> None:
        """End a flight and wake the callers that wait for it. Only the first end counts."""
        if flight.future.done():
            return
        self._remove(flight)
        with suppress(InvalidStateError):  # another thread ends it at this moment
            flight.future.set_result(outcome)

    def detach(self, entry: str = "", tag_keys: tuple[str, ...] = ()) -> None:
        """Have no later caller join the flights of a value, or of the values with these tags.

        This process has just set, deleted or cleared them.
        """
        if not self._flights:
            return
        with self._lock:
            for flight in list(self._flights.values()):
                keys = flight.keys
                if keys.entry == entry or not set(tag_keys).isdisjoint(keys.tags):
                    self._remove(flight)

    def _remove(self, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(flight.keys) is flight:
                del self._flights[flight.keys]


def is_being_computed_here(keys: EntryKeys) -> bool:
    """Say whether the caller is itself part of a computation of this value."""
    return any(flight.keys == keys and not flight.future.done() for flight in current_flights.get())


def waits_for_itself(flight: Flight) -> bool:
    """Say whether the flight waits, through others, for a computation that the caller is part of.

    Each caller adds what it waits for before it asks, so at least one of a circle notices.
    """
    own, reached, pending = current_flights.get(), {flight}, [flight]
    while own and pending:
        for awaited in tuple(pending.pop().awaits):
            if awaited not in reached and not awaited.future.done():
                reached.add(awaited)
                pending.append(awaited)
    return not reached.isdisjoint(own)


def fresh_copy(error: Exception) -> Exception:
    """Return a copy of an exception that another caller can raise as its own.

    A shared one would collect the traceback of each. If it cannot be copied, it is shared.
    """
    try:
        twin = copy.copy(error)
        if type(twin) is not type(error):
            raise TypeError  # its class restores as another one
    except Exception:
        try:
            twin = type(error).__new__(type(error), *error.args)
            twin.__dict__.update(error.__dict__)
        except Exception:
            return error
    if notes := getattr(error, "__notes__", None):
        twin.__notes__ = list(notes)
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
