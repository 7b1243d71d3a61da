"""All breakers of one process: calls touch memory, and one reporter talks to the store."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, cast

from analytics_admin.breakers.listener import LISTEN_AFTER_SECONDS, Listener
from analytics_admin.breakers.local_state import NEVER, LocalState, Outcome
from analytics_admin.breakers.permit import is_probe
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.presence import Presence
from analytics_admin.breakers.reporter import FOREVER, Reporter, Request, Wish
from analytics_admin.breakers.state import Control, Snapshot, State, StateChange, StoreChange
from analytics_admin.breakers.state_machine import Admission, admission, display_state, retry_after
from analytics_admin.breakers.stores.base import (
    BreakerStore,
    DamagedList,
    Push,
    RequestRefused,
    StoreUnavailable,
)
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.sync import ANSWER_SECONDS, NO_SNAPSHOT, StoreSync, is_shared
from analytics_admin.conf import app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks
from analytics_admin.stores.threads import allocate_rlock

IDLE_AFTER_SECONDS = 2.0
"""A breaker unused for this long has nothing to report. Unless the process hears of changes, it is
no longer kept up to date, and its next call reads it."""
YOUNG_SECONDS = 10.0
"""Results of a breaker are reported each interval until it has been in use for this long."""
STATISTICS_SECONDS = 10.0
"""Results on which nothing depends are reported this late."""
SPARE_SECONDS = 1.0
"""A permit that came after its caller had left serves another call for this long."""
RECENT_SECONDS = 60.0
_CLOSED = State.CLOSED
GATHER_SECONDS = 0.005
"""After a report of failures the next ones wait this long for each other, unless they open it."""
MIN_POLL_SECONDS = 0.25
"""A process that does not hear of changes asks at most so often for the last one while idle."""


class Engine:
    """The breakers of this process.

    ``connect`` returns the shared store when it is first needed. ``announce`` receives each
    transition that this process made, and when the store is lost or back; it must not wait.
    ``policies`` returns a hash of the policies that this process declares.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        announce: Callable[[StateChange | StoreChange], None],
        *,
        policies: Callable[[], str] = str,
    ) -> None:
        self.interval = 0.25
        self.keep_for: float | None = None
        self.keeps_texts = True
        self._states: dict[str, LocalState] = {}
        self._followed: dict[str, LocalState] = {}
        self._urgent: dict[str, LocalState] = {}
        self._alone: dict[str, LocalState] = {}
        self._runs_due: dict[str, float] = {}
        self._answers_due: dict[str, float] = {}
        self._announce = announce
        self._lock = allocate_rlock()
        self._all_synchronised_at = NEVER
        self._gathers_until = NEVER
        self._stale: dict[str, LocalState] = {}
        self._spares: dict[str, tuple[LocalState, tuple[Snapshot, float]]] = {}
        self._was_hearing = False
        self._not_closed: set[str] | None = None
        self._began_at = time.monotonic()
        self.applied_sequence = 0
        """The number of the last change of the fleet's breakers that calls here obey."""
        self.presence = Presence(policies)
        self._is_asked, self._polled_at = False, NEVER
        self.reporter = Reporter(
            connect,
            turn=self._turn_and_tell,
            stand_in=self._make_stand_in,
            timeout=lambda: app_settings().store_timeout,
            interval=lambda: self.interval,
            retry_interval=lambda: app_settings().store_retry_interval,
            store_changed=self._store_changed,
        )
        self.listener = Listener(
            self.reporter.ring,
            timeout=lambda: app_settings().store_timeout,
            retry_interval=lambda: app_settings().store_retry_interval,
        )
        self._sync = StoreSync(
            is_current=self.reporter.is_current,
            lasts=self._reading_lasts,
            hears=lambda: self._was_hearing,
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
        self.listener.stop()
        self.presence.forget()
        with self._lock:
            self._was_hearing, self.applied_sequence = False, 0
            self._states.clear()
            self._alone.clear()
            self._forget_what_is_due()

    def expire(self, name: str) -> None:
        """Read the breaker again at its next call."""
        if (state := self._states.get(name)) is not None:
            self._have_next_call_wait(name)
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
        if state.count(outcome) or snapshot is None or snapshot.state is not _CLOSED:
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

    def report_first_success(self, state: LocalState) -> None:
        """Report soon: a process that ends within a moment may report nothing else."""
        state.has_succeeded = True
        if self.reporter.local_store() is None:
            self._urgent[state.name] = state
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
        """Report what the store does not have yet, and leave; for the end of a process."""
        ends_at = time.monotonic() + latency.MAX_WAIT_SECONDS
        store, leave = None, None
        if self.presence.is_written and (store := self.reporter.local_store()) is None:
            leave = self.reporter.submit(Request(wish=Wish.LEAVE))
        self.settle(latency.MAX_WAIT_SECONDS)
        if leave is not None:
            left = 0.0 if self.reporter.is_threadless else ends_at - time.monotonic()
            self._wait(leave, max(0.0, left))
        elif store is not None and is_shared(store):
            with suppress(StoreUnavailable):
                self.presence.withdraw(store)

    def settle(self, timeout: float) -> bool:
        """Report what the store does not have yet; return whether it has it all in time."""
        if not self._recent():
            return True
        if (store := self.reporter.local_store()) is not None:
            if store is self.reporter.stand_in:
                return False
            return self._synchronise_in(store, self._recent())
        request = self.reporter.submit(Request(wish=Wish.FLUSH))
        return self._wait(request, 0.0 if self.reporter.is_threadless else timeout) is True

    def acknowledge(self) -> None:
        """Read what has changed, and tell the store that calls here obey; waits a moment at most.

        A process that uses no breaker has nothing to tell.
        """
        if not self._states or self.presence.has_left:
            return
        self._is_asked, self._all_synchronised_at = True, NEVER
        if (store := self.reporter.local_store()) is None:
            request = self.reporter.submit(Request(wish=Wish.TELL))
            self._wait(request, 0.0 if self.reporter.is_threadless else None)
        elif is_shared(store):
            for state in list(self._states.values()):
                state.expire()
            with suppress(StoreUnavailable):
                self._tell(store, reads_anew=True)

    def after_fork(self) -> None:
        """Drop what the parent reports, and what only its threads could finish."""
        self._lock = allocate_rlock()
        self._forget_what_is_due()
        self._was_hearing, self._began_at, self.applied_sequence = False, time.monotonic(), 0
        for state in list(self._states.values()):
            state.after_fork()
        self.reporter.after_fork()
        self.listener.after_fork()
        self.presence.after_fork()

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
            sequence = self._sync.synchronise(store, states)
            self._note_reading(store, sequence, states)
        except StoreUnavailable as error:
            stand_in = self.reporter.lose(error)
            self._sync.synchronise(stand_in, states)
            return False
        return True

    def _note_reading(
        self, store: BreakerStore, sequence: int, states: Sequence[LocalState]
    ) -> None:
        """Tell that calls obey what was read of these; the others are read at their next calls."""
        if not is_shared(store):
            return
        if sequence != self.applied_sequence:
            for state in list(self._states.values()):
                if state not in states:
                    state.expire()
            self.applied_sequence = sequence
        self._tell(store)

    # What callers ask of the reporter.

    def _look(self, state: LocalState) -> "Future[Any] | None":
        """Return what is done once the breaker has been read; None if it has been, or is closed.

        From then on the breaker is kept up to date. All callers wait for the same reading.
        """
        look = state.look
        if not state.is_followed:
            request = Request(wish=Wish.LOOK, state=state)
            if self._not_closed is None or state.name in self._not_closed:
                look = state.look = request.answer
            state.used_at = state.look_at = state.followed_at = time.monotonic()
            state.is_followed = True
            self._followed[state.name] = state
            self.reporter.submit(request)
        elif look is not None and look.done():
            look = state.look = None
        if state.name not in self._followed:  # idle until now
            self._followed[state.name] = state
            self.reporter.ring()
        return look

    def _wait_for_look(self, state: LocalState, look: "Future[Any]") -> None:
        wait([look], timeout=self._patience(state), return_when=FIRST_COMPLETED)

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
            wait([request.answer], timeout=timeout, return_when=FIRST_COMPLETED)
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
        if permit is not None and is_probe(permit) and request.state is not None:
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

    def _turn_and_tell(self, store: BreakerStore, requests: list[Request]) -> float:
        if not self.presence.is_written:
            self._tell(store)  # so that a change that it is to miss waits for it
        wait = min(self._turn(store, requests), self._tell(store))
        for request in requests:
            if request.wish is Wish.TELL:
                request.give(True)
        return wait

    def _tell(self, store: BreakerStore, *, reads_anew: bool = False) -> float:
        """Tell that this process is there, and what its calls obey; return the seconds until again.

        ``reads_anew``: the next call of every breaker reads it first. So it is where a process
        neither hears of changes nor uses a breaker: it only asks for the number of the last one.
        """
        if not self._states or not is_shared(store) or self.presence.has_left:
            return FOREVER
        hears = self._was_hearing
        is_idle = reads_anew or self._is_idle()
        every = max(self.interval, MIN_POLL_SECONDS) if is_idle else FOREVER
        for _ in range(2):
            now = time.monotonic()
            is_due = self._is_asked or now - self._polled_at >= every
            if not is_due and not self.presence.due(now, self.applied_sequence, hears=hears):
                break
            self._is_asked, self._polled_at = False, now
            sequence = self.presence.write(store, now, self.applied_sequence, hears=hears)
            if reads_anew or (is_idle and self._is_idle()):
                self.applied_sequence = sequence
        return max(0.0, min(self.presence.due_at, self._polled_at + every) - time.monotonic())

    def _is_idle(self) -> bool:
        """Return whether there is nothing to keep up to date."""
        return not (self._followed or self._was_hearing or self.reporter.uses_callers)

    def _turn(self, store: BreakerStore, requests: list[Request]) -> float:
        """Report, read and answer; return the seconds until the next round."""
        heard = self._hear()
        until, self._gathers_until = self._gathers_until, NEVER  # what comes now has to ring
        urgent = self._take_urgent()
        everything = self._is_everything_due()
        if everything:
            self._read_which_are_closed(store)
        if states := self._due(requests, urgent, everything=everything):
            sequence = self._sync.synchronise(store, list(states.values()))
            self._note_runs(store, states)
            if everything and not self._was_hearing:
                heard = sequence
        self._answer(store, requests)
        self.applied_sequence = heard or self.applied_sequence
        listens_in = self._listen(store)
        self._return_spares(store)
        now = time.monotonic()
        waiting = (*self._runs_due.values(), *self._answers_due.values())
        due_in = [listens_in, *(at - now for at in waiting)]
        if self._followed or self._spares:
            due_in.append(self._all_synchronised_at + self.interval - now)
        if urgent:
            until = now + GATHER_SECONDS
        if until > now:
            self._gathers_until = until
            due_in.append(until - now)
        return min(due_in)

    def _take_urgent(self) -> dict[str, LocalState]:
        urgent = {}
        while self._urgent:
            name, state = self._urgent.popitem()
            urgent[name] = state
        return urgent

    def _listen(self, store: BreakerStore) -> float:
        """Begin to hear of changes once it is time; return the seconds until then."""
        wait = self._began_at + LISTEN_AFTER_SECONDS - time.monotonic()
        if self.reporter.is_threadless:
            return FOREVER
        if wait > 0:
            return wait
        if self.reporter.is_current(store):
            self.listener.start(store.channel)
        return FOREVER

    def _hear(self) -> int:
        """Apply what was heard; return the number of the last change, 0 if there was none.

        What has to be read for it becomes due.
        """
        sequence = 0
        for push in self.listener.take():
            if push.is_question:
                self._note_question(push)
                continue
            sequence = push.sequence
            if push.is_gap:
                self._lose_track()
            for name, snapshot in push.snapshots.items():
                state = self._states.get(name)
                self._note_whether_closed(name, snapshot)
                if state is None:
                    continue
                is_known = snapshot is not None and state.hear(snapshot, push.now, time.monotonic())
                if not state.is_followed:
                    state.close_gate()
                    if not is_known:
                        self._have_next_call_wait(name)
                elif not is_known:
                    self._stale[name] = state
        if self._was_hearing is not self.listener.hears:
            self._was_hearing = self.listener.hears
            self._lose_track()
        return sequence

    def _have_next_call_wait(self, name: str) -> None:
        """Have the next call wait for its look: what is known here of the breaker is not true."""
        if (not_closed := self._not_closed) is not None:
            not_closed.add(name)

    def _note_whether_closed(self, name: str, snapshot: Snapshot | None) -> None:
        if self._not_closed is None:
            return
        if snapshot is not None and snapshot.is_plain:
            self._not_closed.discard(name)
        else:
            self._not_closed.add(name)

    def _read_which_are_closed(self, store: BreakerStore) -> None:
        """Note what is to be known of breakers not used yet, so that no first call waits."""
        if self._was_hearing and self._not_closed is None:
            with suppress(DamagedList, RequestRefused):
                self._not_closed = store.not_closed()

    def _note_question(self, push: Push) -> None:
        """Have successes reported that the store does not have yet: soon, but not all at once.

        Those of the next moment count too: they end a run of calls that failed together.
        """
        for name in push.snapshots:
            if name in self._followed:
                wait = ANSWER_SECONDS * random.uniform(0.5, 0.8)
                self._answers_due[name] = time.monotonic() + wait

    def _lose_track(self) -> None:
        """Have every breaker read: those in use now, the others at their next calls."""
        self._not_closed = None
        self._all_synchronised_at = NEVER
        self._stale.update(self._followed)
        for state in list(self._states.values()):
            if state.is_followed and state.name not in self._followed:
                state.unfollow()

    def _is_everything_due(self) -> bool:
        """Return whether it is time to look at all breakers in use."""
        now = time.monotonic()
        if now - self._all_synchronised_at < self.interval:
            return False
        self._all_synchronised_at = now
        return True

    def _due(
        self, requests: list[Request], urgent: dict[str, LocalState], *, everything: bool
    ) -> dict[str, LocalState]:
        """Return by name the breakers to synchronise now."""
        states = {it.state.name: it.state for it in requests if it.wish is Wish.LOOK and it.state}
        states |= urgent
        states |= self._stale
        self._stale.clear()
        for name, at in list(self._runs_due.items()):
            if at <= time.monotonic():
                del self._runs_due[name]
                states[name] = self._states[name]
        for name, at in list(self._answers_due.items()):
            if at <= time.monotonic():
                del self._answers_due[name]
                state = self._states[name]
                if state.newest_success > state.reported_at:
                    states[name] = state
        if any(request.wish is Wish.FLUSH for request in requests):
            states |= {state.name: state for state in self._recent()}
        if everything:
            states |= self._in_use(time.monotonic())
        return states

    def _note_runs(self, store: BreakerStore, states: dict[str, LocalState]) -> None:
        """Note when the runs that have reached their threshold are to be judged."""
        for name, state in states.items():
            if (wait := self._sync.seconds_to_settle(store, state)) is not None:
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
            elif request.wish is Wish.LEAVE:
                self.presence.withdraw(store)
                request.give(True)
            elif request.wish is not Wish.TELL:
                request.give(True)
                if request.state is not None and request.state.look is request.answer:
                    request.state.look = None  # half of what an unused breaker would take
        for callers in waiting.values():
            self._grant(store, cast("LocalState", callers[0].state), callers)

    def _in_use(self, now: float) -> dict[str, LocalState]:
        """Return the breakers in use that have to be read, or have something to report."""
        for name, state in list(self._followed.items()):
            if not state.is_followed:
                del self._followed[name]
                state.unfollow()
            elif now - state.last_used_at() >= IDLE_AFTER_SECONDS:
                if not self._was_hearing:
                    del self._followed[name]
                    state.unfollow()
                elif state.last_used_at() <= state.reported_at:
                    del self._followed[name]
                    state.close_gate()  # so that its next call is noticed
        if not self._was_hearing:
            return dict(self._followed)
        return {name: state for name, state in self._followed.items() if self._matters(state, now)}

    def _matters(self, state: LocalState, now: float) -> bool:
        """Return whether somebody may wait for what this process knows or does not know."""
        snapshot = state.snapshot
        if snapshot is None or snapshot.state is State.HALF_OPEN or state.policy.window:
            return True
        if snapshot.hold is not None and snapshot.hold.is_over(state.store_time(now)):
            return True
        if state.last_used_at() <= state.reported_at:
            return False
        is_idle = now - state.last_used_at() >= IDLE_AFTER_SECONDS
        is_young = now - state.followed_at < YOUNG_SECONDS
        is_late = now - state.reported_at >= STATISTICS_SECONDS
        return snapshot.consecutive_failures > 0 or is_idle or is_young or is_late

    def _grant(self, store: BreakerStore, state: LocalState, callers: list[Request]) -> None:
        """Win permits for the callers; one that its caller waits for no more is a spare."""
        answers = self._sync.win_permits(store, state, len(callers))
        for request, permit in zip(callers, answers, strict=True):
            if request.give(permit) or permit is None or not is_probe(permit):
                continue
            if state.spare_permit is None:
                spare = state.spare_permit = (permit, time.monotonic() + SPARE_SECONDS)
                self._spares[state.name] = (state, spare)
            else:
                self._sync.return_permit(store, state, permit.generation)

    def _return_spares(self, store: BreakerStore) -> None:
        """Give back the spare permits that no call has used in time."""
        for name, (state, spare) in list(self._spares.items()):
            if time.monotonic() >= spare[1] or state.spare_permit is not spare:
                del self._spares[name]
                if state.drop_spare(spare):
                    self._sync.return_permit(store, state, spare[0].generation)

    def _forget_what_is_due(self) -> None:
        self._not_closed = None
        for due in (
            self._followed,
            self._urgent,
            self._stale,
            self._runs_due,
            self._answers_due,
            self._spares,
        ):
            due.clear()

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
        """Have the next call of each breaker look again."""
        self.listener.stop()
        self.presence.forget()
        self._was_hearing, self.applied_sequence = False, 0
        self._lose_track()
        for state in list(self._followed.values()):
            state.expire()
        self._forget_what_is_due()
        if reason is None:
            alone, self._alone = self._alone, {}
            for state in list(alone.values()):
                state.end_alone()
        self._announce(StoreChange(reason=reason))
