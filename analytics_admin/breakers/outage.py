"""When a process takes the breakers' store for lost, what it goes on with, and how it returns."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Snapshot
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.stores.threads import allocate_rlock

SECOND_TRY_SECONDS = 0.25
"""Wait before a store that could not be reached is tried once more; then it is lost."""
FIRST_RETRY_SECONDS = 0.2
"""Wait before the first look for a lost store; each further one is longer."""
MAX_DOUBLINGS = 20
"""The wait doubles so often at most."""
HUNG_SECONDS = 1.0
"""A connection that is overdue for so long, as callers see it happen, will not come: the reporter
is stuck in the look-up of a host name, which has no time-out. It cannot be stuck anywhere else. A
process that gets no processor time sees a late answer, too."""


class Outage:
    """The store's loss and return. ``stand_in`` is what the process goes on with; None: no outage.

    ``make_stand_in`` makes it. ``changed`` receives the reason when the store is lost, and None
    when it is back. ``timeout`` and ``retry_interval`` (seconds) are those of the settings.
    """

    def __init__(
        self,
        *,
        make_stand_in: Callable[[], MemoryStore],
        changed: Callable[[str | None], None],
        timeout: Callable[[], float],
        retry_interval: Callable[[], float],
    ) -> None:
        self._make_stand_in = make_stand_in
        self._changed = changed
        self._timeout = timeout
        self._retry_interval = retry_interval
        self.stand_in: MemoryStore | None = None
        self.used_alone: dict[str, LocalState] = {}
        """The breakers that calls have used with the stand-in."""
        self.after_fork()

    def after_fork(self) -> None:
        """Begin as a child, whose parent's thread may have held the lock. An outage goes on."""
        self._lock = allocate_rlock()
        self._retry_at, self._retries = 0.0, 0
        self._overdue: tuple[float, float] | None = None
        self.is_unreachable = False
        """Whether the last try to connect has failed; a second time is an outage."""
        self._connects_at = 0.0
        if self.stand_in is not None:
            self.stand_in.after_fork()

    def forget(self) -> None:
        """Forget the outage and the store; the settings have changed."""
        with self._lock:
            self.stand_in = None
            self.used_alone.clear()
        self.after_fork()

    @property
    def retry_in(self) -> float:
        """The seconds until the next look for the lost store."""
        return self._retry_at - time.monotonic()

    def begin(self, error: StoreUnavailable) -> tuple[MemoryStore, bool]:
        """Go on in memory from the last readings; return that store, and whether it is new."""
        with self._lock:
            if self.stand_in is not None:
                return self.stand_in, False
            stand_in = self.stand_in = self._make_stand_in()
            self._retries = 0
            self._plan_retry()
        # At the end of a process it is nobody's concern, and the log may be closed already.
        is_ending = not threading.main_thread().is_alive()
        logger.log(
            logging.DEBUG if is_ending else logging.ERROR,
            "circuit breakers: %s; each process goes on alone, from the last known state",
            error.reason,
        )
        self._changed(error.reason)
        return stand_in, True

    def look(self, find_store: Callable[[], BreakerStore]) -> None:
        """Return to the shared store, on new connections, once it accepts a write."""
        with self._lock:
            if self.stand_in is None or self.retry_in > 0:
                return
            self._plan_retry()
        stand_in = self.stand_in
        try:
            store = find_store()
            store.renew()
            store.check_writable()
        except StoreUnavailable:
            return
        with self._lock:
            if self.stand_in is not stand_in:
                return
            self.stand_in = None
        logger.warning("circuit breakers: the store is back and its state applies")
        self._changed(None)
        while self.used_alone:
            _name, state = self.used_alone.popitem()
            state.end_alone()

    def may_look(self, store: BreakerStore) -> bool:
        """Return whether it is time, and the store has answered a PING; never waits."""
        if self.retry_in > 0:
            return False
        answers = store.ping()
        if answers is False:
            self._plan_retry()
        return answers is True

    def reach(self, store: BreakerStore) -> bool:
        """Return whether the store can be reached; raise StoreUnavailable the second time.

        A restart takes a moment, however often callers ring.
        """
        if self.is_unreachable and self.reach_in > 0:
            return False
        try:
            store.connect()
        except StoreUnavailable:
            was_unreachable, self.is_unreachable = self.is_unreachable, True
            if was_unreachable:
                raise
            self._connects_at = time.monotonic() + SECOND_TRY_SECONDS
            return False
        self.is_unreachable = False
        return True

    @property
    def reach_in(self) -> float:
        """The seconds until the second try to connect."""
        return self._connects_at - time.monotonic()

    def is_hung(self, store: BreakerStore) -> bool:
        """Return whether the reporter will not find the store."""
        since, now = store.connecting_since, time.monotonic()
        if since is None or now - since < self._timeout() + FIRST_RETRY_SECONDS:
            return False
        if self._overdue is None or self._overdue[0] != since:
            self._overdue = since, now
        return now - self._overdue[1] > HUNG_SECONDS

    def _plan_retry(self) -> None:
        doubled = FIRST_RETRY_SECONDS * 2 ** min(self._retries, MAX_DOUBLINGS)
        wait = min(doubled, self._retry_interval())
        self._retries += 1
        self._retry_at = time.monotonic() + wait * random.uniform(0.9, 1.0)


def make_stand_in(
    states: Mapping[str, LocalState], in_use: Mapping[str, LocalState], offset: float | None
) -> MemoryStore:
    """Return a store in memory that begins with what this process knows.

    Of breakers that are not in use it learns when they are used. ``offset``: see ServerClock.
    """
    ahead = time.time() - time.monotonic() if offset is None else offset
    known = {state.name: state.begin_alone() for state in list(in_use.values())}

    def find(name: str) -> Snapshot | None:
        state = states.get(name)
        return None if state is None else known.get(name) or state.begin_alone()

    return MemoryStore.standing_in(find, clock=lambda: time.monotonic() + ahead)
