"""How the engine's jobs reach the store: in bounded time, and in memory while it is away.

Knows nothing of breakers' rules. A job is a function of a store; it runs against the shared one on
a thread of the courier, while its caller waits WAIT_LIMIT at most, or against a MemoryStore.
"""

import asyncio
import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from analytics_admin.breakers.courier import Courier
from analytics_admin.breakers.machine import Snapshot
from analytics_admin.breakers.memory_store import MemoryStore
from analytics_admin.breakers.store import BreakerStore, StoreUnavailable

logger = logging.getLogger("analytics_admin.breakers")

T = TypeVar("T")
Job = Callable[[BreakerStore], T]

WAIT_LIMIT = 0.15
"""Seconds that a call waits for the store at most."""
TOO_SLOW = 0.05
"""Seconds: a store whose median answer takes longer is as good as away."""
SAMPLES = 5


class Link:
    """The way to the shared store, and the stand-in while there is none.

    ``known`` gives the snapshots that the stand-in begins with, ``store_time`` the store's time as
    this process reckons it; ``changed`` is told when the store is lost (with words why) and when it
    is back (None).
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        *,
        known: Callable[[], Mapping[str, Snapshot]],
        store_time: Callable[[], float],
        retry_interval: Callable[[], float],
        changed: Callable[[str | None], None],
    ) -> None:
        self._connect = connect
        self._known = known
        self._store_time = store_time
        self._retry_interval = retry_interval
        self._changed = changed
        self._shared: BreakerStore | None = None
        self.stand_in: MemoryStore | None = None
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._lock = threading.Lock()
        self._courier = Courier()

    def in_use(self, store: BreakerStore) -> bool:
        """Say whether what this store answers still counts: a late reply of a lost one does not."""
        return store is (self.stand_in or self._shared)

    def run(self, job: Job[T]) -> T:
        """Run the job and return what it returns; never waits longer than WAIT_LIMIT."""
        local = self._local()
        if local is None:
            try:
                return self._send(job).result(timeout=WAIT_LIMIT)
            except (StoreUnavailable, TimeoutError) as error:
                local = self._lose(error)
        return job(local)

    async def arun(self, job: Job[T]) -> T:
        """Do what ``run`` does without blocking the event loop."""
        local = self._local()
        if local is None:
            try:
                sent = asyncio.wrap_future(self._send(job))
                return await asyncio.wait_for(asyncio.shield(sent), WAIT_LIMIT)
            except (StoreUnavailable, TimeoutError) as error:
                local = self._lose(error)
        return job(local)

    def post(self, job: Job[object]) -> None:
        """Have the job run soon, if the shared store is there; nobody waits for it."""
        local = self._local()
        if local is not None:
            job(local)
        else:
            self._send(job)

    def run_here(self, job: Job[object]) -> None:
        """Run the job in this thread if the shared store is there; for the end of a process."""
        if self._local() is None:
            try:
                job(self._store())
            except StoreUnavailable as error:
                logger.debug("circuit breakers: %s; last results are lost", error.reason)

    def reconnect(self) -> None:
        """Forget the store; its settings have changed."""
        with self._lock:
            self._shared = self.stand_in = None
            self._durations.clear()

    def after_fork(self) -> None:
        """Start over in a forked child, which has none of the parent's threads."""
        self._lock = threading.Lock()
        self._courier = Courier()
        if self.stand_in is not None:
            self._start_returning()

    def _local(self) -> MemoryStore | None:
        if self.stand_in is not None:
            return self.stand_in
        return self._shared if isinstance(self._shared, MemoryStore) else None

    def _store(self) -> BreakerStore:
        if self._shared is None:
            self._shared = self._connect()
        return self._shared

    def _send(self, job: Job[T]) -> "Future[T]":
        return self._courier.submit(partial(self._run_timed, job))

    def _run_timed(self, job: Job[T]) -> T:
        store = self._store()
        began = time.monotonic()
        result = job(store)
        self._durations.append(time.monotonic() - began)
        if len(self._durations) == SAMPLES and statistics.median(self._durations) > TOO_SLOW:
            raise StoreUnavailable("the store answers too slowly")
        return result

    def _lose(self, error: BaseException) -> MemoryStore:
        """Go on in memory, from what was last known; the first to notice says so."""
        reason = getattr(error, "reason", "the store did not answer in time")
        with self._lock:
            if self.stand_in is not None:
                return self.stand_in
            stand_in = MemoryStore(clock=self._store_time)
            stand_in.seed(self._known())
            self.stand_in = stand_in
            self._durations.clear()
        logger.error("circuit breakers: %s; each process goes on with what it knows", reason)
        self._start_returning()
        self._changed(reason)
        return stand_in

    def _start_returning(self) -> None:
        threading.Thread(
            target=self._return, args=(self.stand_in,), name="circuit breaker return", daemon=True
        ).start()

    def _return(self, stand_in: MemoryStore | None) -> None:
        """Try the store until it takes a write quickly; then what it holds counts again."""
        while self.stand_in is stand_in:
            time.sleep(self._retry_interval())
            if self._is_back():
                with self._lock:
                    if self.stand_in is stand_in:
                        self.stand_in = None
                logger.warning("circuit breakers: the store is back; its state counts")
                self._changed(None)
                return

    def _is_back(self) -> bool:
        durations = []
        for _ in range(3):
            began = time.monotonic()
            try:
                self._store().check_writable()
            except StoreUnavailable:
                return False
            durations.append(time.monotonic() - began)
        return statistics.median(durations) <= TOO_SLOW
