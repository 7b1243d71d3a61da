"""Leases while a computation takes long: renewed, and given back if it cannot end.

One thread per process, begun at its first miss. A process without threads renews nothing: another
process takes over when the lease is over.
"""

import queue
import time
from collections.abc import Callable
from contextlib import suppress

from analytics_admin.caching.singleflight import Flight
from analytics_admin.caching.stores.access import StoreAccess, StoreBypassed
from analytics_admin.caching.stores.base import Claim, EntryKeys, Store
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.threads import KeptThread, start_plain_thread

logger = get_logger("analytics_admin.caching")

RENEW_AT = 0.6
"""A lease is renewed when this share of it is over."""
MAX_RENEWALS = 12
"""A computation that takes longer hangs: another process may take over."""
THREAD_NAME = "search cache leases"
RETRY_SHARE = 0.1
"""Share of a lease after which a renewal that the store did not carry out is tried again."""


class _Held:
    """A lease that this process holds."""

    __slots__ = ("claim", "due", "flight", "renewals")

    def __init__(self, flight: Flight, claim: Claim) -> None:
        self.flight = flight
        self.claim = claim
        self.renewals = 0
        self.due = time.monotonic() + RENEW_AT * flight.lease


class LeaseRenewals:
    """The leases that one process holds. ``end`` ends a flight that cannot end by itself."""

    def __init__(self, access: StoreAccess, end: Callable[[Flight], None]) -> None:
        self._access = access
        self._end = end
        self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the leases are its parent's."""
        self._held: dict[Flight, _Held] = {}
        # Garbage collection may return a lease in any thread and at any time, so nothing here takes
        # a lock: a SimpleQueue can be filled within itself, and so can a dict.
        self._returned: dict[EntryKeys, Claim] = {}
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = KeptThread(self._work, self._wakes, name=THREAD_NAME, log=logger)
        self._is_parked = False
        self._is_closed = False

    def prepare(self) -> None:
        """Make sure that the thread runs; without threads, return what waits to be returned."""
        if not self._thread.begin(start_plain_thread):
            self._return_all()

    def hold(self, flight: Flight, claim: Claim) -> None:
        """Renew the lease of a flight until it is dropped."""
        flight.claim = claim
        self._held[flight] = _Held(flight, claim)
        if self._is_parked:
            self._wakes.put(None)

    def drop(self, flight: Flight) -> None:
        """Renew the lease no more: it was used, or is given back by the caller."""
        self._held.pop(flight, None)

    def give_back(self, keys: EntryKeys, claim: Claim) -> None:
        """Give a lease back soon. Safe in a destructor."""
        self._returned[keys] = claim
        self._wakes.put(None)

    def returned(self, keys: EntryKeys) -> Claim | None:
        """Return a lease of these keys that is not given back yet, as the next caller may do."""
        return self._returned.get(keys)

    def close(self) -> None:
        """Return what is held back, and end the thread."""
        self._is_closed = True
        self._wakes.put(None)

    def _work(self, wakes: "queue.SimpleQueue[None]") -> None:
        while not (self._is_closed and not self._held):
            with suppress(queue.Empty):
                wakes.get(timeout=self._pause())
            self._is_parked = False
            if wakes is not self._wakes:  # forked
                return
            self._return_all()
            self._renew_due()

    def _pause(self) -> float | None:
        """Return the seconds until the next lease is due; None: until something happens."""
        if not self._held:
            self._is_parked = True
            if not self._held:  # hold() looks at the flag after it has added one
                return None
            self._is_parked = False
        dues = [held.due for held in self._held.copy().values()]
        return max(0.0, min(dues, default=0.0) - time.monotonic())

    def _return_all(self) -> None:
        for keys, claim in self._returned.copy().items():
            self._release(keys, claim)
            if self._returned.get(keys) is claim:
                del self._returned[keys]

    def _renew_due(self) -> None:
        now = time.monotonic()
        for held in self._held.copy().values():
            if held.due <= now:
                self._renew(held)

    def _renew(self, held: _Held) -> None:
        flight = held.flight
        if not flight.may_still_compute():
            self.drop(flight)
            self._release(flight.keys, held.claim)
            self._end(flight)
            return
        if held.renewals >= MAX_RENEWALS:
            self.drop(flight)
            return
        call = _renewal(flight.keys, held.claim, flight.lease)
        try:
            if not self._access.run(call):
                self.drop(flight)  # taken over, cleared, set or deleted
                return
        except StoreBypassed:
            held.due = time.monotonic() + RETRY_SHARE * flight.lease
            return
        held.renewals += 1
        held.due = time.monotonic() + RENEW_AT * flight.lease

    def _release(self, keys: EntryKeys, claim: Claim) -> None:
        with suppress(StoreBypassed):  # its time will end it
            self._access.run(lambda store: store.release(keys, claim))


def _renewal(keys: EntryKeys, claim: Claim, lease: float) -> Callable[[Store], bool]:
    return lambda store: store.renew(keys, claim, lease=lease)
