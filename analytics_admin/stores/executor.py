"""Threads of the engine's own that carry requests to the store, so that callers wait bounded time.

A socket time-out holds for each read, and looking up a host name has none: only a caller that waits
for another thread can be sure to be let go. The threads are daemons: they never delay an exit.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

MAX_THREADS = 4


class ExecutorShutDown(Exception):
    """The courier was sent away before the job was done."""


class StoreExecutor:
    """A few lazily started daemon threads; not to be used on the other side of a fork."""

    def __init__(self, threads: int = MAX_THREADS) -> None:
        self._most = threads
        self._started = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._pending: set[Future[Any]] = set()
        self._is_shut_down = False

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Have the job run soon; its result or exception arrives in the future."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # so that no waiter's cancellation reaches the job
        with self._lock:
            if self._is_shut_down:
                future.set_exception(ExecutorShutDown())
                return future
            self._pending.add(future)
            self._jobs.put((future, job))
            if self._idle:
                self._idle -= 1
            elif self._started < self._most:
                self._start_thread()
            unmanned = not self._started
        if unmanned:
            self._do_next()
        return future

    def shut_down(self) -> None:
        """Let every waiter go with Dismissed; no job is begun any more.

        A thread that hangs in a job ends when that does, and nobody hears of its result.
        """
        with self._lock:
            self._is_shut_down = True
            left, self._pending = self._pending, set()
            for _ in range(self._started):
                self._jobs.put(None)
        for future in left:
            future.set_exception(ExecutorShutDown())

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="circuit breaker store", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process ends, or may have no more threads
            return
        self._started += 1

    def _work(self) -> None:
        while self._do_next():
            with self._lock:
                self._idle += 1

    def _do_next(self) -> bool:
        """Do one job, keeping nothing of it; say whether there may be more."""
        task = self._jobs.get()
        if task is None:
            return False
        future, job = task
        if future not in self._pending:
            return True
        try:
            result = job()
        except BaseException as error:  # the caller's to handle, whatever it is
            if self._take(future):
                future.set_exception(error)
        else:
            if self._take(future):
                future.set_result(result)
        del future, job, task  # an exception's traceback would keep them alive
        return True

    def _take(self, future: "Future[Any]") -> bool:
        """Say whether the future is still to be settled; at most one hears yes."""
        with self._lock:
            if future not in self._pending:
                return False
            self._pending.remove(future)
            return True
