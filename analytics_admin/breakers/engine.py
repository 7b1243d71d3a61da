"""All breakers of one process, kept in step with the fleet by shared rounds of synchronisation."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from analytics_admin.breakers.local_state import NEVER, LocalState
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.state import (
    Control,
    Results,
    Snapshot,
    State,
    StateChange,
    StoreChange,
)
from analytics_admin.breakers.state_machine import Admission, admission, display_state, retry_after
from analytics_admin.breakers.stores.access import Job, StoreAccess
from analytics_admin.breakers.stores.base import BreakerStore
from analytics_admin.breakers.sync import NO_SNAPSHOT, StoreSync
from analytics_admin.conf import app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks

T = TypeVar("T")

IDLE_AFTER_SECONDS = 2.0
"""A breaker unused for this long is no longer synchronised."""


class Engine:
    """The breakers of this process.

    ``connect`` returns the shared store when it is first needed. ``announce`` receives each
    transition that this process made, and when the store is lost or back. It runs in the thread
    whose call it was.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        announce: Callable[[StateChange | StoreChange], None],
    ) -> None:
        self.interval = 0.25
        self.keep_for: float | None = None
        self.keeps_texts = True
        self._states: dict[str, LocalState] = {}
        self._announce = announce
        self._events: deque[StateChange | StoreChange] = deque()
        self._posted: deque[tuple[LocalState, Snapshot, Results | None]] = deque()
        self._lock = threading.Lock()
        self._rounds = SyncRounds()
        self._all_synchronised_at = NEVER
        self.access = StoreAccess(
            connect,
            latest_snapshots=self._latest_snapshots,
            store_time=self._store_time,
            retry_interval=lambda: app_settings().store_retry_interval,
            store_changed=self._store_changed,
        )
        self._sync = StoreSync(
            self.access,
            interval=lambda: self.interval,
            keep_for=lambda: self.keep_for,
            changed=self._events.append,
        )
        register_process_hooks(self)

    def local_state(self, name: str, policy: BreakerPolicy) -> LocalState:
        """Return the local state of this name, created at its first use, under the policy."""
        settings = app_settings()
        with self._lock:
            self.interval = settings.sync_interval
            self.keep_for = settings.seconds_to_keep_breakers
            self.keeps_texts = settings.keep_exception_texts
            if name not in self._states:
                self._states[name] = LocalState(name, policy)
            state = self._states[name]
        state.apply_policy(policy)
        return state

    def reconnect(self) -> None:
        """Forget the store and everything read from it; the settings have changed."""
        self.access.reconnect()
        with self._lock:
            self._states.clear()

    def expire(self, name: str) -> None:
        """Read the breaker again at its next call."""
        if (state := self._states.get(name)) is not None:
            state.expire()

    def snapshot(self, state: LocalState) -> Snapshot:
        """Return the breaker, at most SYNC_INTERVAL old unless the store is lost."""
        self._refresh(state)
        return state.snapshot or NO_SNAPSHOT

    def display_state(self, state: LocalState) -> str:
        """Return the state that calls meet, by the last reading."""
        return display_state(state.snapshot, state.store_time(time.monotonic()))

    def retry_after(self, state: LocalState) -> float:
        """Return the seconds until a probe may pass, by the last reading."""
        now = state.store_time(time.monotonic())
        return retry_after(state.snapshot or NO_SNAPSHOT, state.policy, now)

    def admit(self, state: LocalState) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None if it is rejected.

        A half-open one is a probe: the store has granted its permit to this caller alone. In the
        thread of an event loop only the local state decides; the store's answer serves later calls.
        """
        if asyncio._get_running_loop() is not None:
            return self._admit_locally(state)
        self._refresh(state)
        snapshot, decision = self._decide(state)
        if decision is Admission.PROBE:
            claim = _Claim(self._sync, state)
            try:
                return self._run(claim.win)
            except BaseException:
                claim.abandon(self.post)
                raise
        return snapshot if decision is Admission.ALLOW else None

    def _admit_locally(self, state: LocalState) -> Snapshot | None:
        if (spare := state.take_spare()) is not None:
            return spare
        if self._is_due(state):
            self.access.post(self._synchronise_in_background)
        snapshot, decision = self._decide(state)
        if decision is Admission.PROBE:
            self.access.post(partial(self._sync.win_spare, state=state))
            return state.take_spare()
        return snapshot if decision is Admission.ALLOW else None

    async def aadmit(self, state: LocalState) -> Snapshot | None:
        """Do what ``admit`` does, waiting for the store without blocking the event loop."""
        await self._arefresh(state)
        snapshot, decision = self._decide(state)
        if decision is Admission.PROBE:
            claim = _Claim(self._sync, state)
            try:
                return await self._arun(claim.win)
            except BaseException:  # cancelled, or closed
                claim.abandon(self.post)
                raise
        return snapshot if decision is Admission.ALLOW else None

    def record(self, state: LocalState, admitted: Snapshot, results: Results) -> None:
        """Report results at once, and make the transition that they require."""
        if not _is_disabled(state):
            self._run(partial(self._sync.record, state=state, admitted=admitted, results=results))

    async def arecord(self, state: LocalState, admitted: Snapshot, results: Results) -> None:
        """Do what ``record`` does without blocking the event loop."""
        if not _is_disabled(state):
            await self._arun(
                partial(self._sync.record, state=state, admitted=admitted, results=results)
            )

    def release(self, state: LocalState, admitted: Snapshot) -> None:
        """Return a probe's permit."""
        self._run(partial(self._sync.return_permit, state=state, admitted=admitted))

    async def arelease(self, state: LocalState, admitted: Snapshot) -> None:
        """Do what ``release`` does without blocking the event loop."""
        await self._arun(partial(self._sync.return_permit, state=state, admitted=admitted))

    def post(self, state: LocalState, admitted: Snapshot, results: Results | None) -> None:
        """Report results, or return a probe's permit, soon and without waiting or awaiting.

        For calls that end because their caller does: cancelled, closed, garbage, out of time.
        """
        if results is None or not _is_disabled(state):
            self._posted.append((state, admitted, results))
            self.access.post(self._do_posted)

    def _do_posted(self, store: BreakerStore) -> None:
        with suppress(IndexError):
            while True:
                state, admitted, results = self._posted.popleft()
                if results is None:
                    self._sync.return_permit(store, state, admitted)
                else:
                    self._sync.record(store, state, admitted, results)
        self._announce_events()

    def flush(self) -> None:
        """Report the pending successes; for the end of a process."""
        reports = [state.report() for state in list(self._states.values())]
        reports = [
            report for report in reports if report.results.successes or report.results.rejected
        ]
        if reports:
            self.access.run_if_available(lambda store: store.add(reports))

    def _run(self, job: Job[T]) -> T:
        try:
            return self.access.run(job)
        finally:
            self._announce_events()

    async def _arun(self, job: Job[T]) -> T:
        try:
            return await self.access.arun(job)
        finally:
            if self._events:
                await asyncio.to_thread(self._announce_events)

    def _announce_events(self) -> None:
        with suppress(IndexError):
            while True:
                self._announce(self._events.popleft())

    def _synchronise(self, store: BreakerStore) -> None:
        """Synchronise every breaker in use, in one round trip.

        A breaker first used between two rounds is synchronised alone: at the start of a process
        with many breakers, each would otherwise cost as much as all before it.
        """
        self._do_posted(store)
        now = time.monotonic()
        states = [
            state
            for state in list(self._states.values())
            if now - state.last_used_at() < IDLE_AFTER_SECONDS
        ]
        if now - self._all_synchronised_at < self.interval:
            states = [state for state in states if now - state.read_at >= self.interval]
        else:
            self._all_synchronised_at = now
        if states:
            self._sync.synchronise(store, states)

    def _synchronise_in_background(self, store: BreakerStore) -> None:
        try:
            self._synchronise(store)
        finally:
            self._announce_events()

    def _is_due(self, state: LocalState) -> bool:
        state.used_at = now = time.monotonic()
        return now - state.read_at >= self.interval

    def _refresh(self, state: LocalState) -> None:
        """Synchronise if it is due. Wait for a round under way only if the state is too old."""
        while self._is_due(state):
            own, running = self._rounds.join()
            if own is not None:
                try:
                    self._run(self._synchronise)
                finally:
                    self._rounds.end(own)
                return
            if self._is_fresh_enough(state):
                return
            try:
                running.result(timeout=latency.MAX_WAIT_SECONDS)
            except TimeoutError:
                return

    async def _arefresh(self, state: LocalState) -> None:
        while self._is_due(state):
            own, running = self._rounds.join()
            if own is not None:
                try:
                    await self._arun(self._synchronise)
                finally:
                    self._rounds.end(own)
                return
            if self._is_fresh_enough(state):
                return
            try:
                await asyncio.wait_for(asyncio.wrap_future(running), latency.MAX_WAIT_SECONDS)
            except TimeoutError:
                return

    def _is_fresh_enough(self, state: LocalState) -> bool:
        """Return whether the state will do while another caller synchronises."""
        return time.monotonic() - state.read_at < 2 * self.interval

    def _decide(self, state: LocalState) -> tuple[Snapshot, Admission]:
        now = time.monotonic()
        snapshot = state.snapshot or NO_SNAPSHOT
        decision = admission(snapshot, state.policy, state.store_time(now))
        if decision is Admission.ALLOW:
            state.roll(now, self.interval)
        return snapshot, decision

    def _latest_snapshots(self) -> dict[str, Snapshot]:
        states = list(self._states.values())
        return {state.name: latest for state in states if (latest := state.latest())}

    def _store_time(self) -> float:
        """Return the store's time by the latest reading, else this host's time."""
        read = [state for state in list(self._states.values()) if state.snapshot is not None]
        latest = max(read, key=lambda state: state.read_at, default=None)
        return time.time() if latest is None else latest.store_time(time.monotonic())

    def _store_changed(self, reason: str | None) -> None:
        for state in list(self._states.values()):
            if reason is None:
                state.forget_pending()  # counted while the store was lost
            state.expire()
        self._events.append(StoreChange(reason=reason))

    def after_fork(self) -> None:
        """Drop what the parent reports, and what only its threads could finish."""
        self._lock = threading.Lock()
        self._rounds = SyncRounds()
        self._events.clear()
        self._posted.clear()
        for state in self._states.values():
            state.after_fork()
        self.access.after_fork()


class _Claim:
    """A caller's claim to a probe's permit, which goes back if the caller has left."""

    def __init__(self, sync: StoreSync, state: LocalState) -> None:
        self._sync = sync
        self._state = state
        self._is_abandoned = False
        self._granted: list[Snapshot] = []  # taken from by one of the two who may return it

    def win(self, store: BreakerStore) -> Snapshot | None:
        snapshot = self._sync.win_permit(store, self._state)
        if snapshot is not None and snapshot.state is State.HALF_OPEN:
            self._granted.append(snapshot)
            if self._is_abandoned:
                with suppress(IndexError):
                    self._sync.return_permit(store, self._state, self._granted.pop())
        return snapshot

    def abandon(self, post: Callable[[LocalState, Snapshot, None], None]) -> None:
        self._is_abandoned = True
        with suppress(IndexError):
            post(self._state, self._granted.pop(), None)


class SyncRounds:
    """Rounds of synchronisation: one at a time, for which others may wait.

    Replace it after a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Future[None] | None = None
        self._began = 0.0

    def join(self) -> "tuple[Future[None] | None, Future[None]]":
        """Return (own, running): ``own`` is the future of the round that this caller begins.

        It is None while another caller's round runs. A round that exceeds the wait limit hangs in a
        blocked event loop, and the next caller begins a new one.
        """
        with self._lock:
            now = time.monotonic()
            if self._current is not None and now - self._began <= latency.MAX_WAIT_SECONDS:
                return None, self._current
            self._current, self._began = Future(), now
            self._current.set_running_or_notify_cancel()  # a waiter's cancellation does not end it
            return self._current, self._current

    def end(self, own: "Future[None]") -> None:
        """End the caller's round and release those who wait for it."""
        with self._lock:
            if self._current is own:
                self._current = None
        own.set_result(None)


def _is_disabled(state: LocalState) -> bool:
    """Return whether nothing is counted, so that nothing has to be reported."""
    hold = state.snapshot.hold if state.snapshot else None
    return hold is not None and hold.control is Control.DISABLED
