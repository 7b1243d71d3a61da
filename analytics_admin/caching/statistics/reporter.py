"""Reports this process' counts to the statistics store: in a thread of its own, never in a call.

The thread runs while there is something to report. Counts that cannot be reported are kept by
minute, for as long as the statistics store would keep them.
"""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from functools import partial
from itertools import count

from analytics_admin.caching.statistics.counters import CallCounter, Counts
from analytics_admin.caching.statistics.store import MINUTES_KEPT, Batch, StatisticsStore
from analytics_admin.stores.client import StoreUnavailable
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor
from analytics_admin.stores.threads import KeptThread, start_plain_thread

logger = get_logger("analytics_admin.caching")

INTERVAL = 10.0
"""Seconds between two reports; a process that is killed loses at most these counts."""
REPLY_TIMEOUT = 0.5
"""Seconds for connecting and for each reply."""
FLUSH_TIMEOUT = 0.5
"""Seconds that the end of a process waits for its last report."""


class Reporter:
    """Reports what a counter has counted; opens the statistics store for each report."""

    def __init__(
        self,
        counter: CallCounter,
        open_store: Callable[[], StatisticsStore],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counter = counter
        self._open_store = open_store
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent reports the earlier counts."""
        self._lock = threading.Lock()
        self._reporting = threading.Lock()
        self._thread = self._new_thread()
        self._sender = secrets.token_hex(8)
        self._batch_numbers = count(1)
        self._minute = self._current_minute()
        self._kept: dict[int, Counts] = {}
        self._sent: list[Batch] = []
        self._is_failing = False

    def wake(self) -> bool:
        """Make sure that the current counts are reported within the interval.

        Returns False if no thread is to be had now.
        """
        with self._lock:
            if not self._thread.is_alive:
                self._minute = self._current_minute()
            return self._start()

    def report(self, *, wait: float = 0.0, quiet: bool = False) -> None:
        """Report the counts so far; keep them if the statistics store is unavailable.

        Waits up to ``wait`` seconds for a report under way. Logs a failure unless ``quiet``.
        """
        self._collect()
        if not self._reporting.acquire(timeout=wait):
            return  # it may hang; the next report takes these counts along
        try:
            store = self._open_store()
            self._send(store)  # first, under their old names, batches that may have arrived
            with self._lock:
                kept, self._kept = self._kept, {}
                self._sent = [
                    Batch(str(next(self._batch_numbers)), minute, counts)
                    for minute, counts in sorted(kept.items())
                ]
            self._send(store)
            self._log_change("", quiet=quiet)
        except StoreUnavailable as error:
            self._log_change(error.reason, quiet=quiet)
        finally:
            self._reporting.release()

    def flush(self) -> None:
        """Report the last counts as the process ends; wait at most FLUSH_TIMEOUT for it."""
        self._collect()
        if not (self._kept or self._sent):
            return
        # Quietly: at the end of a test run the log's own stream may be closed already.
        report = partial(self.report, wait=FLUSH_TIMEOUT, quiet=True)
        with suppress(FutureTimeout, ExecutorShutDown):
            StoreExecutor(threads=1).submit(report).result(timeout=FLUSH_TIMEOUT)

    def _start(self) -> bool:
        return self._thread.begin(start_plain_thread)

    def _new_thread(self) -> KeptThread:
        return KeptThread(self._work, name="search cache counts", log=logger)

    def _work(self) -> None:
        while True:
            now = self._clock()
            time.sleep(min(INTERVAL, 60 - now % 60))  # so that counts go to their own minute
            self.report()
            with self._lock:
                if not self._kept and not self._sent and self._counter.rest():
                    self._thread = self._new_thread()  # the next count begins it
                    return

    def _collect(self) -> None:
        """Take the counts; they belong to the minute of the previous collection."""
        with self._lock:
            taken = self._counter.take()
            if taken != Counts():
                self._kept.setdefault(self._minute, Counts()).add(taken)
            self._minute = self._current_minute()
            oldest = self._minute - MINUTES_KEPT
            for minute in [minute for minute in self._kept if minute <= oldest]:
                del self._kept[minute]

    def _send(self, store: StatisticsStore) -> None:
        if self._sent:
            store.add(self._sender, self._sent)
            self._sent = []

    def _log_change(self, reason: str, *, quiet: bool) -> None:
        """Log once that the statistics store fails, and once that it is back."""
        if quiet or bool(reason) == self._is_failing:
            return
        self._is_failing = bool(reason)
        if reason:
            logger.warning("search cache: %s; its statistics are reported later", reason)
        else:
            logger.info("search cache: statistics are reported again")

    def _current_minute(self) -> int:
        return int(self._clock() // 60)
