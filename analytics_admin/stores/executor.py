"""Threads that carry requests to a store, so that callers wait for a bounded time.

A socket time-out holds for each read, and a host name lookup has none. Only a caller that waits for
another thread is sure to return in time. The threads are daemons, so they never delay an exit.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from analytics_admin.stores.threads import start_plain_thread

T = TypeVar("T")

MAX_THREADS = 4


class ExecutorShutDown(Exception):
    """The executor was shut down before the job was done."""


class StoreExecutor:
    """A few daemon threads, started when needed. Replace it after a fork."""

    def __init__(self, threads: int = MAX_THREADS) -> None:
        self._max_threads = threads
        self._started = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._pending: set[Future[Any]] = set()
        self._is_shut_down = False

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Run the job soon; its result or exception arrives in the future."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a waiter that is cancelled does not cancel the job
        with self._lock:
            if self._is_shut_down:
                future.set_exception(ExecutorShutDown())
                return future
            self._pending.add(future)
            self._jobs.put((future, job))
            if self._idle:
                self._idle -= 1
            elif self._started < self._max_threads:
                self._start_thread()
            has_no_thread = not self._started
        if has_no_thread:
            self._do_next()
        return future

    def shut_down(self) -> None:
        """Release every waiter with ExecutorShutDown and start no further job.

        A thread that hangs in a job ends with the job, whose result is dropped.
        """
        with self._lock:
            self._is_shut_down = True
            released, self._pending = self._pending, set()
            for _ in range(self._started):
                self._jobs.put(None)
        for future in released:
            future.set_exception(ExecutorShutDown())

    def _start_thread(self) -> None:
        try:
            start_plain_thread(self._work, name="search cache store")
        except (RuntimeError, MemoryError):  # no thread is to be had
            return
        self._started += 1

    def _work(self) -> None:
        while self._do_next():
            with self._lock:
                self._idle += 1

    def _do_next(self) -> bool:
        """Do one job, keep no reference to it, and return whether there may be more."""
        task = self._jobs.get()
        if task is None:
            return False
        future, job = task
        if future not in self._pending:
            return True
        try:
            result = job()
        except BaseException as error:  # the caller handles it, whatever it is
            if self._claim(future):
                future.set_exception(error)
        else:
            if self._claim(future):
                future.set_result(result)
        del future, job, task  # an exception's traceback would keep them alive
        return True

    def _claim(self, future: "Future[Any]") -> bool:
        """Return whether the future is still pending; only the first caller gets True."""
        with self._lock:
            if future not in self._pending:
                return False
            self._pending.remove(future)
            return True
