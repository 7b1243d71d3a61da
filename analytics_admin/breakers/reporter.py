"""The thread of a process that alone talks to the breakers' store.

Callers append to memory and ring. In a process that can have no thread, they do the reporter's work
now and then. While the store is lost, they use one in memory: see ``choose_store`` and ``outage``.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from analytics_admin.breakers.bell import Bell
from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.breakers.outage import SECOND_TRY_SECONDS, Outage
from analytics_admin.breakers.reporter_requests import Request, Wish
from analytics_admin.breakers.stores.base import BreakerStore, RequestRefused, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import notice_fork
from analytics_admin.stores.threads import (
    KeptThread,
    allocate_lock,
    allocate_rlock,
    start_thread,
)

QUICK_SECONDS = 0.015
"""A caller that has done the reporter's work in less may do it for the next request, too."""
REFUSED_REQUEST_SECONDS = 1.0
"""Wait after the store has refused a request that concerns no breaker alone."""
ERROR_SECONDS = 1.0
"""Wait after an internal error."""
MAX_LOOKS = 100
"""Maximum number of breakers that one turn reads because calls wait for it."""
LOG_EVERY_SECONDS = 60.0
THREAD_NAME = "circuit breakers"
FOREVER = float("inf")


class Reporter:
    """The thread, its bell, and the store that it uses.

    ``turn`` does what is due and what is requested, and returns the seconds until something is due
    again. In between at least ``interval`` seconds pass where callers do it.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        *,
        outage: Outage,
        turn: Callable[[BreakerStore, list[Request]], float],
        interval: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._outage = outage
        self._turn = turn
        self._interval = interval
        self._shared: BreakerStore | None = None
        self._begin_afresh()

    def _begin_afresh(self) -> None:
        self._lock = allocate_rlock()
        self._bell = Bell()
        self._requests: deque[Request] = deque()
        self._looks: deque[Request] = deque()
        self._thread = KeptThread(self._work, self._bell, name=THREAD_NAME)
        self._asked_at: float | None = None
        self._was_silent = False
        self._logged_at = float("-inf")
        self._has_no_thread = False
        self._turn_lock = allocate_lock()
        self._turn_at = self._requests_at = 0.0
        self._pid = os.getpid()

    @property
    def is_threadless(self) -> bool:
        """Whether no thread was to be had, for the time being."""
        return self._has_no_thread and not self._thread.is_alive

    @property
    def uses_callers(self) -> bool:
        """Whether what is read is renewed in calls alone."""
        has_memory = isinstance(self._shared, MemoryStore)
        return self._outage.stand_in is not None or self.is_threadless or has_memory

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
        return store is (self._outage.stand_in or self._shared)

    def choose_store(self) -> BreakerStore | None:
        """Return the store that callers use by themselves, in memory; None: they ask the reporter.

        Connects first, and in a process without threads does what is due.
        """
        if self._pid != os.getpid():
            notice_fork()
        if self._outage.stand_in is not None:
            self.ring()
            return self._outage.stand_in or self.choose_store()
        try:
            store = self._find_store()
        except StoreUnavailable as error:
            return self.lose(error)
        if isinstance(store, MemoryStore):
            return store
        if self._thread.is_missing:
            self._start()
        if self.is_threadless:
            self._take_turn()
            return self._outage.stand_in
        if self._asked_at is not None and self._outage.is_hung(store):
            return self.lose(StoreUnavailable(latency.NO_REPLY))
        return None

    def _find_store(self) -> BreakerStore:
        if (store := self._shared) is None:
            with self._lock:
                store = self._shared = self._shared or self._connect()
        return store

    def submit(self, request: Request) -> Request:
        """Have the reporter answer the request soon."""
        (self._looks if request.wish is Wish.LOOK else self._requests).append(request)
        self.ring()
        return request

    def ring(self) -> None:
        """Have the reporter look for what is to be done. Never waits; signal handlers may ring."""
        if self._start():
            self._bell.ring()
        else:
            self._take_turn()

    def _take_turn(self) -> None:
        """Do the reporter's work in a caller's thread: once an interval, and not for long.

        Requests need not wait for that while the store answers quickly.
        """
        if self._shared is None or not self._turn_lock.acquire(blocking=False):
            return
        try:
            began = time.monotonic()
            if self._outage.stand_in is not None:
                self._refuse_all()
                if not self._outage.may_look(self._shared):
                    return
            elif not any(request.wish is Wish.FLUSH for request in self._requests):
                is_asked = self._requests or self._looks
                due_at = self._requests_at if is_asked else self._turn_at
                if began < due_at:
                    return
            with self._shared.within(latency.MAX_WAIT_SECONDS):
                self._do_turn()
            ended = time.monotonic()
            self._turn_at = self._requests_at = ended + self._interval()
            if ended - began < QUICK_SECONDS:
                self._requests_at = ended
        finally:
            self._turn_lock.release()

    def lose(self, error: StoreUnavailable) -> MemoryStore:
        """Go on in memory from the last readings; return the store there."""
        stand_in, is_new = self._outage.begin(error)
        if is_new:
            self._refuse_all()
            self.ring()
        return stand_in

    def reconnect(self) -> None:
        """Forget the store; its settings have changed."""
        with self._lock:
            bell, requests = self._bell, [*self._requests, *self._looks]
            self._outage.forget()
            self._shared = None
            self._begin_afresh()
        bell.ring()
        for request in requests:
            request.answer.cancel()

    def after_fork(self) -> None:
        """Start afresh in a forked child, which has none of the parent's threads."""
        self._begin_afresh()
        if isinstance(self._shared, MemoryStore):
            self._shared.after_fork()

    def _start(self) -> bool:
        """Return whether the thread works, or is about to."""
        if self._thread.begin(start_thread):
            self._has_no_thread = False
            return True
        if not self._has_no_thread:
            self._has_no_thread = True
            logger.warning("circuit breakers: no thread can be started; calls report and read")
        return False

    def _work(self, bell: Bell) -> None:
        pause = 0.0
        while True:
            try:
                bell.wait(pause)
                if bell is not self._bell:
                    return
                with self._turn_lock:  # callers did the work while no thread was to be had
                    pause = self._do_turn()
            # Nothing that goes wrong here may leave the process without a reporter: no exception
            # can be meant for this thread.
            except BaseException as error:
                pause = ERROR_SECONDS
                with suppress(BaseException):
                    self._note_error(error)

    def _note_error(self, error: BaseException) -> None:
        self._refuse_all()
        if time.monotonic() - self._logged_at > LOG_EVERY_SECONDS:
            self._logged_at = time.monotonic()
            name = type(error).__name__
            logger.error("circuit breakers: internal error: %s", name, exc_info=error)

    def _do_turn(self) -> float:
        if self._outage.stand_in is not None:
            self._outage.look(self._find_store)
            if self._outage.stand_in is not None:
                self._refuse_all()
                return self._outage.retry_in
        store = self._shared
        if store is None:
            return FOREVER
        requests: list[Request] = []
        self._asked_at = time.monotonic()
        try:
            if not self._is_connected(store):
                return max(SECOND_TRY_SECONDS / 10, self._outage.reach_in)
            requests = self._take_requests()
            pause = self._turn(store, requests)
        except RequestRefused as error:
            return self._note_refusal(store, error)
        except StoreUnavailable as error:
            self._note_failure(store, error)
            return 0.0
        else:
            self._was_silent = False
            return 0.0 if self._looks else pause
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
        return REFUSED_REQUEST_SECONDS

    def _note_failure(self, store: BreakerStore, error: StoreUnavailable) -> None:
        was_silent, self._was_silent = self._was_silent, True
        if self.is_threadless and not was_silent and not self._outage.is_unreachable:
            return  # in the short time of a caller one silence is no outage
        if self.is_current(store):
            self.lose(error)

    def _is_connected(self, store: BreakerStore) -> bool:
        if not self._outage.reach(store):
            return False
        is_late = time.monotonic() - (self._asked_at or 0.0) > latency.MAX_WAIT_SECONDS / 3
        return not (self.is_threadless and is_late)  # the rest is for another caller

    def _take_requests(self) -> list[Request]:
        requests = []
        with suppress(IndexError):
            while True:
                requests.append(self._requests.popleft())
        with suppress(IndexError):
            for _ in range(MAX_LOOKS):
                requests.append(self._looks.popleft())
        return requests

    def _refuse_all(self) -> None:
        while requests := self._take_requests():
            for request in requests:
                request.refuse()
