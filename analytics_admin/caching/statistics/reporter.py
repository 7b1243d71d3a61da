"""Has the counts of this process told to the ledger: by a thread of its own, never by a call.

The thread is there while there is something to tell. What cannot be told is kept by minutes, for as
long as the ledger would keep it, and told when the ledger's store is back.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from functools import partial
from itertools import count

from analytics_admin.caching.statistics.counters import CallCounter, Counts
from analytics_admin.caching.statistics.store import MINUTES_KEPT, Batch, StatisticsStore
from analytics_admin.stores.client import StoreUnavailable
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor

logger = logging.getLogger("analytics_admin.caching")

INTERVAL = 10.0
"""Seconds between two tellings; a process that is killed loses no more than these."""
REPLY_TIMEOUT = 0.5
LAST_WORDS = 0.5
"""Seconds that the end of a process waits for its last counts to be told."""


class Reporter:
    """Tells what these statistics counted; ``open_statistics_store`` says where to, each time
    anew."""

    def __init__(
        self,
        statistics: CallCounter,
        open_statistics_store: Callable[[], StatisticsStore],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._statistics = statistics
        self._open_ledger = open_statistics_store
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what was not told yet is its parent's to tell."""
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._thread: threading.Thread | None = None
        self._sender = secrets.token_hex(8)
        self._numbers = count(1)
        self._minute = self._present_minute()
        self._kept: dict[int, Counts] = {}
        self._sent: list[Batch] = []
        self._is_lost = False

    def wake(self) -> None:
        """See to it that what is counted now is told within the interval."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._minute = self._present_minute()
                self._thread = self._start()

    def tell(self, *, patience: float = 0.0, quietly: bool = False) -> None:
        """Tell what was counted until now; with the ledger's store away it is kept.

        A telling under way is waited for up to ``patience`` seconds. A loss is logged
        unless it is done ``quietly``.
        """
        self._collect()
        if not self._telling.acquire(timeout=patience):
            return  # it may be hanging; the next one takes these counts along
        try:
            ledger = self._open_ledger()
            self._tell_sent(ledger)  # first what may have arrived already, under its own names
            with self._lock:
                kept, self._kept = self._kept, {}
                self._sent = [
                    Batch(str(next(self._numbers)), minute, counts)
                    for minute, counts in sorted(kept.items())
                ]
            self._tell_sent(ledger)
            self._note_loss("", quietly=quietly)
        except StoreUnavailable as error:
            self._note_loss(error.reason, quietly=quietly)
        finally:
            self._telling.release()

    def flush(self) -> None:
        """Tell the last counts as the process ends, which waits for that but a moment."""
        self._collect()
        if not (self._kept or self._sent):
            return
        # Quietly: at the end of a test run the log's own stream may be closed already.
        words = partial(self.tell, patience=LAST_WORDS, quietly=True)
        with suppress(NotInTime, ExecutorShutDown):
            StoreExecutor(threads=1).submit(words).result(timeout=LAST_WORDS)

    def _start(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._work, name="search cache counts", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process ends, or may have no more threads
            return None
        return thread

    def _work(self) -> None:
        while True:
            now = self._clock()
            time.sleep(min(INTERVAL, 60 - now % 60))  # a minute's counts are told as that minute's
            self.tell()
            with self._lock:
                if not self._kept and not self._sent and self._statistics.rest():
                    self._thread = None
                    return

    def _collect(self) -> None:
        """Take what was counted; it belongs to the minute in which the taking before it was."""
        with self._lock:
            taken = self._statistics.take()
            if taken != Counts():
                self._kept.setdefault(self._minute, Counts()).add(taken)
            self._minute = self._present_minute()
            oldest = self._minute - MINUTES_KEPT
            for minute in [minute for minute in self._kept if minute <= oldest]:
                del self._kept[minute]

    def _tell_sent(self, ledger: StatisticsStore) -> None:
        if self._sent:
            ledger.tell(self._sender, self._sent)
            self._sent = []

    def _note_loss(self, reason: str, *, quietly: bool) -> None:
        """Say once that the store is away, and once that it is back."""
        if quietly or bool(reason) == self._is_lost:
            return
        self._is_lost = bool(reason)
        if reason:
            logger.warning("search cache: %s; its statistics are told later", reason)
        else:
            logger.info("search cache: statistics are told again")

    def _present_minute(self) -> int:
        return int(self._clock() // 60)
