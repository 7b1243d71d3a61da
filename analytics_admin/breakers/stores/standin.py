"""How the engine's jobs reach the store: in bounded time, and in memory while it is away.

Knows nothing of breakers' rules. A job is a function of a store; it runs against the shared one on
a thread of the courier, while its caller waits MAX_WAIT_SECONDS at most, or against a MemoryStore.
"""

import logging
import statistics
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
from analytics_admin.i18n import Message, gettext_noop
from analytics_admin.stores import latency
from analytics_admin.stores.executor import ExecutorShutDown, StoreExecutor
from analytics_admin.stores.latency import LatencyBudget, QueuedWait, RequestStart

logger = logging.getLogger("analytics_admin.breakers")

T = TypeVar("T")
Job = Callable[[BreakerStore], T]

TOO_SLOW_MESSAGE = Message(gettext_noop("the store answers too slowly"))
_LOST = (StoreUnavailable, TimeoutError, ExecutorShutDown)


class StoreAccess:
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
        self._lock = threading.Lock()
        self._executor = StoreExecutor()  # another one after each loss, so late jobs are told apart
        self._carrying = threading.local()  # the courier whose job the thread carries
        self._posted: tuple[Future[None], QueuedWait] | None = None
        self._returning: tuple[MemoryStore | None, threading.Thread | None] = (None, None)
        self._latency = LatencyBudget()

    def is_current(self, store: BreakerStore) -> bool:
        """Say whether what this store answers still counts.

        The late reply of a lost one does not, also when it is back: what was read before the loss
        is no news, and what a dismissed courier's job would still write nobody waits for.
        """
        sent_by = getattr(self._carrying, "courier", self._executor)
        return sent_by is self._executor and store is (self.stand_in or self._shared)

    def run(self, job: Job[T]) -> T:
        """Run the job and return what it returns; never waits longer than MAX_WAIT_SECONDS for
        it."""
        courier, local = self._executor, self._local()
        if local is None:
            try:
                sent, turn = self._send(courier, job)
                return turn.wait_for(sent)
            except _LOST as error:
                local = self._lose(courier, error)
        return job(local)

    async def arun(self, job: Job[T]) -> T:
        """Do what ``run`` does without blocking the event loop."""
        courier, local = self._executor, self._local()
        if local is None:
            try:
                sent, turn = self._send(courier, job)
                return await turn.await_for(sent)
            except _LOST as error:
                local = self._lose(courier, error)
        return job(local)

    def post(self, job: Job[None]) -> None:
        """Have the job run soon; nobody waits. While the last one is on its way, do nothing."""
        courier, local = self._executor, self._local()
        if local is None:
            last = self._posted
            if last is None or last[0].done():
                self._posted = last = self._send(courier, job)
                last[0].add_done_callback(partial(self._note_loss, courier))
                return
            if last[1].may_continue(time.monotonic()):
                return
            local = self._lose(courier, TimeoutError())
        job(local)

    def run_if_available(self, job: Job[object]) -> None:
        """Run the job if the shared store is there; one lost now is not: for a process' end."""
        try:
            if self._local() is None and not isinstance(self._store(), MemoryStore):
                self._send(self._executor, job)[0].result(timeout=latency.MAX_WAIT_SECONDS)
        except _LOST as error:
            # Not louder: at the end of a test run the log's own stream may be closed already.
            logger.debug("circuit breakers: %s; last results are lost", _reason(error))

    def reconnect(self) -> None:
        """Forget the store; its settings have changed."""
        with self._lock:
            self._shared = self.stand_in = None
            courier = self._begin_anew()
        courier.shut_down()

    def after_fork(self) -> None:
        """Start over in a forked child, which has none of the parent's threads."""
        self._lock = threading.Lock()
        self._begin_anew()
        for store in (self.stand_in, self._shared):
            if isinstance(store, MemoryStore):
                store.after_fork()

    def _local(self) -> MemoryStore | None:
        if (stand_in := self.stand_in) is not None:
            self._see_to_return(stand_in)
            return stand_in
        return self._shared if isinstance(self._shared, MemoryStore) else None

    def _store(self) -> BreakerStore:
        if self._shared is None:
            self._shared = self._connect()
        return self._shared

    def _send(self, courier: StoreExecutor, job: Job[T]) -> "tuple[Future[T], QueuedWait]":
        turn = QueuedWait(self._latency)
        return courier.submit(partial(self._run_timed, courier, job, turn)), turn

    def _run_timed(self, courier: StoreExecutor, job: Job[T], turn: QueuedWait) -> T:
        store = self._store()
        turn.begin()
        asked = RequestStart()
        self._carrying.courier = courier
        try:
            result = job(store)
        finally:
            del self._carrying.courier
        if courier is self._executor:
            self._latency.note_progress()
            if self._latency.charge(asked):
                raise StoreUnavailable(TOO_SLOW_MESSAGE)
        return result

    def _lose(self, courier: StoreExecutor, error: BaseException) -> MemoryStore:
        """Go on in memory, from what was last known; the first to notice says so."""
        with self._lock:
            if courier is not self._executor:  # noticed already, or the settings have changed
                return self.stand_in or self._make_stand_in()
            reason = _reason(error)
            if self._latency.is_reduced and isinstance(error, TimeoutError):
                reason = TOO_SLOW_MESSAGE
            stand_in = self.stand_in = self._make_stand_in()
            self._begin_anew()
        courier.shut_down()
        logger.error("circuit breakers: %s; each process goes on with what it knows", reason)
        self._see_to_return(stand_in)
        self._changed(reason)
        return stand_in

    def _note_loss(self, courier: StoreExecutor, posted: "Future[None]") -> None:
        error = posted.exception()
        if isinstance(error, _LOST):
            self._lose(courier, error)

    def _make_stand_in(self) -> MemoryStore:
        ahead = self._store_time() - time.monotonic()
        return MemoryStore.standing_in(self._known(), clock=lambda: time.monotonic() + ahead)

    def _begin_anew(self) -> StoreExecutor:
        """Put another courier in place; return the one that was."""
        courier, self._executor = self._executor, StoreExecutor()
        self._latency, self._posted = LatencyBudget(), None
        return courier

    def _see_to_return(self, stand_in: MemoryStore) -> None:
        """Have a thread try to come back: one for each loss, and in a forked child its own."""
        with self._lock:
            owner, thread = self._returning
            if owner is stand_in and thread is not None and thread.is_alive():
                return
            thread = threading.Thread(
                target=self._return, args=(stand_in,), name="circuit breaker return", daemon=True
            )
            with suppress(RuntimeError):  # no thread to be had: the next call tries again
                thread.start()
            self._returning = stand_in, thread

    def _return(self, stand_in: MemoryStore) -> None:
        """Try the store until it takes a write quickly; then what it holds counts again."""
        while self.stand_in is stand_in:
            time.sleep(self._retry_interval())
            if self.stand_in is stand_in and self._is_back():
                with self._lock:
                    if self.stand_in is not stand_in:
                        return
                    self.stand_in = None
                logger.warning("circuit breakers: the store is back; its state counts")
                self._changed(None)

    def _is_back(self) -> bool:
        durations = []
        for _ in range(3):
            began = time.monotonic()
            try:
                self._store().check_writable()
            except StoreUnavailable:
                return False
            durations.append(time.monotonic() - began)
        return statistics.median(durations) <= latency.SLOW_ANSWER_SECONDS


def _reason(error: BaseException) -> str:
    return getattr(error, "reason", "the store did not answer in time")
