"""Access to the search cache's store in bounded time, and no access while it is unavailable.

A call is a function of a store. It runs in the caller's thread. The executor's threads run what may
hang there, and what an event loop must not wait for.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from analytics_admin.caching.stores.base import Store, StoreFull, StoreUnavailable
from analytics_admin.i18n import Message, gettext_noop
from analytics_admin.stores.client import StoreSilent
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor
from analytics_admin.stores.latency import (
    LONG_AGO,
    NO_REPLY,
    SILENT_SECONDS,
    TOO_SLOW,
    CallerWait,
    LatencyBudget,
    QueuedWait,
    RequestStart,
    is_quick,
)
from analytics_admin.stores.process_hooks import notice_fork

logger = get_logger("analytics_admin.caching")

T = TypeVar("T")
StoreCall = Callable[[Store], T]

SLOW_LINE_BYTES = 12_500_000
"""Bytes per second of a line of 100 Mbit/s: a large answer may take as long as that."""
FIRST_RETRY_SECONDS = 0.2
"""Before the first attempt to return to a lost store. Each further pause is twice as long."""
MAX_ATTEMPT_SECONDS = 30.0
"""An attempt to return to a lost store that takes longer is not waited for."""
LOST = Message(gettext_noop("the store was lost and is not back yet"))


class StoreBypassed(Exception):
    """The store is unavailable or full: the caller goes on without it. ``reason`` says why."""

    def __init__(self, reason: str = LOST) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreAccess:
    """One process' access to one store, with its outages.

    ``connect`` creates the store and opens no connection yet. It gets this object, whose
    ``run_bounded`` and ``reply_timeout`` limit the store's waits.
    """

    def __init__(
        self, connect: Callable[["StoreAccess"], Store], *, retry_interval: Callable[[], float]
    ) -> None:
        self._connect = connect
        self._retry_interval = retry_interval
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._executor = StoreExecutor()
        self._thread = _ThreadState()
        self._store: Store | None = None
        self._is_closed = False
        self._retry_at: float | None = None  # set while the store is unavailable
        self._attempts = 0
        self._returned_at = LONG_AGO
        self._full_logged_at = LONG_AGO
        self._latency = LatencyBudget()

    def run(self, call: StoreCall[T], caller: CallerWait | None = None) -> T:
        """Run the call in this thread and return its result.

        ``caller`` limits the calls that one caller makes; without it, this is its only one.

        Raises:
            StoreBypassed: the store did not do it, or is known to be unavailable.
        """
        if self._pid != os.getpid():
            self._notice_fork()
        store = self._store or self._connected()
        caller, start, thread = caller or CallerWait(), RequestStart(), self._thread
        if caller.is_over:
            raise StoreBypassed(NO_REPLY)
        caller.begin(start.at)
        outer, thread.caller = thread.caller, caller
        thread.received = 0
        try:
            result = call(store)
        except StoreFull as error:
            self._log_full(error)
            raise StoreBypassed(error.reason) from None
        except (StoreUnavailable, TimeoutError, ExecutorShutDown) as error:
            reason = getattr(error, "reason", NO_REPLY)
            if self._is_lost_by(error, start, caller):
                self._lose(store, reason)
            raise StoreBypassed(reason) from None
        finally:
            thread.caller = outer
            caller.end()
        if self._latency.charge(start, transfer=thread.received / SLOW_LINE_BYTES):
            self._lose(store, TOO_SLOW)
        return result

    def _is_lost_by(self, error: Exception, start: RequestStart, caller: CallerWait) -> bool:
        """Return whether the store counts as lost after what a call met."""
        if isinstance(error, StoreSilent):
            return self._latency.charge_silence(start, SILENT_SECONDS)
        if isinstance(error, TimeoutError):
            return self._latency.charge_silence(start)
        # Where it is the caller's time that is up, the store may be well.
        return not caller.is_cut or self._latency.charge(start)

    async def arun(
        self, call: StoreCall[T], caller: CallerWait | None = None, *, is_owed: bool = False
    ) -> T:
        """Do what ``run`` does without blocking the event loop.

        A call whose turn comes after its caller has left is not made, unless it is owed.
        """
        if self._pid != os.getpid():
            self._notice_fork()
        store = self._store or self._connected()
        caller = caller or CallerWait()
        if caller.is_over:
            raise StoreBypassed(NO_REPLY)
        wait = QueuedWait(self._latency, caller)
        future = self._executor.submit(partial(self._run_in_executor, call, wait, caller))
        try:
            return await wait.await_for(future)
        except ExecutorShutDown:
            raise StoreBypassed from None
        except TimeoutError:
            if not caller.is_cut or self._latency.charge(wait.start):
                self._lose(store, NO_REPLY)
            raise StoreBypassed(NO_REPLY) from None
        finally:
            wait.is_given_up = not is_owed

    def post(self, call: StoreCall[object]) -> None:
        """Run the call soon in the executor, if the store is available; nobody waits."""
        if self._retry_at is None:
            wait, caller = QueuedWait(self._latency), CallerWait()
            self._executor.submit(partial(self._run_in_executor, call, wait, caller))

    def run_later(self, function: Callable[[], object]) -> None:
        """Run a function in the executor; nobody waits."""
        self._executor.submit(function)

    def run_bounded(self, function: Callable[[], T]) -> T:
        """Run a function that may hang, and wait for it within the latency budget.

        Raises:
            TimeoutError: it took longer.
        """
        if self._thread.is_executor:
            return function()
        caller = self._thread.caller
        limit = None if caller is None else caller.left
        if self._latency.is_reduced:  # it has just been silent
            limit = SILENT_SECONDS
        wait = QueuedWait(self._latency, caller, limit=limit)
        result = wait.wait_for(self._executor.submit(partial(self._run_queued, function, wait)))
        self._latency.charge(wait.start)  # the answer to come may not take this time again
        if caller is not None:
            caller.forgive(wait.queued_for)
        return result

    def reply_timeout(self) -> float | None:
        """Return the seconds that the next answer may take; None: as usual."""
        caller = self._thread.caller
        allowed = None if caller is None else caller.allowance()
        if not self._latency.is_reduced:
            return allowed
        left = self._latency.left
        return left if allowed is None else min(left, allowed)

    def note_bytes(self, number: int) -> None:
        """Note the size of large replies that this thread has got."""
        self._thread.received += number

    def close(self) -> None:
        """Close the connections and end the threads. What they leave undone is no loss."""
        self._is_closed = True
        if self._store is not None:
            self._store.close()
        self._executor.shut_down()

    def after_fork(self) -> None:
        """Start afresh in a forked child: it has no threads and must not use the connections."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread = _ThreadState()
        self._executor = StoreExecutor()
        self._latency = LatencyBudget()
        self._store = None
        if self._retry_at is not None:
            self._retry_at = time.monotonic() + self._pause()

    def _notice_fork(self) -> None:
        """Start afresh in a child of which Python was not told, such as uWSGI's."""
        notice_fork()
        if self._pid != os.getpid():
            self.after_fork()

    def _run_in_executor(self, call: StoreCall[T], wait: QueuedWait, caller: CallerWait) -> T:
        if wait.is_given_up:
            raise StoreBypassed
        self._thread.is_executor = True
        try:
            return self._run_queued(partial(self.run, call, caller), wait)
        finally:
            self._thread.is_executor = False

    def _run_queued(self, function: Callable[[], T], wait: QueuedWait) -> T:
        wait.begin()
        result = function()
        self._latency.note_progress()
        return result

    def _connected(self) -> Store:
        with self._lock:
            if self._store is not None:
                return self._store
            if self._retry_at is None:
                try:
                    self._store = self._connect(self)
                except StoreUnavailable as error:  # the settings lead to no store
                    self._retry_at = time.monotonic() + self._pause()
                    logger.error("search cache: %s; searches are computed without it", error.reason)
                    raise StoreBypassed(error.reason) from None
                return self._store
            is_due = time.monotonic() >= self._retry_at
            if is_due:  # the next attempt comes also if this one never ends
                self._retry_at = time.monotonic() + max(self._retry_interval(), MAX_ATTEMPT_SECONDS)
            executor = self._executor
        if is_due:  # outside the lock: without threads, the attempt is made here and takes it
            executor.submit(self._try_to_return)
            return self._returned()
        raise StoreBypassed

    def _returned(self) -> Store:
        if self._store is None:
            raise StoreBypassed
        return self._store

    def _lose(self, store: Store, reason: str) -> None:
        """Go on without the store; the first caller to notice logs it."""
        with self._lock:
            if store is not self._store or self._is_closed:
                return
            self._store = None
            if time.monotonic() - self._returned_at > 2 * self._retry_interval():
                self._attempts = 0
            self._retry_at = time.monotonic() + self._pause()
            executor, self._executor = self._executor, StoreExecutor()
            budget, self._latency = self._latency, LatencyBudget()
        executor.shut_down()
        store.close()
        if budget.was_slow and reason == NO_REPLY:
            reason = TOO_SLOW
        logger.error("search cache: %s; searches are computed without it", reason)

    def _try_to_return(self) -> None:
        """Return if the store accepts writes quickly; else wait for the next interval."""
        self._thread.is_executor = True
        returned: Store | None = None
        try:
            with suppress(StoreUnavailable):
                store = self._connect(self)
                try:
                    returned = store if is_quick(store.check_writable) else None
                finally:
                    if returned is None:
                        store.close()
        finally:
            self._thread.is_executor = False
            self._note_attempt(returned)

    def _note_attempt(self, store: Store | None) -> None:
        with self._lock:
            is_first = self._store is None
            if is_first:
                self._store = store
            self._retry_at = None if self._store else time.monotonic() + self._pause()
            self._returned_at = time.monotonic()
        if store is None:
            return
        if is_first:
            logger.warning("search cache: the store is back")
        else:  # an attempt that took long; another one came before it
            store.close()

    def _pause(self) -> float:
        """Return the seconds until the next attempt to return; each pause is longer."""
        pause = FIRST_RETRY_SECONDS * 2.0 ** min(self._attempts, 20) * random.uniform(0.8, 1)
        self._attempts += 1
        return float(min(pause, self._retry_interval()))

    def _log_full(self, error: StoreFull) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._full_logged_at < self._retry_interval():
                return
            self._full_logged_at = now
        logger.error("search cache: %s; results are not stored", error.reason)


class _ThreadState(threading.local):
    """What a thread is doing."""

    is_executor = False
    caller: CallerWait | None = None
    """For whom it calls the store."""
    received = 0
    """Bytes of large replies to its present call."""


class MemoryAccess(StoreAccess):
    """Access to a store in this process' memory: there is nothing to wait for, and no thread.

    A store that raises is there again at the next call.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(lambda access: store, retry_interval=lambda: 0.0)
        self._store = self._memory = store

    def run(self, call: StoreCall[T], caller: CallerWait | None = None) -> T:
        try:
            return call(self._memory)
        except StoreUnavailable as error:
            raise StoreBypassed(error.reason) from None

    async def arun(
        self, call: StoreCall[T], caller: CallerWait | None = None, *, is_owed: bool = False
    ) -> T:
        return self.run(call)

    def post(self, call: StoreCall[object]) -> None:
        with suppress(StoreBypassed):
            self.run(call)

    def close(self) -> None:
        self._memory.close()

    def after_fork(self) -> None:
        """The child has a copy of the memory."""
