"""All breakers of this process, kept in step with the fleet by one synchronisation for all.

The rules are the machine's, a view's bookkeeping is the view's, and how a job reaches the store is
the link's.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from analytics_admin.breakers.local_state import NEVER, LocalState
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.rounds import SyncRounds
from analytics_admin.breakers.state import Control, Results, Snapshot
from analytics_admin.breakers.state_machine import Admission, admission, display_state, retry_after
from analytics_admin.breakers.stores.base import BreakerStore
from analytics_admin.breakers.stores.standin import Job, StoreAccess
from analytics_admin.breakers.sync import UNKNOWN, StateChange, StoreChange, StoreSync
from analytics_admin.conf import app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks

T = TypeVar("T")

IDLE_AFTER_SECONDS = 2.0
"""A breaker that nobody asked for this many seconds is no longer synchronised."""


class Engine:
    """This process' part of the fleet.

    ``connect`` makes the shared store when it is first needed; ``announce`` is told, by the thread
    whose call it was, of each transition that this process made and when the store comes or goes.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        announce: Callable[[StateChange | StoreChange], None],
    ) -> None:
        self.interval = 0.25
        self.keep_for: float | None = None
        self.keeps_texts = True
        self._views: dict[str, LocalState] = {}
        self._announce = announce
        self._events: deque[StateChange | StoreChange] = deque()
        self._lock = threading.Lock()
        self._rounds = SyncRounds()
        self._all_synchronised_at = NEVER
        self.link = StoreAccess(
            connect,
            known=self._known,
            store_time=self._store_time,
            retry_interval=lambda: app_settings().store_retry_interval,
            changed=self._store_changed,
        )
        self._exchange = StoreSync(
            self.link,
            interval=lambda: self.interval,
            keep_for=lambda: self.keep_for,
            made=self._events.append,
        )
        register_process_hooks(self)

    def view(self, name: str, policy: BreakerPolicy) -> LocalState:
        """Return the view of this name, made at its first use, under the policy."""
        settings = app_settings()
        with self._lock:
            self.interval = settings.sync_interval
            self.keep_for = settings.seconds_to_keep_breakers
            self.keeps_texts = settings.keep_exception_texts
            if name not in self._views:
                self._views[name] = LocalState(name, policy)
            view = self._views[name]
        view.apply_policy(policy)
        return view

    def reconnect(self) -> None:
        """Forget the store and all that was read from it; the settings have changed."""
        self.link.reconnect()
        with self._lock:
            self._views.clear()

    def expire(self, name: str) -> None:
        """Ask the store anew at the next call of this breaker."""
        if (view := self._views.get(name)) is not None:
            view.expire()

    def snapshot(self, view: LocalState) -> Snapshot:
        """Return the breaker, at most SYNC_INTERVAL old unless the store is away."""
        self._refresh(view)
        return view.snapshot or UNKNOWN

    def display_state(self, view: LocalState) -> str:
        """Return the word for what calls meet, by what is known."""
        return display_state(view.snapshot or UNKNOWN, view.store_time(time.monotonic()))

    def retry_after(self, view: LocalState) -> float:
        """Return the seconds until a probe may pass, by what is known."""
        now = view.store_time(time.monotonic())
        return retry_after(view.snapshot or UNKNOWN, view.policy, now)

    def admit(self, view: LocalState) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None when it may not.

        A half-open one is a probe, whose permit the store has granted to this caller alone. In the
        thread of an event loop the view alone is asked: what the store says serves later calls.
        """
        if asyncio._get_running_loop() is not None:
            return self._admit_locally(view)
        self._refresh(view)
        admitted, decision = self._decide(view)
        if decision is Admission.PROBE:
            return self._run(partial(self._exchange.win_permit, view=view))
        return admitted if decision is Admission.ALLOW else None

    def _admit_locally(self, view: LocalState) -> Snapshot | None:
        if (spare := view.take_spare()) is not None:
            return spare
        if self._is_due(view):
            self.link.post(self._synchronise_in_background)
        admitted, decision = self._decide(view)
        if decision is Admission.PROBE:
            self.link.post(partial(self._exchange.win_spare, view=view))
            return view.take_spare()
        return admitted if decision is Admission.ALLOW else None

    async def aadmit(self, view: LocalState) -> Snapshot | None:
        """Do what ``admit`` does, waiting for the store without blocking the event loop."""
        await self._arefresh(view)
        admitted, decision = self._decide(view)
        if decision is Admission.PROBE:
            return await self._arun(partial(self._exchange.win_permit, view=view))
        return admitted if decision is Admission.ALLOW else None

    def tell(self, view: LocalState, admitted: Snapshot, results: Results) -> None:
        """Report results at once, and make the transition that they bring about."""
        if _is_disabled(view):
            return
        self._run(partial(self._exchange.tell, view=view, admitted=admitted, results=results))

    async def atell(self, view: LocalState, admitted: Snapshot, results: Results) -> None:
        """Do what ``tell`` does without blocking the event loop."""
        if _is_disabled(view):
            return
        await self._arun(
            partial(self._exchange.tell, view=view, admitted=admitted, results=results)
        )

    def release(self, view: LocalState, admitted: Snapshot) -> None:
        """Give a probe's permit back."""
        self._run(partial(self._exchange.return_permit, view=view, admitted=admitted))

    async def arelease(self, view: LocalState, admitted: Snapshot) -> None:
        """Do what ``release`` does without blocking the event loop."""
        await self._arun(partial(self._exchange.return_permit, view=view, admitted=admitted))

    def flush(self) -> None:
        """Tell the store the successes that it has not heard of; for the end of a process."""
        reports = [view.report() for view in list(self._views.values())]
        reports = [
            report for report in reports if report.results.successes or report.results.rejected
        ]
        if reports:
            self.link.run_if_available(lambda store: store.add(reports))

    # Waiting for the store: the same jobs, from a thread or from an event loop.

    def _run(self, job: Job[T]) -> T:
        try:
            return self.link.run(job)
        finally:
            self._announce_events()

    async def _arun(self, job: Job[T]) -> T:
        try:
            return await self.link.arun(job)
        finally:
            if self._events:
                await asyncio.to_thread(self._announce_events)

    def _announce_events(self) -> None:
        with suppress(IndexError):
            while True:
                self._announce(self._events.popleft())

    def _synchronise(self, store: BreakerStore) -> None:
        """Bring every breaker that was used lately in step, in one round trip for all.

        One that comes into use between two such rounds is brought in alone: with many of them at
        the start of a process, each would otherwise cost as much as all before it.
        """
        now = time.monotonic()
        views = [
            view
            for view in list(self._views.values())
            if now - view.last_used_at() < IDLE_AFTER_SECONDS
        ]
        if now - self._all_synchronised_at < self.interval:
            views = [view for view in views if now - view.read_at >= self.interval]
        else:
            self._all_synchronised_at = now
        if views:
            self._exchange.synchronise(store, views)

    def _synchronise_in_background(self, store: BreakerStore) -> None:
        try:
            self._synchronise(store)
        finally:
            self._announce_events()

    def _is_due(self, view: LocalState) -> bool:
        view.used_at = now = time.monotonic()
        return now - view.read_at >= self.interval

    def _refresh(self, view: LocalState) -> None:
        """Synchronise if it is due; while another does, wait only if what is known is too old."""
        while self._is_due(view):
            mine, running = self._rounds.join()
            if mine is not None:
                try:
                    self._run(self._synchronise)
                finally:
                    self._rounds.end(mine)
                return
            if self._is_fresh_enough(view):
                return
            try:
                running.result(timeout=latency.MAX_WAIT_SECONDS)
            except TimeoutError:
                return

    async def _arefresh(self, view: LocalState) -> None:
        while self._is_due(view):
            mine, running = self._rounds.join()
            if mine is not None:
                try:
                    await self._arun(self._synchronise)
                finally:
                    self._rounds.end(mine)
                return
            if self._is_fresh_enough(view):
                return
            try:
                await asyncio.wait_for(asyncio.wrap_future(running), latency.MAX_WAIT_SECONDS)
            except TimeoutError:
                return

    def _is_fresh_enough(self, view: LocalState) -> bool:
        """Say whether what is known is young enough to go on with while another synchronises."""
        return time.monotonic() - view.read_at < 2 * self.interval

    def _decide(self, view: LocalState) -> tuple[Snapshot, Admission]:
        now = time.monotonic()
        snapshot = view.snapshot or UNKNOWN
        decision = admission(snapshot, view.policy, view.store_time(now))
        if decision is Admission.ALLOW:
            view.roll(now, self.interval)
        return snapshot, decision

    # What the link wants to know, and tells.

    def _known(self) -> dict[str, Snapshot]:
        views = list(self._views.values())
        return {view.name: latest for view in views if (latest := view.latest())}

    def _store_time(self) -> float:
        """Return the store's time by the latest reading; this host's before there was any."""
        read = [view for view in list(self._views.values()) if view.snapshot is not None]
        latest = max(read, key=lambda view: view.read_at, default=None)
        return time.time() if latest is None else latest.store_time(time.monotonic())

    def _store_changed(self, reason: str | None) -> None:
        for view in list(self._views.values()):
            if reason is None:
                view.forget_pending()  # of the time on its own
            view.expire()
        self._events.append(StoreChange(reason=reason))

    def after_fork(self) -> None:
        """Drop what is the parent's to tell, and what only its threads could finish."""
        self._lock = threading.Lock()
        self._rounds = SyncRounds()
        self._events.clear()
        for view in self._views.values():
            view.after_fork()
        self.link.after_fork()


def _is_disabled(view: LocalState) -> bool:
    """Say whether nothing is counted, so that nothing need be told."""
    hold = view.snapshot.hold if view.snapshot else None
    return hold is not None and hold.control is Control.DISABLED
