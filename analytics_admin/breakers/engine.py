"""The circuit breakers of one process, as protected calls use them.

Calls touch memory. One reporter talks to the store: see ``reporter`` and ``turn``.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from analytics_admin.breakers.listener import Listener
from analytics_admin.breakers.local_state import LocalState, Outcome
from analytics_admin.breakers.outage import Outage, make_stand_in
from analytics_admin.breakers.permit import is_probe
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.presence import Presence
from analytics_admin.breakers.probes import spare_seconds
from analytics_admin.breakers.reporter import FOREVER, Reporter
from analytics_admin.breakers.reporter_requests import Answer, Claim, Request, Wish
from analytics_admin.breakers.schedule import Schedule
from analytics_admin.breakers.state import Control, Snapshot, State, StateChange, StoreChange
from analytics_admin.breakers.state_machine import Admission, admission, display_state, retry_after
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.sync import NO_SNAPSHOT, StoreSync
from analytics_admin.breakers.turn import Turn
from analytics_admin.conf import AppSettings, app_settings
from analytics_admin.stores import latency
from analytics_admin.stores.process_hooks import register_process_hooks
from analytics_admin.stores.threads import allocate_rlock

_CLOSED = State.CLOSED
ASK_AGAIN_SECONDS = 0.05
"""Interval at which calls that do not wait for a permit ask for one."""


def _seconds(setting: str) -> Callable[[], float]:
    """Return a function for the setting; for its default while the site's is no number."""

    def value() -> float:
        with suppress(Exception):
            seconds = getattr(app_settings(), setting)
            if isinstance(seconds, int | float) and 0 <= seconds < FOREVER:
                return seconds
        return cast("float", getattr(AppSettings(), setting))

    return value


def _is_in_loop() -> bool:
    """Return whether to wait here would hold an event loop up."""
    return asyncio._get_running_loop() is not None


class Engine:
    """The breakers of this process.

    ``connect`` returns the shared store when it is first needed. ``announce`` receives each
    transition that this process made, and when the store is lost or back; it must not wait.
    ``policies`` returns a hash of the policies that this process declares. ``compare`` begins to
    compare the store with the audit trail, see Presence.
    """

    def __init__(
        self,
        connect: Callable[[], BreakerStore],
        announce: Callable[[StateChange | StoreChange], None],
        *,
        policies: Callable[[], str] = str,
        compare: Callable[[], object] = bool,
    ) -> None:
        self.interval = 0.25
        self.keep_for: float | None = None
        self.keeps_texts = True
        self._announce = announce
        self._lock = allocate_rlock()
        self._states: dict[str, LocalState] = {}
        self.schedule = Schedule(self._states, lambda: self.interval)
        self.presence = Presence(policies, compare)
        self.outage = Outage(
            make_stand_in=self._make_stand_in,
            changed=self._store_changed,
            timeout=_seconds("store_timeout"),
            retry_interval=_seconds("store_retry_interval"),
        )
        self.reporter = Reporter(
            connect,
            outage=self.outage,
            turn=self._take_turn,
            interval=lambda: self.interval,
        )
        self.listener = Listener(
            self.reporter.ring,
            timeout=_seconds("store_timeout"),
            retry_interval=_seconds("store_retry_interval"),
        )
        self._sync = StoreSync(
            is_current=self.reporter.is_current,
            lasts=self._reading_lasts,
            gets_pushes=lambda: self.schedule.gets_pushes,
            interval=lambda: self.interval,
            keep_for=lambda: self.keep_for,
            changed=announce,
            prober=lambda: self.presence.process_id,
        )
        self._turn = Turn(
            self._states,
            schedule=self.schedule,
            sync=self._sync,
            listener=self.listener,
            presence=self.presence,
            can_listen=self._can_listen,
            tell=self._tell,
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
            self._states.clear()
            self._turn.clear()

    def expire(self, name: str) -> None:
        """Read the breaker again at its next call."""
        if (state := self._states.get(name)) is not None:
            self._turn.have_next_call_wait(name)
            state.expire()

    def snapshot(self, state: LocalState) -> Snapshot:
        """Return the breaker, at most SYNC_INTERVAL old unless the store is lost or slow.

        In the thread of an event loop it is what is known already; the store's answer comes later.
        """
        if (store := self.reporter.choose_store()) is not None:
            self._refresh(store, state)
        elif (look := self._look(state, is_call=False)) is not None and not _is_in_loop():
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

    def admit(self, state: LocalState, claim: Claim) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None if it is rejected.

        A half-open one is a probe: the store has granted its permit to this caller alone. In the
        thread of an event loop only the local state decides; the store's answer serves later calls.
        Whoever is interrupted has to ``abandon`` the claim.
        """
        claim.state = state
        if (store := self.reporter.choose_store()) is not None:
            return self._admit_in(store, state, claim)
        idle = time.monotonic() - state.last_used_at()
        waits = not _is_in_loop()
        if (look := self._look(state)) is not None and waits:
            self._wait_for_look(state, look)
        if (spare := state.take_spare(time.monotonic(), claim)) is not None:
            return spare
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        patience = self._patience() if waits else 0.0
        if not patience and self._was_just_asked(state):
            return None
        request = self._ask_for_permit(state, claim, idle)
        answer = request.wait(patience)
        if self.reporter.choose_store() is not None:  # the store was lost meanwhile
            request.abandon()
            return self.admit(state, claim)
        return cast("Snapshot | None", answer)

    async def aadmit(self, state: LocalState, claim: Claim) -> Snapshot | None:
        """Do what ``admit`` does, waiting for the store without blocking the event loop."""
        claim.state = state
        if (store := self.reporter.choose_store()) is not None:
            return self._admit_in(store, state, claim)
        idle = time.monotonic() - state.last_used_at()
        if (look := self._look(state)) is not None:
            await look.await_it(self._patience_for_look(state))
        if (spare := state.take_spare(time.monotonic(), claim)) is not None:
            return spare
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        patience = self._patience()
        if not patience and self._was_just_asked(state):
            return None
        request = self._ask_for_permit(state, claim, idle)
        answer = await request.await_answer(patience)
        if self.reporter.choose_store() is not None:
            request.abandon()
            return self.admit(state, claim)
        return cast("Snapshot | None", answer)

    def abandon(self, claim: Claim) -> None:
        """Give back what a caller has claimed that was interrupted; the second time nothing."""
        if claim.request is not None:
            claim.request.abandon()
        taken, claim.taken = claim.taken, None
        if taken is not None and claim.state is not None:
            self._take_back(claim.state, taken)

    def record(self, state: LocalState, outcome: Outcome) -> None:
        """Count the outcome of a call; never waits for the store."""
        snapshot = state.snapshot
        hold = None if snapshot is None else snapshot.hold
        if hold is not None and hold.control is Control.DISABLED:
            return  # nothing is counted, so that nothing has to be reported
        if snapshot is None and outcome.ended < state.unregistered_until:
            return
        if state.count(outcome) or snapshot is None or snapshot.state is not _CLOSED:
            state.judge(outcome.ended, random.random())
        if (store := self.reporter.choose_store()) is not None:
            if store is self.outage.stand_in:
                state.note_lost_probe(outcome.generation)
            self._synchronise_in(store, [state])
            return
        self.schedule.report_soon(state)
        # A result that decides nothing alone may wait for others.
        if (
            outcome.ended >= self.schedule.gathers_until
            or state.ahead is not None
            or state.has_rates
            or snapshot is None
            or snapshot.state is not _CLOSED
        ):
            self.reporter.ring()

    def report_first_success(self, state: LocalState) -> None:
        """Report soon: a process that ends within a moment may report nothing else."""
        state.has_succeeded = True
        if self.reporter.choose_store() is None:
            self.schedule.begin_soon(state)
            self.reporter.ring()

    def release(self, state: LocalState, generation: str) -> None:
        """Return a probe's permit; never waits for the store."""
        if (store := self.reporter.choose_store()) is not None:
            if store is self.outage.stand_in:
                state.note_lost_probe(generation)
                self.outage.used_alone[state.name] = state
            try:
                self._turn.probes.give_back(store, state, generation)
            except StoreUnavailable as error:
                self.reporter.lose(error)
        else:
            self.reporter.submit(Request(wish=Wish.RETURN, state=state, generation=generation))

    def flush(self) -> None:
        """Report what the store does not have yet, and leave; for the end of a process."""
        ends_at = time.monotonic() + latency.MAX_WAIT_SECONDS
        store, leave = None, None
        if self.presence.is_written and (store := self.reporter.choose_store()) is None:
            leave = self.reporter.submit(Request(wish=Wish.LEAVE))
        self.report_all(latency.MAX_WAIT_SECONDS)
        if leave is not None:
            left = 0.0 if self.reporter.is_threadless else ends_at - time.monotonic()
            leave.wait(max(0.0, left))
        elif store is not None and store.is_shared:
            with suppress(StoreUnavailable):
                self.presence.withdraw(store)

    def report_all(self, timeout: float) -> bool:
        """Report what the store does not have yet; return whether it has it all in time."""
        if not (recent := self.schedule.recent()):
            return True
        if (store := self.reporter.choose_store()) is not None:
            if store is self.outage.stand_in:
                return False
            return self._synchronise_in(store, recent)
        request = self.reporter.submit(Request(wish=Wish.FLUSH))
        return request.wait(0.0 if self.reporter.is_threadless else timeout) is True

    def acknowledge(self) -> None:
        """Read what has changed, and tell the store that calls here obey; waits a moment at most.

        A process that uses no breaker has nothing to tell.
        """
        if not self._states or self.presence.has_left:
            return
        self.presence.is_asked = True
        self.schedule.read_followed()
        if (store := self.reporter.choose_store()) is None:
            request = self.reporter.submit(Request(wish=Wish.TELL))
            request.wait(self._patience())
        elif store.is_shared:
            for state in list(self._states.values()):
                state.expire()
            with suppress(StoreUnavailable):
                self._tell(store, reads_anew=True)

    def after_fork(self) -> None:
        """Drop what the parent reports, and what only its threads could finish."""
        self._lock = allocate_rlock()
        self._turn.after_fork()
        for state in list(self._states.values()):
            state.after_fork()
        self.reporter.after_fork()
        self.outage.after_fork()
        self.listener.after_fork()
        self.presence.after_fork()
        self._sync.after_fork()

    # What callers do while they use a store in their own thread.

    def _admit_in(self, store: BreakerStore, state: LocalState, claim: Claim) -> Snapshot | None:
        self._refresh(store, state)
        snapshot, decision = self._decide(state)
        if decision is not Admission.PROBE:
            return snapshot if decision is Admission.ALLOW else None
        try:
            return self._turn.probes.take(store, state, claim)
        except StoreUnavailable as error:
            return self._admit_in(self.reporter.lose(error), state, claim)

    def _refresh(self, store: BreakerStore, state: LocalState) -> None:
        """Read the breaker again if it is due; a store in memory is not worth reading ahead."""
        state.used_at = now = time.monotonic()
        if now - state.read_at >= self.interval:
            self._synchronise_in(store, [state])

    def _synchronise_in(self, store: BreakerStore, states: list[LocalState]) -> bool:
        if store is self.outage.stand_in:
            self.outage.used_alone.update((state.name, state) for state in states)
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
        if not store.is_shared:
            return
        if sequence != self.presence.acknowledged:
            for state in list(self._states.values()):
                if state not in states:
                    state.expire()
            self.presence.acknowledged = sequence
        self._tell(store)

    # What callers ask of the reporter.

    def _look(self, state: LocalState, *, is_call: bool = True) -> Answer | None:
        """Return what is done once the breaker has been read; None if it has been.

        A call does not wait for a breaker that is closed. From then on the breaker is kept up to
        date. All callers wait for the same reading.
        """
        look = state.look
        is_unread = state.snapshot is None and look is None and not is_call
        if not state.is_followed or is_unread:
            state.used_at = state.look_at = state.followed_at = time.monotonic()
            state.is_followed = True
            self.schedule.follow(state)
            if is_call and self._turn.knows_as_closed(state.name):
                self.schedule.begin_soon(state)
                self.reporter.ring()
            else:
                request = Request(wish=Wish.LOOK, state=state)
                look = state.look = request.answer
                self.reporter.submit(request)
        elif look is not None and look.is_done:
            look = state.look = None
        if self.schedule.follow(state):  # idle until now
            self.reporter.ring()
        return look

    def _wait_for_look(self, state: LocalState, look: Answer) -> None:
        look.wait(self._patience_for_look(state))

    def _patience_for_look(self, state: LocalState) -> float:
        """Return the seconds for which a caller waits: all together not longer than one alone."""
        if self.reporter.is_silent:
            return 0.0
        return max(0.0, state.look_at + latency.MAX_WAIT_SECONDS - time.monotonic())

    def _patience(self) -> float:
        """Return the seconds for which a caller waits for an answer of its own."""
        return 0.0 if self.reporter.is_silent else latency.MAX_WAIT_SECONDS

    def _was_just_asked(self, state: LocalState) -> bool:
        """Return whether a permit is on its way for a call that does not wait for one."""
        return time.monotonic() - state.asked_at < ASK_AGAIN_SECONDS

    def _ask_for_permit(self, state: LocalState, claim: Claim, idle: float) -> Request:
        now = time.monotonic()
        request = claim.request = Request(
            wish=Wish.PERMIT,
            state=state,
            take_back=partial(self._take_back, state),
            spare_for=spare_seconds(state, idle, now),
        )
        state.asked_at = now
        return self.reporter.submit(request)

    def _take_back(self, state: LocalState, permit: Snapshot) -> None:
        if is_probe(permit):
            self.release(state, permit.generation)

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

    def _take_turn(self, store: BreakerStore, requests: list[Request]) -> float:
        return self._turn.take(store, requests)

    def _can_listen(self, store: BreakerStore) -> bool:
        return self.reporter.is_current(store) and not self.reporter.is_threadless

    def _tell(self, store: BreakerStore, *, reads_anew: bool = False) -> float:
        """Tell that this process is there, and what its calls obey; return the seconds until again.

        ``reads_anew``: the next call of every breaker reads it first.
        """
        if not self._states or not store.is_shared:
            return FOREVER
        return self.presence.tell(
            store,
            gets_pushes=self.schedule.gets_pushes,
            is_idle=lambda: reads_anew or self._is_idle(),
            interval=self.interval,
        )

    def _is_idle(self) -> bool:
        """Return whether there is nothing to keep up to date."""
        is_busy = self.schedule.followed or self.schedule.gets_pushes
        return not (is_busy or self.reporter.uses_callers)

    # What the loss and the return of the store change.

    def _make_stand_in(self) -> MemoryStore:
        return make_stand_in(self._states, self.schedule.followed, self._sync.clock.offset)

    def _store_changed(self, reason: str | None) -> None:
        """Have the next call of each breaker look again."""
        self.listener.stop()
        self.presence.forget()
        self._turn.lose_track()
        followed = list(self.schedule.followed.values())
        for state in followed:
            state.expire()
        self._turn.clear()
        self._announce(StoreChange(reason=reason))
        if reason is not None:
            for state in followed:
                self._sync.announce_alone(state)
            return
        for state in list(self.outage.used_alone.values()):
            generation, number = state.take_lost_probes()
            for _ in range(number):
                self.release(state, generation)
