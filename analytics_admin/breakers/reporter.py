"""The thread of a process that alone talks to the breakers' store, and the store's loss and return.

Callers append to memory and ring. While the store is lost, they use a store in memory: see
``local_store``. In a process that can have no thread, callers do the reporter's work now and then.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from analytics_admin.breakers.bell import Bell
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.stores.base import BreakerStore, RequestRefused, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import notice_fork
from analytics_admin.stores.threads import (
    allocate_lock,
    allocate_rlock,
    has_greenlets,
    start_thread,
)

logger = logging.getLogger("analytics_admin.breakers")

SECOND_TRY_SECONDS = 0.25
"""Wait before a store that could not be reached is tried once more; then it is lost."""
FIRST_RETRY_SECONDS = 0.2
"""Wait before the first look for a lost store; each further one is longer."""
HUNG_SECONDS = 1.0
"""A connection that is overdue for so long, as callers see it happen, will not come: the reporter
is stuck in the look-up of a host name, which has no time-out. It cannot be stuck anywhere else. A
process that gets no processor time sees a late answer, too."""
QUICK_SECONDS = 0.015
"""A caller that has done the reporter's work in less may do it for the next request, too."""
REFUSED_SECONDS = 1.0
"""Wait after the store has refused a request that concerns no breaker alone."""
LOG_EVERY_SECONDS = 60.0
THREAD_NAME = "circuit breakers"
FOREVER = float("inf")


def new_answer() -> "Future[Any]":
    """Return a future that the reporter can fulfil without waiting for any greenlet."""
    answer: Future[Any] = Future()
    if has_greenlets():
        answer._condition = threading.Condition(allocate_rlock())
    return answer


class Wish(Enum):
    """What a request asks for."""

    LOOK = 1  # read the breaker
    PERMIT = 2  # let a probe pass
    RETURN = 3  # take a probe's permit back
    FLUSH = 4  # report everything
    LEAVE = 5  # tell the store that this process ends
    TELL = 6  # tell the store what this process obeys


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A caller's request, answered in ``answer`` unless the caller has cancelled that."""

    wish: Wish
    state: LocalState | None = None
    generation: str = ""
    answer: "Future[Any]" = field(default_factory=new_answer)

    def give(self, answer: Any) -> bool:
        """Return whether the caller still waits for it."""
        if not self.answer.set_running_or_notify_cancel():
            return False
        self.answer.set_result(answer)
        return True

    def refuse(self) -> None:
        """Answer None, unless it is answered: there is no store to ask."""
        if not self.answer.done():
            self.give(None)


def _within(store: BreakerStore, seconds: float) -> AbstractContextManager[None]:
    """Limit the time that all requests in a block take together, where a store can do that."""
    within: Callable[[float], AbstractContextManager[None]] | None = getattr(store, "within", None)
    return nullcontext() if within is None else within(seconds)


class Reporter:
    """The thread, its bell, and the store as this process finds it.

    ``turn`` does what is due and what is requested, and returns the seconds until something is due
    again. ``stand_in`` makes the store in memory with which the process goes on alone.
    ``store_changed`` receives the reason when the store is lost, and None when it is back.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        *,
        turn: Callable[[BreakerStore, list[Request]], float],
        stand_in: Callable[[], MemoryStore],
        timeout: Callable[[], float],
        interval: Callable[[], float],
        retry_interval: Callable[[], float],
        store_changed: Callable[[str | None], None],
    ) -> None:
        self._connect = connect
        self._interval = interval
        self._timeout = timeout
        self._turn = turn
        self._make_stand_in = stand_in
        self._retry_interval = retry_interval
        self._store_changed = store_changed
        self.stand_in: MemoryStore | None = None
        self._shared: BreakerStore | None = None
        self._begin_afresh()

    def _begin_afresh(self) -> None:
        self._lock = allocate_rlock()
        self._bell = Bell()
        self._requests: deque[Request] = deque()
        self._has_thread = False
        self._asked_at: float | None = None
        self._overdue: tuple[float, float] | None = None
        self._failed_to_connect = self._was_silent = False
        self._connects_at = 0.0
        self._retry_at, self._retries = 0.0, 0
        self._logged_at = float("-inf")
        self.is_threadless = False
        self._turn_lock = allocate_lock()
        self._turn_at = self._requests_at = 0.0
        self._pid = os.getpid()

    @property
    def uses_callers(self) -> bool:
        """Whether what is read is renewed in calls alone."""
        has_memory = isinstance(self._shared, MemoryStore)
        return self.stand_in is not None or self.is_threadless or has_memory

    @property
    def is_silent(self) -> bool:
        """Whether waiting for an answer is no use: the store has owed one for too long.

        Without a thread the answer is there when the request is made, or comes with another call.
        """
        if self.is_threadless:
            return True
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at > latency.MAX_WAIT_SECONDS

    def is_current(self, store: BreakerStore) -> bool:
        """Return whether answers of this store still count."""
        return store is (self.stand_in or self._shared)

    def local_store(self) -> BreakerStore | None:
        """Return the store in memory that callers use; None: they use the reporter."""
        if self._pid != os.getpid():
            notice_fork()
        if self.stand_in is not None:
            self.ring()
            return self.stand_in or self.local_store()
        if self._shared is None:
            with self._lock:
                try:
                    self._shared = self._shared or self._connect()
                except StoreUnavailable as error:
                    return self.lose(error)
        if isinstance(self._shared, MemoryStore):
            return self._shared
        if self.is_threadless:
            self._take_turn()
            return self.stand_in
        if self._asked_at is not None and self._is_hung(self._shared):
            return self.lose(StoreUnavailable(latency.NO_REPLY))
        return None

    def submit(self, request: Request) -> Request:
        """Have the reporter answer the request soon."""
        self._requests.append(request)
        self.ring()
        return request

    def ring(self) -> None:
        """Have the reporter look for what is to be done. Never waits; signal handlers may ring."""
        if not self._has_thread:
            self._start()
        if self.is_threadless:
            self._take_turn()
        else:
            self._bell.ring()

    def _take_turn(self) -> None:
        """Do the reporter's work in a caller's thread: once an interval, and not for long.

        Requests need not wait for that while the store answers quickly.
        """
        if self._shared is None or not self._turn_lock.acquire(blocking=False):
            return
        try:
            began = time.monotonic()
            if self.stand_in is not None:
                self._refuse_all()
                if began < self._retry_at or not self._is_answering(self._shared):
                    return
            elif not any(request.wish is Wish.FLUSH for request in self._requests):
                due_at = self._requests_at if self._requests else self._turn_at
                if began < due_at:
                    return
            with _within(self._shared, latency.MAX_WAIT_SECONDS):
                self._do_turn()
            ended = time.monotonic()
            self._turn_at = self._requests_at = ended + self._interval()
            if ended - began < QUICK_SECONDS:
                self._requests_at = ended
        finally:
            self._turn_lock.release()

    def _is_answering(self, store: BreakerStore) -> bool:
        """Return whether a lost store has answered a greeting; never waits."""
        answers = getattr(store, "greet", lambda: True)()
        if answers is False:
            self._plan_retry()
        return answers is True

    def lose(self, error: StoreUnavailable) -> MemoryStore:
        """Go on in memory from the last readings; the first to notice reports the loss."""
        with self._lock:
            if self.stand_in is not None:
                return self.stand_in
            stand_in = self.stand_in = self._make_stand_in()
            self._retries = 0
            self._plan_retry()
        # At the end of a process it is nobody's concern, and the log may be closed already.
        is_ending = not threading.main_thread().is_alive()
        logger.log(
            logging.DEBUG if is_ending else logging.ERROR,
            "circuit breakers: %s; each process goes on alone, from the last known state",
            error.reason,
        )
        self._store_changed(error.reason)
        self._refuse_all()
        self.ring()
        return stand_in

    def reconnect(self) -> None:
        """Forget the store; its settings have changed."""
        with self._lock:
            bell, requests = self._bell, self._requests
            self.stand_in = self._shared = None
            self._begin_afresh()
        bell.ring()
        for request in requests:
            request.answer.cancel()

    def after_fork(self) -> None:
        """Start afresh in a forked child, which has none of the parent's threads."""
        self._begin_afresh()
        for store in (self.stand_in, self._shared):
            if isinstance(store, MemoryStore):
                store.after_fork()

    def _start(self) -> None:
        with self._lock:
            if self._has_thread or self.is_threadless:
                return
            self._has_thread = True
            try:
                start_thread(self._work, self._bell, name=THREAD_NAME)
            except RuntimeError:  # no thread to be had, or the interpreter is ending
                self._has_thread = False
                self.is_threadless = True
                logger.warning("circuit breakers: no thread can be started; calls report and read")

    def _work(self, bell: Bell) -> None:
        pause = 0.0
        while True:
            bell.wait(pause)
            if bell is not self._bell:
                return
            try:
                pause = self._do_turn()
            # Nothing that goes wrong here may leave the process without a reporter.
            except Exception as error:
                pause = 1.0
                self._refuse_all()
                if time.monotonic() - self._logged_at > LOG_EVERY_SECONDS:
                    self._logged_at = time.monotonic()
                    logger.exception("circuit breakers: internal error: %s", type(error).__name__)

    def _do_turn(self) -> float:
        if self.stand_in is not None:
            self._look_for_store()
            if self.stand_in is not None:
                self._refuse_all()
                return self._retry_at - time.monotonic()
        store = self._shared
        if store is None:
            return FOREVER
        requests: list[Request] = []
        self._asked_at = time.monotonic()
        try:
            if not self._is_connected(store):
                return max(SECOND_TRY_SECONDS / 10, self._connects_at - time.monotonic())
            requests = self._take_requests()
            pause = self._turn(store, requests)
        except RequestRefused as error:
            return self._note_refusal(store, error)
        except StoreUnavailable as error:
            self._note_failure(store, error)
            return 0.0
        else:
            self._was_silent = False
            return pause
        finally:
            self._asked_at = None
            for request in requests:
                request.refuse()

    def _note_refusal(self, store: BreakerStore, error: RequestRefused) -> float:
        """Go on without what one request was for, unless the store takes no write at all."""
        try:
            store.check_writable()
        except StoreUnavailable as refusal:
            if self.is_current(store):
                self.lose(StoreUnavailable(refusal.reason))
            return 0.0
        if time.monotonic() - self._logged_at > LOG_EVERY_SECONDS:
            self._logged_at = time.monotonic()
            logger.error("circuit breakers: a request of this process: %s", error.reason)
        return REFUSED_SECONDS

    def _note_failure(self, store: BreakerStore, error: StoreUnavailable) -> None:
        was_silent, self._was_silent = self._was_silent, True
        if self.is_threadless and not was_silent and not self._failed_to_connect:
            return  # in the short time of a caller one silence is no outage
        if self.is_current(store):
            self.lose(error)

    def _is_connected(self, store: BreakerStore) -> bool:
        """Return whether the store can be reached; raise StoreUnavailable the second time.

        A restart takes a moment, however often callers ring.
        """
        if self._failed_to_connect and time.monotonic() < self._connects_at:
            return False
        try:
            store.connect()
        except StoreUnavailable:
            failed_before, self._failed_to_connect = self._failed_to_connect, True
            if failed_before:
                raise
            self._connects_at = time.monotonic() + SECOND_TRY_SECONDS
            return False
        self._failed_to_connect = False
        is_late = time.monotonic() - (self._asked_at or 0.0) > latency.MAX_WAIT_SECONDS / 3
        return not (self.is_threadless and is_late)  # the rest is for another caller

    def _is_hung(self, store: BreakerStore) -> bool:
        """Return whether the reporter will not find the store."""
        since, now = getattr(store, "connecting_since", None), time.monotonic()
        if since is None or now - since < FIRST_RETRY_SECONDS:
            return False
        if now - since < self._timeout() + FIRST_RETRY_SECONDS:
            return False
        if self._overdue is None or self._overdue[0] != since:
            self._overdue = since, now
        return now - self._overdue[1] > HUNG_SECONDS

    def _take_requests(self) -> list[Request]:
        requests = []
        with suppress(IndexError):
            while True:
                requests.append(self._requests.popleft())
        return requests

    def _refuse_all(self) -> None:
        for request in self._take_requests():
            request.refuse()

    def _plan_retry(self) -> None:
        wait = min(FIRST_RETRY_SECONDS * 2**self._retries, self._retry_interval())
        self._retries += 1
        self._retry_at = time.monotonic() + wait * random.uniform(0.9, 1.0)

    def _look_for_store(self) -> None:
        """Return to the shared store, on new connections, once it accepts a write."""
        with self._lock:
            if self.stand_in is None or time.monotonic() < self._retry_at:
                return
            self._plan_retry()
        stand_in = self.stand_in
        try:
            if self._shared is None:
                self._shared = self._connect()
            self._shared.renew()
            self._shared.check_writable()
        except StoreUnavailable:
            return
        with self._lock:
            if self.stand_in is not stand_in:
                return
            self.stand_in = None
        logger.warning("circuit breakers: the store is back and its state applies")
        self._store_changed(None)
