"""Access to the breakers' store in bounded time, and a stand-in in memory while it is lost.

A job is a function of a store. It runs on a thread of the executor while its caller waits at most
MAX_WAIT_SECONDS, or in the caller's thread on a MemoryStore.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from analytics_admin.breakers.state import Snapshot
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.stores import latency
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor
from analytics_admin.stores.latency import LatencyBudget, QueuedWait, RequestStart

logger = logging.getLogger("analytics_admin.breakers")

T = TypeVar("T")
Job = Callable[[BreakerStore], T]

_LOST = (StoreUnavailable, TimeoutError, ExecutorShutDown)


class StoreAccess:
    """The way to the shared store, and the stand-in while it is lost.

    ``latest_snapshots`` returns the snapshots with which the stand-in begins, ``store_time`` this
    process' estimate of the store's time. ``store_changed`` receives the reason when the store is
    lost, and None when it is back.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        *,
        latest_snapshots: Callable[[], Mapping[str, Snapshot]],
        store_time: Callable[[], float],
        retry_interval: Callable[[], float],
        store_changed: Callable[[str | None], None],
    ) -> None:
        self._connect = connect
        self._latest_snapshots = latest_snapshots
        self._store_time = store_time
        self._retry_interval = retry_interval
        self._store_changed = store_changed
        self._shared: BreakerStore | None = None
        self.stand_in: MemoryStore | None = None
        self._lock = threading.Lock()
        self._executor = StoreExecutor()  # replaced at each loss, which marks its jobs as outdated
        self._running = threading.local()  # the executor whose job this thread runs
        self._posted: tuple[Future[None], QueuedWait] | None = None
        self._returning: tuple[MemoryStore | None, threading.Thread | None] = (None, None)
        self._latency = LatencyBudget()

    def is_current(self, store: BreakerStore) -> bool:
        """Return whether answers of this store still count.

        A late reply from before a loss does not, even when the store is back.
        """
        executor = getattr(self._running, "executor", self._executor)
        return executor is self._executor and store is (self.stand_in or self._shared)

    def run(self, job: Job[T]) -> T:
        """Run the job and return its result; wait for the store at most MAX_WAIT_SECONDS."""
        executor, local = self._executor, self._local_store()
        if local is None:
            try:
                sent, wait = self._send(executor, job)
                return wait.wait_for(sent)
            except _LOST as error:
                local = self._lose(executor, error)
        return job(local)

    async def arun(self, job: Job[T]) -> T:
        """Do what ``run`` does without blocking the event loop."""
        executor, local = self._executor, self._local_store()
        if local is None:
            try:
                sent, wait = self._send(executor, job)
                return await wait.await_for(sent)
            except _LOST as error:
                local = self._lose(executor, error)
        return job(local)

    def post(self, job: Job[None]) -> None:
        """Run the job soon without waiting, unless the last posted job is still running."""
        executor, local = self._executor, self._local_store()
        if local is None:
            last = self._posted
            if last is None or last[0].done():
                self._posted = last = self._send(executor, job)
                last[0].add_done_callback(partial(self._note_loss, executor))
                return
            if last[1].may_continue(time.monotonic()):
                return
            local = self._lose(executor, TimeoutError())
        job(local)

    def run_if_available(self, job: Job[object]) -> None:
        """Run the job if the shared store is there; ignore a loss. For the end of a process."""
        try:
            if self._local_store() is None and not isinstance(self._store(), MemoryStore):
                self._send(self._executor, job)[0].result(timeout=latency.MAX_WAIT_SECONDS)
        except _LOST as error:
            # Not a warning: at the end of a test run the log's stream may be closed already.
            logger.debug("circuit breakers: %s; last results are lost", _reason(error))

    def reconnect(self) -> None:
        """Forget the store; its settings have changed."""
        with self._lock:
            self._shared = self.stand_in = None
            executor = self._replace_executor()
        executor.shut_down()

    def after_fork(self) -> None:
        """Start afresh in a forked child, which has none of the parent's threads."""
        self._lock = threading.Lock()
        self._replace_executor()
        for store in (self.stand_in, self._shared):
            if isinstance(store, MemoryStore):
                store.after_fork()

    def _local_store(self) -> MemoryStore | None:
        if (stand_in := self.stand_in) is not None:
            self._ensure_return_thread(stand_in)
            return stand_in
        return self._shared if isinstance(self._shared, MemoryStore) else None

    def _store(self) -> BreakerStore:
        if self._shared is None:
            self._shared = self._connect()
        return self._shared

    def _send(self, executor: StoreExecutor, job: Job[T]) -> "tuple[Future[T], QueuedWait]":
        wait = QueuedWait(self._latency)
        return executor.submit(partial(self._run_timed, executor, job, wait)), wait

    def _run_timed(self, executor: StoreExecutor, job: Job[T], wait: QueuedWait) -> T:
        store = self._store()
        wait.begin()
        start = RequestStart()
        self._running.executor = executor
        try:
            result = job(store)
        finally:
            del self._running.executor
        if executor is self._executor:
            self._latency.note_progress()
            if self._latency.charge(start):
                raise StoreUnavailable(latency.TOO_SLOW)
        return result

    def _lose(self, executor: StoreExecutor, error: BaseException) -> MemoryStore:
        """Go on in memory from the last reading; the first caller to notice reports the loss."""
        with self._lock:
            if executor is not self._executor:  # noticed already, or the settings have changed
                return self.stand_in or self._make_stand_in()
            reason = _reason(error)
            if self._latency.is_reduced and isinstance(error, TimeoutError):
                reason = latency.TOO_SLOW
            stand_in = self.stand_in = self._make_stand_in()
            self._replace_executor()
        executor.shut_down()
        logger.error(
            "circuit breakers: %s; each process goes on alone, from the last known state", reason
        )
        self._ensure_return_thread(stand_in)
        self._store_changed(reason)
        return stand_in

    def _note_loss(self, executor: StoreExecutor, posted: "Future[None]") -> None:
        error = posted.exception()
        if isinstance(error, _LOST):
            self._lose(executor, error)

    def _make_stand_in(self) -> MemoryStore:
        ahead = self._store_time() - time.monotonic()
        snapshots = self._latest_snapshots()
        return MemoryStore.standing_in(snapshots, clock=lambda: time.monotonic() + ahead)

    def _replace_executor(self) -> StoreExecutor:
        """Start with a new executor and latency budget; return the old executor."""
        executor, self._executor = self._executor, StoreExecutor()
        self._latency, self._posted = LatencyBudget(), None
        return executor

    def _ensure_return_thread(self, stand_in: MemoryStore) -> None:
        """Have one thread per loss that tries to return; a forked child starts its own."""
        with self._lock:
            owner, thread = self._returning
            if owner is stand_in and thread is not None and thread.is_alive():
                return
            thread = threading.Thread(
                target=self._return, args=(stand_in,), name="circuit breaker return", daemon=True
            )
            with suppress(RuntimeError):  # no thread available: the next call tries again
                thread.start()
            self._returning = stand_in, thread

    def _return(self, stand_in: MemoryStore) -> None:
        """Try the store until it accepts writes quickly; then its state counts again."""
        while self.stand_in is stand_in:
            time.sleep(self._retry_interval())
            if self.stand_in is stand_in and self._is_back():
                with self._lock:
                    if self.stand_in is not stand_in:
                        return
                    self.stand_in = None
                logger.warning("circuit breakers: the store is back and its state applies")
                self._store_changed(None)

    def _is_back(self) -> bool:
        """Say whether the store accepts writes quickly."""
        try:
            return latency.is_quick(self._store().check_writable)
        except StoreUnavailable:
            return False


def _reason(error: BaseException) -> str:
    return getattr(error, "reason", latency.NO_REPLY)
