"""Synchronises breakers with a store: reports results, reads state, makes due transitions."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.breakers.judging import Judging
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Hold, Snapshot, State, StateChange, Transition
from analytics_admin.breakers.state_machine import (
    due_transition,
    is_new_record,
    label,
    new_record,
)
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    NO_RESULTS,
    BreakerStore,
    Move,
    MoveOutcome,
    Report,
    RequestRefused,
    StoreUnavailable,
)
from analytics_admin.breakers.stores.records import UNREADABLE
from analytics_admin.stores.clock import ServerClock

T = TypeVar("T")
R = TypeVar("R")

POLICY_REPORT_SECONDS = 3600.0
"""Interval at which a process reports that it uses a breaker, and its policy."""
REGISTRATION_RETRY_SECONDS = 60.0
"""Interval at which a process tries again to register a name beyond MAX_NAMES, and says so."""
MAX_REFUSALS = 1000
"""A process that was refused so many names in this interval tries no more in it."""
REFUSED_SECONDS = 5.0
"""Time for which a breaker is left alone after the store has answered it with an error."""
REFUSED_LOG_SECONDS = 60.0
"""Interval at which the log says so again, for each breaker."""
NO_SNAPSHOT = Snapshot(generation="")
"""The snapshot before the first reading: calls pass, and count from closed."""
MAX_CHANGES_BETWEEN = 100_000
"""Maximum number of changes in a fleet between two readings of a process."""
MAX_ATTEMPTS = 20
"""Times that a move is tried again because another process was faster."""


class StoreSync:
    """What a process does with a store for its breakers.

    ``is_current`` says whether answers of a store still count, ``lasts`` for how many seconds calls
    may pass unchecked by a reading, ``gets_pushes`` whether every change is pushed here.
    ``changed`` receives each transition that this process makes. ``prober`` returns the id under
    which this process holds probe permits, if it has one.
    """

    def __init__(
        self,
        *,
        is_current: Callable[[BreakerStore], bool],
        lasts: Callable[[], float],
        gets_pushes: Callable[[], bool],
        interval: Callable[[], float],
        keep_for: Callable[[], float | None],
        changed: Callable[[StateChange], None],
        prober: Callable[[], str] = str,
    ) -> None:
        self.is_current = is_current
        self.prober = prober
        self._lasts = lasts
        self._gets_pushes = gets_pushes
        self._interval = interval
        self._keep_for = keep_for
        self._changed = changed
        self.clock = ServerClock()
        """That of the shared store."""
        self.judging = Judging(gets_pushes, interval)
        self._last_sequence = 0
        self._unconfirmed: dict[str, StateChange] = {}
        self._refusals, self._refusals_until = 0, float("-inf")
        self._report_unregistered_at = float("-inf")
        self._refused_at: dict[str, float] = {}
        self._refused_logged_at: dict[str, float] = {}

    def after_fork(self) -> None:
        """Begin as a child: what the parent has made, it announces itself."""
        self._unconfirmed.clear()

    def synchronise(self, store: BreakerStore, states: Sequence[LocalState]) -> int:
        """Report and read these breakers in one round trip, and make the transitions due.

        Returns the number of the last change that the reading shows.

        Raises:
            StoreUnavailable
        """
        states = [state for state in states if not self._is_left_alone(state)]
        holds = {state.name: self._recent_hold(state) for state in states}
        due = {state.name for state in states if self._policy_is_due(state)}
        read_before = {state.name: state.read_at for state in states}
        unknown = [state for state in states if state.snapshot is None]
        # What this process is ahead with is made the fleet's once the store has what led to it.
        ahead = {state.name: state.ahead for state in states}
        asked_at = time.monotonic()
        for state in states:
            state.reported_at = asked_at
        reports = [(state, self._report(state, state.name in due)) for state in states]
        sequences = []

        def add(reports: list[Report]) -> Sequence[tuple[Snapshot | None, float]]:
            reading = store.add(reports)
            sequences.append(reading.sequence)
            self._note_time(store, reading.now, asked_at)
            self.judging.note(states, reading, took=time.monotonic() - asked_at)
            return [(reading.snapshots[report.name], reading.now) for report in reports]

        missing: list[tuple[LocalState, float]] = []
        outdated: list[tuple[LocalState, Snapshot, float]] = []
        answers = self._ask_for_each(store, reports, add)
        for state, answer in zip(states, answers, strict=True):
            if answer is None:
                continue
            snapshot, now = answer
            # A name that nobody uses any more stays forgotten.
            if snapshot is None and state.last_used_at() >= read_before[state.name]:
                missing.append((state, now))
            elif snapshot is not None and store.is_shared and state.lost_with(snapshot):
                outdated.append((state, snapshot, now))
            else:
                self._apply(store, state, snapshot, now, asked_at)
                self._note_policy(state, snapshot, due)
        sequence = min(sequences, default=0)
        if self._is_continued(store, sequence):  # what is missing was forgotten
            holds = dict.fromkeys(holds)
        if not self.is_current(store):
            return sequence
        self._register(store, missing, holds)
        self._count_again(store, reports, answers, add)
        self._restore(store, outdated, asked_at)
        if early := [it for it in unknown if it.snapshot is not None and it.has_counted]:
            self.synchronise(store, early)  # calls did not wait for the first reading
        self._make_due_transitions(store, states, ahead)
        self._confirm_changes(store)
        return sequence

    def _is_continued(self, store: BreakerStore, sequence: int) -> bool:
        """Return whether the shared store has gone on since the last reading; it is not emptied.

        A store that was emptied starts its sequence again, with a far higher number or none.
        """
        if not store.is_shared:
            return False
        before, self._last_sequence = self._last_sequence, sequence
        return 0 < before <= sequence < before + MAX_CHANGES_BETWEEN

    def _count_again(
        self,
        store: BreakerStore,
        reports: Sequence[tuple[LocalState, Report]],
        answers: Sequence[tuple[Snapshot | None, float] | None],
        add: Callable[[list[Report]], Sequence[tuple[Snapshot | None, float]]],
    ) -> None:
        """Report again what an emptied store had no record for, or another one than is known."""
        asked_at = time.monotonic()
        uncounted = [
            (state, replace(report, generation=state.snapshot.generation))
            for (state, report), answer in zip(reports, answers, strict=True)
            if answer is not None and state.snapshot is not None
            if _is_of_another_record(answer[0], report) and _counts_in(state.snapshot, report)
        ]
        answers = self._ask_for_each(store, uncounted, add) if uncounted else []
        for (state, _), answer in zip(uncounted, answers, strict=True):
            if answer is not None:
                self._apply(store, state, *answer, asked_at)

    def _report(self, state: LocalState, with_policy: bool) -> Report:
        report, snapshot = state.report(with_policy=with_policy), state.snapshot
        is_round = snapshot is not None and snapshot.state is State.HALF_OPEN
        return replace(report, prober=self.prober()) if is_round else report

    def _policy_is_due(self, state: LocalState) -> bool:
        keep_for = self._keep_for()
        every = (
            POLICY_REPORT_SECONDS if keep_for is None else min(POLICY_REPORT_SECONDS, keep_for / 4)
        )
        return time.monotonic() - state.policy_reported_at >= every

    def _note_policy(self, state: LocalState, snapshot: Snapshot | None, due: set[str]) -> None:
        if snapshot is not None and state.name in due:
            state.policy_reported_at = time.monotonic()

    def _recent_hold(self, state: LocalState) -> Hold | None:
        """Return the hold in force a moment ago, for a store that has lost its record."""
        now = time.monotonic()
        is_recent = self._gets_pushes() or now - state.read_at <= 2 * self._interval()
        if (snapshot := state.snapshot) is None or not is_recent:
            return None
        hold = snapshot.hold
        return None if hold is None or hold.is_over(state.store_time(now)) else hold

    def _register(
        self,
        store: BreakerStore,
        states: Sequence[tuple[LocalState, float]],
        holds: Mapping[str, Hold | None],
    ) -> None:
        """Create the missing records of breakers never used before, or of an emptied store.

        Each comes with the store time at which there was none. Until then a hold that is lost
        binds the calls of this process. A breaker that was closed stays in its generation, so that
        what its calls have done since counts.
        """
        now = time.monotonic()
        names = self._names_to_register([it for it, _ in states], now)
        refused: Sequence[str] = ()
        try:
            if names:
                refused = store.register(names, keep_for=self._keep_for())
        except RequestRefused as error:
            self._require_writable(store)
            self._leave_alone([state for state, _ in states], error)
            return
        if refused:
            self._refusals += len(refused)
            self._report_unregistered(refused)
        registered = set(names).difference(refused)
        for state, read_at in states:
            if state.name not in registered:
                self._leave_unregistered(state, now)
                self._apply(store, state, None, read_at, now)
        moves = [
            (state, Move(name=state.name, expected=None, new=replace(_record_of(state), hold=hold)))
            for state, _ in states
            if state.name in registered
            for hold in [holds[state.name]]
        ]
        if not moves:
            return
        outcomes = self._ask_for_each(store, moves, store.compare_and_set)
        for (state, _), outcome in zip(moves, outcomes, strict=True):
            if outcome is not None:
                self._apply(store, state, outcome.snapshot, outcome.now, now)

    def _restore(
        self,
        store: BreakerStore,
        outdated: Sequence[tuple[LocalState, Snapshot, float]],
        asked_at: float,
    ) -> None:
        """Write back what the store lacks: it came back with its past.

        Each breaker comes with what the store had of it, and at which of its times. One that an
        operator has moved there since is left as it is.
        """
        moves = []
        for state, stored, now in outdated:
            known = state.lost_with(stored)
            if known is None or self._was_moved_by_operator(store, state.name, stored, known[1]):
                self._apply(store, state, stored, now, asked_at)
            else:
                moves.append((state, Transition(old=stored, new=known[0], cause="")))
        if not moves:
            return
        for (state, transition), (won, _) in zip(moves, self.move(store, moves), strict=True):
            if won:
                logger.warning(
                    "circuit breaker %s: the store had lost its last change; it is %s again",
                    state.name,
                    label(transition.new),
                )

    def _was_moved_by_operator(
        self, store: BreakerStore, name: str, stored: Snapshot, before: str
    ) -> bool:
        """Return whether an operator moved the breaker in the store's other course of events."""
        if stored.generation == before:
            return False
        try:
            last = next(iter(store.transitions(name)), None)
        except RequestRefused:
            return True
        return last is not None and bool(last.actor)

    def _names_to_register(self, states: Sequence[LocalState], now: float) -> list[str]:
        if now >= self._refusals_until:
            self._refusals, self._refusals_until = 0, now + REGISTRATION_RETRY_SECONDS
        if self._refusals >= MAX_REFUSALS:
            return []
        return [state.name for state in states if now >= state.unregistered_until]

    def _leave_unregistered(self, state: LocalState, now: float) -> None:
        if now >= state.unregistered_until:
            state.unregistered_until = now + REGISTRATION_RETRY_SECONDS
            state.forget_pending()

    def _report_unregistered(self, names: Sequence[str]) -> None:
        now = time.monotonic()
        if now < self._report_unregistered_at:
            return
        self._report_unregistered_at = now + REGISTRATION_RETRY_SECONDS
        logger.error(
            "circuit breakers: the maximum of %d names is registered; calls of %r%s pass "
            "unprotected. Names are for backends, not for data: see forget_circuit_breaker",
            MAX_NAMES,
            names[0],
            f" and {len(names) - 1} more" if len(names) > 1 else "",
        )

    def _make_due_transitions(
        self,
        store: BreakerStore,
        states: Sequence[LocalState],
        ahead: Mapping[str, Transition | None],
    ) -> None:
        """Make what the store's counts require, and what this process is ahead with."""
        for _ in range(MAX_ATTEMPTS):
            if not self.is_current(store):
                return  # a reading of another store is no reason to change this one
            due = [
                (state, transition)
                for state in states
                if (transition := self._due(store, state, ahead.get(state.name))) is not None
            ]
            if not due:
                return
            outcomes = self.move(store, due)
            states = [state for (state, _), (won, _) in zip(due, outcomes, strict=True) if not won]
        for state in states:
            state.drop_ahead()

    def _due(
        self, store: BreakerStore, state: LocalState, reported: Transition | None
    ) -> Transition | None:
        snapshot, ahead = state.snapshot, state.ahead
        if snapshot is None or ahead is not None:
            if ahead is None or ahead is not reported:
                return None
            if snapshot is None or snapshot.generation != ahead.old.generation:
                return ahead
            return replace(ahead, old=snapshot)  # permits granted or forgiven since change nothing
        return due_transition(
            snapshot,
            state.policy,
            state.store_time(time.monotonic()),
            rate_delay=self.judging.rate_delay(store, state),
            run_delay=0.0 if state.has_run else self.judging.run_delay(store, state),
            chance=random.random(),
        )

    def move(
        self,
        store: BreakerStore,
        moves: Sequence[tuple[LocalState, Transition]],
        *,
        prober: str = "",
    ) -> list[tuple[bool, Snapshot | None]]:
        """Try the moves; return for each whether it was made, and the breaker as it is now.

        ``prober`` is the process that wins or returns their permits, see Move.
        """
        asked_at = time.monotonic()
        asked = [(state, *_ask(state.name, transition, prober)) for state, transition in moves]
        try:
            outcomes: list[MoveOutcome | None] = self._ask_for_each(
                store, [(state, move) for state, move, _ in asked], store.compare_and_set
            )
        except StoreUnavailable:
            self._unconfirmed |= {move.attempt: change for _, move, change in asked if move.cause}
            raise
        for (state, move, change), outcome in zip(asked, outcomes, strict=True):
            if outcome is None:
                continue
            self._note_time(store, outcome.now, asked_at)
            self._apply(store, state, outcome.snapshot, outcome.now, asked_at)
            if outcome.won and move.cause:
                self._changed(change if store.is_shared else replace(change, cause="local"))
        return [(False, None) if it is None else (it.won, it.snapshot) for it in outcomes]

    def announce_alone(self, state: LocalState) -> None:
        """Announce what this process is ahead with: the store is lost before it could be told."""
        ahead = state.ahead
        if ahead is None or any(it.name == state.name for it in list(self._unconfirmed.values())):
            return
        _, change = _ask(state.name, ahead)
        self._changed(replace(change, cause="local"))

    def _confirm_changes(self, store: BreakerStore) -> None:
        """Announce the transitions that were made although their reply was lost."""
        while self._unconfirmed and store.is_shared:
            attempt, change = next(iter(self._unconfirmed.items()))
            with suppress(RequestRefused):
                if any(record.attempt == attempt for record in store.transitions(change.name)):
                    self._changed(change)
            self._unconfirmed.pop(attempt, None)

    # What the store answers with an error, or what cannot be read, concerns a breaker's request.

    def _ask_for_each(
        self,
        store: BreakerStore,
        asked: Sequence[tuple[LocalState, T]],
        ask: Callable[[list[T]], Sequence[R]],
        *,
        is_part: bool = False,
    ) -> list[R | None]:
        """Ask for all at once, and for fewer and fewer where that is refused; None: for this one.

        Raises:
            StoreUnavailable: the store refuses every request that writes.
        """
        try:
            return [*ask([request for _, request in asked])]
        except RequestRefused as error:
            if not is_part:
                self._require_writable(store)
            if len(asked) == 1:
                self._leave_alone([asked[0][0]], error)
                return [None]
        half = len(asked) // 2
        parts = asked[:half], asked[half:]
        return [it for part in parts for it in self._ask_for_each(store, part, ask, is_part=True)]

    def _require_writable(self, store: BreakerStore) -> None:
        try:
            store.check_writable()
        except RequestRefused as error:
            raise StoreUnavailable(error.reason) from error

    def _leave_alone(self, states: Sequence[LocalState], error: RequestRefused) -> None:
        """Let calls pass as if the records could not be read, and try again later."""
        for state in states:
            self._refused_at[state.name] = now = time.monotonic()
            unreadable = Snapshot(generation=UNREADABLE, state=State.UNKNOWN)
            state.drop_ahead()
            state.read(unreadable, state.store_time(now), now, self._lasts())
            if now - self._refused_logged_at.get(state.name, float("-inf")) > REFUSED_LOG_SECONDS:
                self._refused_logged_at[state.name] = now
                logger.error(
                    "circuit breaker %s: %s; its calls pass until the store takes its requests",
                    state.name,
                    error.reason,
                )

    def _is_left_alone(self, state: LocalState) -> bool:
        at = self._refused_at.get(state.name)
        if at is None:
            return False
        if time.monotonic() - at < REFUSED_SECONDS:
            return True
        del self._refused_at[state.name]
        return False

    def _apply(
        self,
        store: BreakerStore,
        state: LocalState,
        snapshot: Snapshot | None,
        now: float,
        asked_at: float,
    ) -> None:
        if self.is_current(store):
            at, offset = time.monotonic(), self.clock.offset
            if store.is_shared and offset is not None:
                at = min(at, now - offset)
            state.read(snapshot, now, at, self._lasts(), asked_at=asked_at)
            if store.is_shared:
                state.end_loss()

    def _note_time(self, store: BreakerStore, now: float, asked_at: float) -> None:
        if store.is_shared:
            self.clock.note(now, asked_at=asked_at, heard_at=time.monotonic())


def _ask(name: str, transition: Transition, prober: str = "") -> tuple[Move, StateChange]:
    """Return what to ask the store for, and what to announce once it is made."""
    cause = transition.cause
    move = Move(name=name, expected=transition.old, new=transition.new, cause=cause, prober=prober)
    before, after = move.from_label, move.to_label
    if before == after:  # another probe, or another round of probes
        move, cause = replace(move, cause=""), ""
    return move, StateChange(name=name, from_state=before, to_state=after, cause=cause)


def _record_of(state: LocalState) -> Snapshot:
    """Return the first record of a breaker, in the generation in which its calls count."""
    known, record = state.snapshot, new_record()
    if known is None or known.state is not State.CLOSED:
        return record
    return replace(record, generation=known.generation)


def _is_of_another_record(snapshot: Snapshot | None, report: Report) -> bool:
    return snapshot is None or is_new_record(snapshot.generation, report.generation)


def _counts_in(snapshot: Snapshot, report: Report) -> bool:
    """Return whether results for which there was no record count in this new one."""
    if report.results == NO_RESULTS or snapshot.state is not State.CLOSED:
        return False
    known = report.generation
    return snapshot.generation == known or is_new_record(snapshot.generation, known)
