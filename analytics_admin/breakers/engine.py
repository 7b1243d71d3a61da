"""All breakers of one process: calls touch memory, and one reporter talks to the store."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, cast

from analytics_admin.breakers.local_state import NEVER, LocalState, Outcome
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.reporter import FOREVER, Reporter, Request, Wish
from analytics_admin.breakers.state import Control, Snapshot, State, StateChange, StoreChange
from analytics_admin.breakers.state_machine import Admission, admission, display_state, retry_after
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.sync import NO_SNAPSHOT, StoreSync
from analytics_admin.conf import app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks

IDLE_AFTER_SECONDS = 2.0
"""A breaker unused for this long is no longer kept up to date; its next call reads it."""
SPARE_SECONDS = 1.0
"""A permit that came after its caller had left serves another call for this long."""
RECENT_SECONDS = 60.0
_CLOSED = State.CLOSED
GATHER_SECONDS = 0.005
"""After a report of failures the next ones wait this long for each other, unless they open it."""


class Engine:
    """The breakers of this process.

    ``connect`` returns the shared store when it is first needed. ``announce`` receives each
    transition that this process made, and when the store is lost or back; it must not wait.
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
        self._followed: dict[str, LocalState] = {}
        self._urgent: dict[str, LocalState] = {}
        self._alone: dict[str, LocalState] = {}
        self._runs_due: dict[str, float] = {}
        self._announce = announce
        self._lock = threading.RLock()
        self._all_synchronised_at = NEVER
        self._gathers_until = NEVER
        self.reporter = Reporter(
            connect,
            turn=self._turn,
            stand_in=self._make_stand_in,
            timeout=lambda: app_settings().store_timeout,
            retry_interval=lambda: app_settings().store_retry_interval,
            store_changed=self._store_changed,
        )
        self._sync = StoreSync(
            is_current=self.reporter.is_current,
            lasts=self._reading_lasts,
            interval=lambda: self.interval,
            keep_for=lambda: self.keep_for,
            changed=announce,
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
        self.reporter.reconnect()
        with self._lock:
            for known in (self._states, self._followed, self._urgent, self._alone):
                known.clear()
            self._runs_due.clear()

    def expire(self, name: str) -> None:
        """Read the breaker again at its next call."""
        if (state := self._states.get(name)) is not None:
            state.expire()

    def snapshot(self, state: LocalState) -> Snapshot:
        """Return the breaker, at most SYNC_INTERVAL old unless the store is lost or slow."""
        if (store := self.reporter.local_store()) is not None:
            self._refresh(store, state)
        elif (look := self._look(state)) is not None:
            self._wait_for_look(state, look)
        state.used_at = time.monotonic()
        return state.current or NO_SNAPSHOT

    def display_state(self, state: LocalState) -> str:
        """Return the state that calls meet, by the last reading."""
        return display_state(state.current, state.store_time(time.monotonic()))

    def retry_after(self, state: LocalState) -> float:
        """Return the seconds until a probe may pass, by the last reading."""
        now = state.store_time(time.monotonic())
        return retry_after(state.current or NO_SNAPSHOT, state.policy, now)

    def admit(self, state: LocalState) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None if it is rejected.

        A half-open one is a probe: the store has granted its permit to this caller alone. In the
        thread of an event loop only the local state decides; the store's answer serves later calls.
        """
        if (store := self.reporter.local_store()) is not None:
            return self._admit_in(store, state)
        waits = asyncio._get_running_loop() is None
        if (look := self._look(state)) is not None and waits:
            self._wait_for_look(state, look)
        if (spare := state.take_spare(time.monotonic())) is not None:
            return spare
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        request = self._ask_for_permit(state)
        if not waits:
            request.answer.cancel()
            return None
        answer = self._wait(request)
        if self.reporter.local_store() is not None:
            return self.admit(state)  # the store was lost meanwhile
        return cast("Snapshot | None", answer)

    async def aadmit(self, state: LocalState) -> Snapshot | None:
        """Do what ``admit`` does, waiting for the store without blocking the event loop."""
        if (store := self.reporter.local_store()) is not None:
            return self._admit_in(store, state)
        if (look := self._look(state)) is not None and not look.done():
            await asyncio.wait([asyncio.wrap_future(look)], timeout=self._patience(state))
        if (spare := state.take_spare(time.monotonic())) is not None:
            return spare
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        answer = await self._await(self._ask_for_permit(state))
        if self.reporter.local_store() is not None:
            return self.admit(state)
        return cast("Snapshot | None", answer)

    def record(self, state: LocalState, outcome: Outcome) -> None:
        """Count the outcome of a call; never waits for the store."""
        snapshot = state.snapshot
        hold = None if snapshot is None else snapshot.hold
        if hold is not None and hold.control is Control.DISABLED:
            return  # nothing is counted, so that nothing has to be reported
        state.count(outcome)
        state.judge(outcome.ended, random.random())
        if (store := self.reporter.local_store()) is not None:
            self._synchronise_in(store, [state])
            return
        self._urgent[state.name] = state
        # A result that decides nothing alone may wait for others.
        if (
            outcome.ended >= self._gathers_until
            or state.ahead is not None
            or state.has_rates
            or snapshot is None
            or snapshot.state is not _CLOSED
        ):
            self.reporter.ring()

    def release(self, state: LocalState, generation: str) -> None:
        """Return a probe's permit; never waits for the store."""
        if (store := self.reporter.local_store()) is not None:
            try:
                self._sync.return_permit(store, state, generation)
            except StoreUnavailable as error:
                self.reporter.lose(error)
        else:
            self.reporter.submit(Request(wish=Wish.RETURN, state=state, generation=generation))

    def flush(self) -> None:
        """Report what the store does not have yet; for the end of a process."""
        self.settle(latency.MAX_WAIT_SECONDS)

    def settle(self, timeout: float) -> bool:
        """Report what the store does not have yet; return whether it has it all in time."""
        if not self._recent():
            return True
        if (store := self.reporter.local_store()) is not None:
            if store is self.reporter.stand_in:
                return False
            return self._synchronise_in(store, self._recent())
        request = self.reporter.submit(Request(wish=Wish.FLUSH))
        return self._wait(request, timeout) is True

    def after_fork(self) -> None:
        """Drop what the parent reports, and what only its threads could finish."""
        self._lock = threading.RLock()
        self._followed, self._urgent, self._runs_due = {}, {}, {}
        self._gathers_until = NEVER
        for state in list(self._states.values()):
            state.after_fork()
        self.reporter.after_fork()

    # What callers do while they use a store in their own thread.

    def _admit_in(self, store: BreakerStore, state: LocalState) -> Snapshot | None:
        self._refresh(store, state)
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        try:
            return self._sync.win_permits(store, state, 1)[0]
        except StoreUnavailable as error:
            return self._admit_in(self.reporter.lose(error), state)

    def _refresh(self, store: BreakerStore, state: LocalState) -> None:
        """Read the breaker again if it is due; a store in memory is not worth reading ahead."""
        state.used_at = now = time.monotonic()
        if now - state.read_at >= self.interval:
            self._synchronise_in(store, [state])

    def _synchronise_in(self, store: BreakerStore, states: list[LocalState]) -> bool:
        if store is self.reporter.stand_in:
            self._alone |= {state.name: state for state in states}
        try:
            self._sync.synchronise(store, states)
        except StoreUnavailable as error:
            stand_in = self.reporter.lose(error)
            self._sync.synchronise(stand_in, states)
            return False
        return True

    # What callers ask of the reporter.

    def _look(self, state: LocalState) -> "Future[Any] | None":
        """Return what is done once the breaker has been read; None if it has been.

        From then on the breaker is kept up to date. All callers wait for the same reading.
        """
        look = state.look
        if not state.is_followed:
            request = Request(wish=Wish.LOOK, state=state)
            look = state.look = request.answer
            state.used_at = state.look_at = time.monotonic()
            state.is_followed = True
            self._followed[state.name] = state
            self.reporter.submit(request)
        elif look is not None and look.done():
            look = state.look = None
        return look

    def _wait_for_look(self, state: LocalState, look: "Future[Any]") -> None:
        wait([look], timeout=self._patience(state))

    def _patience(self, state: LocalState) -> float:
        """Return the seconds for which a caller waits: all together not longer than one alone."""
        if self.reporter.is_silent:
            return 0.0
        return max(0.0, state.look_at + latency.MAX_WAIT_SECONDS - time.monotonic())

    def _ask_for_permit(self, state: LocalState) -> Request:
        return self.reporter.submit(Request(wish=Wish.PERMIT, state=state))

    # A TimeoutError may be the caller's own time limit, raised by a signal's handler in the middle
    # of a wait: these waits end without one.

    def _wait(self, request: Request, timeout: float | None = None) -> Any:
        """Return the answer; None if the store is silent, or lost meanwhile."""
        if timeout is None:
            timeout = 0.0 if self.reporter.is_silent else latency.MAX_WAIT_SECONDS
        try:
            wait([request.answer], timeout=timeout)
            return self._take(request)
        except BaseException:
            self._abandon(request)
            raise

    async def _await(self, request: Request) -> Any:
        limit = 0.0 if self.reporter.is_silent else latency.MAX_WAIT_SECONDS
        try:
            if not request.answer.done():
                await asyncio.wait([asyncio.wrap_future(request.answer)], timeout=limit)
            return self._take(request)
        except BaseException:  # cancelled, or closed
            self._abandon(request)
            raise

    def _take(self, request: Request) -> Any:
        answer = request.answer
        if not answer.done():
            self._abandon(request)
        elif not answer.cancelled():
            return answer.result()
        return None

    def _abandon(self, request: Request) -> None:
        """Give back what comes for a caller that has left."""
        if not request.answer.cancel():
            request.answer.add_done_callback(partial(self._give_back, request))

    def _give_back(self, request: Request, answer: "Future[Any]") -> None:
        permit = None if answer.cancelled() else answer.result()
        if isinstance(permit, Snapshot) and not _is_no_probe(permit) and request.state is not None:
            self.release(request.state, permit.generation)

    def _decide(self, state: LocalState) -> tuple[Snapshot, Admission]:
        state.used_at = now = time.monotonic()
        snapshot = state.current or NO_SNAPSHOT
        decision = admission(snapshot, state.policy, state.store_time(now))
        if decision is Admission.PROBE and state.kept is not None:
            state.drop_kept()
            return self._decide(state)
        if decision is not Admission.PROBE:
            state.roll(now, self._reading_lasts())
        return snapshot, decision

    def _reading_lasts(self) -> float:
        """Return the seconds for which a reading is good: the reporter renews it by itself."""
        return self.interval if self.reporter.uses_callers else FOREVER

    # What the reporter does.

    def _turn(self, store: BreakerStore, requests: list[Request]) -> float:
        """Report, read and answer; return the seconds until the next round."""
        until, self._gathers_until = self._gathers_until, NEVER  # what comes now has to ring
        urgent = self._take_urgent()
        if states := self._due(requests, urgent):
            self._sync.synchronise(store, list(states.values()))
            self._note_runs(states)
        self._answer(store, requests)
        if not self._followed and not self._return_spares(store):
            return FOREVER
        due = min([self._all_synchronised_at + self.interval, *self._runs_due.values()])
        now = time.monotonic()
        if urgent:
            until = now + GATHER_SECONDS
        if until <= now:
            return due - now
        self._gathers_until = until
        return min(due, until) - now

    def _take_urgent(self) -> dict[str, LocalState]:
        urgent = {}
        while self._urgent:
            name, state = self._urgent.popitem()
            urgent[name] = state
        return urgent

    def _due(self, requests: list[Request], urgent: dict[str, LocalState]) -> dict[str, LocalState]:
        """Return by name the breakers to synchronise now."""
        states = {it.state.name: it.state for it in requests if it.wish is Wish.LOOK and it.state}
        states |= urgent
        for name, at in list(self._runs_due.items()):
            if at <= time.monotonic():
                del self._runs_due[name]
                states[name] = self._states[name]
        if any(request.wish is Wish.FLUSH for request in requests):
            states |= {state.name: state for state in self._recent()}
        now = time.monotonic()
        if now - self._all_synchronised_at >= self.interval:
            self._all_synchronised_at = now
            states |= self._in_use(now)
        return states

    def _note_runs(self, states: dict[str, LocalState]) -> None:
        """Note when the runs that have reached their threshold are to be judged."""
        for name, state in states.items():
            if (wait := self._sync.seconds_to_settle(state)) is not None:
                self._runs_due[name] = time.monotonic() + wait
            else:
                self._runs_due.pop(name, None)

    def _answer(self, store: BreakerStore, requests: list[Request]) -> None:
        waiting: dict[str, list[Request]] = {}
        for request in requests:
            if request.wish is Wish.PERMIT and request.state is not None:
                waiting.setdefault(request.state.name, []).append(request)
            elif request.wish is Wish.RETURN and request.state is not None:
                self._sync.return_permit(store, request.state, request.generation)
            else:
                request.give(True)
        for callers in waiting.values():
            self._grant(store, cast("LocalState", callers[0].state), callers)

    def _in_use(self, now: float) -> dict[str, LocalState]:
        """Return the breakers in use; the next call of any other one reads it."""
        for name, state in list(self._followed.items()):
            if now - state.last_used_at() >= IDLE_AFTER_SECONDS or not state.is_followed:
                del self._followed[name]
                state.is_followed = False
                state.close_gate()
        return dict(self._followed)

    def _grant(self, store: BreakerStore, state: LocalState, callers: list[Request]) -> None:
        """Win permits for the callers; one that its caller waits for no more is a spare."""
        answers = self._sync.win_permits(store, state, len(callers))
        for request, permit in zip(callers, answers, strict=True):
            if request.give(permit) or permit is None or _is_no_probe(permit):
                continue
            if state.spare_permit is None:
                state.spare_permit = (permit, time.monotonic() + SPARE_SECONDS)
                self._followed[state.name] = state
            else:
                self._sync.return_permit(store, state, permit.generation)

    def _return_spares(self, store: BreakerStore) -> bool:
        """Give back the spare permits that no call used; return whether some are left."""
        left = False
        for state in list(self._followed.values()):
            spare = state.spare_permit
            if spare is None:
                continue
            if time.monotonic() < spare[1]:
                left = True
            elif state.drop_spare(spare):
                self._sync.return_permit(store, state, spare[0].generation)
        return left

    def _recent(self) -> list[LocalState]:
        """Return the breakers that may have something to report."""
        since = time.monotonic() - RECENT_SECONDS
        return [state for state in list(self._states.values()) if state.last_used_at() >= since]

    def _make_stand_in(self) -> MemoryStore:
        """Return a store in memory that begins with what this process knows.

        Of breakers that are not in use it learns when they are used.
        """
        offset = self._sync.offset
        ahead = time.time() - time.monotonic() if offset is None else offset
        in_use = {state.name: state.begin_alone() for state in list(self._followed.values())}

        def find(name: str) -> Snapshot | None:
            state = self._states.get(name)
            return None if state is None else in_use.get(name) or state.begin_alone()

        return MemoryStore.standing_in(find, clock=lambda: time.monotonic() + ahead)

    def _store_changed(self, reason: str | None) -> None:
        """Have the next call of each breaker look again. Those not in use do so anyway."""
        for state in list(self._followed.values()):
            state.expire()
        self._followed.clear()
        self._runs_due.clear()
        if reason is None:
            alone, self._alone = self._alone, {}
            for state in list(alone.values()):
                state.end_alone()
        self._announce(StoreChange(reason=reason))


def _is_no_probe(snapshot: Snapshot) -> bool:
    return snapshot.state.value != "half_open" or snapshot.hold is not None
