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

from analytics_admin.breakers.local_state import NEVER, View
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.rounds import Rounds
from analytics_admin.breakers.state import Control, Results, Snapshot
from analytics_admin.breakers.state_machine import Verdict, judge, retry_after, shown_state
from analytics_admin.breakers.stores.base import BreakerStore
from analytics_admin.breakers.stores.standin import Job, Link
from analytics_admin.breakers.sync import UNKNOWN, Exchange, StateChange, StoreChange
from analytics_admin.conf import app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import follow_process

T = TypeVar("T")

USED_LATELY = 2.0
"""A breaker that nobody asked for this many seconds is no longer synchronised."""


class Fleet:
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
        self._views: dict[str, View] = {}
        self._announce = announce
        self._news: deque[StateChange | StoreChange] = deque()
        self._lock = threading.Lock()
        self._rounds = Rounds()
        self._all_synchronised_at = NEVER
        self.link = Link(
            connect,
            known=self._known,
            store_time=self._store_time,
            retry_interval=lambda: app_settings().store_retry_interval,
            changed=self._store_changed,
        )
        self._exchange = Exchange(
            self.link,
            interval=lambda: self.interval,
            keep_for=lambda: self.keep_for,
            made=self._news.append,
        )
        follow_process(self)

    def view(self, name: str, policy: BreakerPolicy) -> View:
        """Return the view of this name, made at its first use, under the policy."""
        settings = app_settings()
        with self._lock:
            self.interval = settings.sync_interval
            self.keep_for = settings.seconds_to_keep_breakers
            self.keeps_texts = settings.keep_exception_texts
            if name not in self._views:
                self._views[name] = View(name, policy)
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

    def snapshot(self, view: View) -> Snapshot:
        """Return the breaker, at most SYNC_INTERVAL old unless the store is away."""
        self._bring_up_to_date(view)
        return view.snapshot or UNKNOWN

    def shown_state(self, view: View) -> str:
        """Return the word for what calls meet, by what is known."""
        return shown_state(view.snapshot or UNKNOWN, view.store_time(time.monotonic()))

    def retry_after(self, view: View) -> float:
        """Return the seconds until a probe may pass, by what is known."""
        now = view.store_time(time.monotonic())
        return retry_after(view.snapshot or UNKNOWN, view.policy, now)

    def admit(self, view: View) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None when it may not.

        A half-open one is a probe, whose permit the store has granted to this caller alone. In the
        thread of an event loop the view alone is asked: what the store says serves later calls.
        """
        if asyncio._get_running_loop() is not None:
            return self._admit_unasked(view)
        self._bring_up_to_date(view)
        admitted, verdict = self._judge(view)
        if verdict is Verdict.PROBES:
            return self._run(partial(self._exchange.win_permit, view=view))
        return admitted if verdict is Verdict.PASSES else None

    def _admit_unasked(self, view: View) -> Snapshot | None:
        if (spare := view.take_spare()) is not None:
            return spare
        if self._is_due(view):
            self.link.post(self._synchronise_unasked)
        admitted, verdict = self._judge(view)
        if verdict is Verdict.PROBES:
            self.link.post(partial(self._exchange.win_spare, view=view))
            return view.take_spare()
        return admitted if verdict is Verdict.PASSES else None

    async def aadmit(self, view: View) -> Snapshot | None:
        """Do what ``admit`` does, waiting for the store without blocking the event loop."""
        await self._abring_up_to_date(view)
        admitted, verdict = self._judge(view)
        if verdict is Verdict.PROBES:
            return await self._arun(partial(self._exchange.win_permit, view=view))
        return admitted if verdict is Verdict.PASSES else None

    def tell(self, view: View, admitted: Snapshot, results: Results) -> None:
        """Report results at once, and make the transition that they bring about."""
        if _is_disabled(view):
            return
        self._run(partial(self._exchange.tell, view=view, admitted=admitted, results=results))

    async def atell(self, view: View, admitted: Snapshot, results: Results) -> None:
        """Do what ``tell`` does without blocking the event loop."""
        if _is_disabled(view):
            return
        await self._arun(
            partial(self._exchange.tell, view=view, admitted=admitted, results=results)
        )

    def release(self, view: View, admitted: Snapshot) -> None:
        """Give a probe's permit back."""
        self._run(partial(self._exchange.return_permit, view=view, admitted=admitted))

    async def arelease(self, view: View, admitted: Snapshot) -> None:
        """Do what ``release`` does without blocking the event loop."""
        await self._arun(partial(self._exchange.return_permit, view=view, admitted=admitted))

    def flush(self) -> None:
        """Tell the store the successes that it has not heard of; for the end of a process."""
        reports = [view.report() for view in list(self._views.values())]
        reports = [
            report for report in reports if report.results.successes or report.results.rejected
        ]
        if reports:
            self.link.run_here(lambda store: store.add(reports))

    # Waiting for the store: the same jobs, from a thread or from an event loop.

    def _run(self, job: Job[T]) -> T:
        try:
            return self.link.run(job)
        finally:
            self._tell_news()

    async def _arun(self, job: Job[T]) -> T:
        try:
            return await self.link.arun(job)
        finally:
            if self._news:
                await asyncio.to_thread(self._tell_news)

    def _tell_news(self) -> None:
        with suppress(IndexError):
            while True:
                self._announce(self._news.popleft())

    def _synchronise(self, store: BreakerStore) -> None:
        """Bring every breaker that was used lately in step, in one round trip for all.

        One that comes into use between two such rounds is brought in alone: with many of them at
        the start of a process, each would otherwise cost as much as all before it.
        """
        now = time.monotonic()
        views = [
            view for view in list(self._views.values()) if now - view.last_used_at() < USED_LATELY
        ]
        if now - self._all_synchronised_at < self.interval:
            views = [view for view in views if now - view.read_at >= self.interval]
        else:
            self._all_synchronised_at = now
        if views:
            self._exchange.synchronise(store, views)

    def _synchronise_unasked(self, store: BreakerStore) -> None:
        try:
            self._synchronise(store)
        finally:
            self._tell_news()

    def _is_due(self, view: View) -> bool:
        view.used_at = now = time.monotonic()
        return now - view.read_at >= self.interval

    def _bring_up_to_date(self, view: View) -> None:
        """Synchronise if it is due; while another does, wait only if what is known is too old."""
        while self._is_due(view):
            mine, running = self._rounds.join()
            if mine is not None:
                try:
                    self._run(self._synchronise)
                finally:
                    self._rounds.end(mine)
                return
            if self._will_do(view):
                return
            try:
                running.result(timeout=latency.WAIT_LIMIT)
            except TimeoutError:
                return

    async def _abring_up_to_date(self, view: View) -> None:
        while self._is_due(view):
            mine, running = self._rounds.join()
            if mine is not None:
                try:
                    await self._arun(self._synchronise)
                finally:
                    self._rounds.end(mine)
                return
            if self._will_do(view):
                return
            try:
                await asyncio.wait_for(asyncio.wrap_future(running), latency.WAIT_LIMIT)
            except TimeoutError:
                return

    def _will_do(self, view: View) -> bool:
        """Say whether what is known is young enough to go on with while another synchronises."""
        return time.monotonic() - view.read_at < 2 * self.interval

    def _judge(self, view: View) -> tuple[Snapshot, Verdict]:
        now = time.monotonic()
        snapshot = view.snapshot or UNKNOWN
        verdict = judge(snapshot, view.policy, view.store_time(now))
        if verdict is Verdict.PASSES:
            view.roll(now, self.interval)
        return snapshot, verdict

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
        self._news.append(StoreChange(reason=reason))

    def after_fork(self) -> None:
        """Drop what is the parent's to tell, and what only its threads could finish."""
        self._lock = threading.Lock()
        self._rounds = Rounds()
        self._news.clear()
        for view in self._views.values():
            view.after_fork()
        self.link.after_fork()


def _is_disabled(view: View) -> bool:
    """Say whether nothing is counted, so that nothing need be told."""
    hold = view.snapshot.hold if view.snapshot else None
    return hold is not None and hold.control is Control.DISABLED
