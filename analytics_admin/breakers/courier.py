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

THREADS = 4


class Courier:
    """A few lazily started daemon threads; not to be used on the other side of a fork."""

    def __init__(self, threads: int = THREADS) -> None:
        self._most = threads
        self._started = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Have the job run soon; its result or exception arrives in the future."""
        future: Future[T] = Future()
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._started < self._most:
                self._started += 1
                threading.Thread(
                    target=self._work, name="circuit breaker store", daemon=True
                ).start()
        self._jobs.put((future, job))
        return future

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # the caller's to handle, whatever it is
                future.set_exception(error)
            del future, job  # nothing of a finished job is kept while waiting for the next
            with self._lock:
                self._idle += 1
