"""How the search cache's calls reach the store: in bounded time, and not at all while it is away.

Knows nothing of values. A step is a function of a store, run in the caller's thread; what may hang
there, and what an event loop must not wait for, is carried by the courier's threads.
"""

import logging
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from analytics_admin.caching.stores.base import Store, StoreFull, StoreUnavailable
from analytics_admin.i18n import Message, gettext_noop
from analytics_admin.stores import latency
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor
from analytics_admin.stores.latency import LONG_AGO, LatencyBudget, QueuedWait, RequestStart

logger = logging.getLogger("analytics_admin.caching")

T = TypeVar("T")
StoreCall = Callable[[Store], T]

TOO_SLOW_MESSAGE = Message(gettext_noop("the store answers too slowly"))
_SILENT = Message(gettext_noop("the store did not answer in time"))

LOST = Message(gettext_noop("the store was lost and is not back yet"))


class StoreBypassed(Exception):
    """The store is away, or has no room: the call goes on without it. ``reason`` says why."""

    def __init__(self, reason: str = LOST) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreAccess:
    """The way to one store.

    ``connect`` makes the store's client and connects to nothing. It is given the line, whose
    ``bounded`` and ``patience`` the client heeds.
    """

    def __init__(
        self, connect: Callable[["StoreAccess"], Store], *, retry_interval: Callable[[], float]
    ) -> None:
        self._connect = connect
        self._retry_interval = retry_interval
        self._lock = threading.Lock()
        self._executor = StoreExecutor()
        self._carried = threading.local()
        self._store: Store | None = None
        self._retry_at: float | None = None  # set while the store is away
        self._full_told_at = LONG_AGO
        self._latency = LatencyBudget()

    @property
    def is_away(self) -> bool:
        return self._retry_at is not None

    def run(self, step: StoreCall[T]) -> T:
        """Run the step in this thread and return what it returns.

        Raises:
            Away: the store did not do it, or is known to be away.
        """
        store = self._store or self._present()
        asked = RequestStart()
        try:
            result = step(store)
        except StoreFull as error:
            self._tell_full(error)
            raise StoreBypassed(error.reason) from None
        except (StoreUnavailable, TimeoutError, ExecutorShutDown) as error:
            reason = getattr(error, "reason", _SILENT)
            self._lose(store, reason)
            raise StoreBypassed(reason) from None
        if self._latency.charge(asked):
            self._lose(store, TOO_SLOW_MESSAGE)
        return result

    async def arun(self, step: StoreCall[T]) -> T:
        """Do what ``run`` does without blocking the event loop."""
        store = self._store or self._present()
        turn = QueuedWait(self._latency)
        sent = self._executor.submit(partial(self._carry, step, turn))
        try:
            return await turn.await_for(sent)
        except ExecutorShutDown:
            raise StoreBypassed from None
        except TimeoutError:
            self._lose(store, _SILENT)
            raise StoreBypassed(_SILENT) from None

    def post(self, step: StoreCall[object]) -> None:
        """Have the step run soon, if the store is there; nobody waits."""
        if not self.is_away:
            self._executor.submit(partial(self._carry, step, QueuedWait(self._latency)))

    def bounded(self, function: Callable[[], T]) -> T:
        """Run a function that may hang; wait for it within the patience.

        Raises:
            TimeoutError: it took longer.
        """
        if getattr(self._carried, "now", False):
            return function()
        turn = QueuedWait(self._latency)
        result = turn.wait_for(self._executor.submit(partial(self._take_turn, function, turn)))
        self._latency.charge(turn.asked)  # what this took, the answer to come may not take again
        return result

    def patience(self) -> float | None:
        """Return the seconds that the next answer may take; None: as usual."""
        return self._latency.left if self._latency.is_reduced else None

    def close(self) -> None:
        """Let the connections and threads go; another line takes this one's place."""
        if self._store is not None:
            self._store.close()
        self._executor.shut_down()

    def after_fork(self) -> None:
        """Begin anew in a forked child, which has no thread and must not use a connection."""
        self._lock = threading.Lock()
        self._carried = threading.local()
        self._executor = StoreExecutor()
        self._latency = LatencyBudget()
        self._store = None
        if self._retry_at is not None:
            self._retry_at = time.monotonic() + self._retry_interval()

    def _carry(self, step: StoreCall[T], turn: QueuedWait) -> T:
        self._carried.now = True
        try:
            return self._take_turn(partial(self.run, step), turn)
        finally:
            self._carried.now = False

    def _take_turn(self, function: Callable[[], T], turn: QueuedWait) -> T:
        turn.begin()
        result = function()
        self._latency.note_progress()
        return result

    def _present(self) -> Store:
        with self._lock:
            if self._store is not None:
                return self._store
            if self._retry_at is None:
                try:
                    self._store = self._connect(self)
                except StoreUnavailable as error:  # settings that no store can be reached by
                    self._retry_at = time.monotonic() + self._retry_interval()
                    logger.error("search cache: %s; searches are computed without it", error.reason)
                    raise StoreBypassed(error.reason) from None
                return self._store
            if time.monotonic() >= self._retry_at:
                self._retry_at = float("inf")  # until this attempt has ended
                self._executor.submit(self._try_to_return)
        raise StoreBypassed

    def _lose(self, store: Store, reason: str) -> None:
        """Go on without the store; the first to notice says so."""
        with self._lock:
            if store is not self._store:
                return
            self._store = None
            self._retry_at = time.monotonic() + self._retry_interval()
            courier, self._executor = self._executor, StoreExecutor()
            spent, self._latency = self._latency, LatencyBudget()
        courier.shut_down()
        store.close()
        told = TOO_SLOW_MESSAGE if spent.is_reduced and reason == _SILENT else reason
        logger.error("search cache: %s; searches are computed without it", told)

    def _try_to_return(self) -> None:
        """Come back if the store takes writes quickly; else wait for the next interval."""
        self._carried.now = True
        back: Store | None = None
        with suppress(StoreUnavailable):
            back = self._connect(self)
            if not _is_quick(back):
                back.close()
                back = None
        with self._lock:
            self._store = back
            self._retry_at = None if back else time.monotonic() + self._retry_interval()
        if back is not None:
            logger.warning("search cache: the store is back")

    def _tell_full(self, error: StoreFull) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._full_told_at < self._retry_interval():
                return
            self._full_told_at = now
        logger.error("search cache: %s; results are not stored", error.reason)


def _is_quick(store: Store) -> bool:
    """Say whether the store takes writes, and answers quickly more often than not."""
    durations = []
    for _ in range(3):
        began = time.monotonic()
        store.check_writable()
        durations.append(time.monotonic() - began)
    return statistics.median(durations) <= latency.SLOW_ANSWER_SECONDS


def never_cancelled() -> "Future[T]":
    """Return a future that no waiter's cancellation reaches."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future
