"""Synchronises breakers with a store: reports results, reads state, makes due transitions.

Each method of StoreSync is a job for StoreAccess: it may run on another thread than its caller's.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Hold, Results, Snapshot, StateChange
from analytics_admin.breakers.state_machine import (
    HOLD_OVER,
    WAIT_OVER,
    Admission,
    admission,
    due_transition,
    grant_permit,
    new_record,
    return_permit,
)
from analytics_admin.breakers.stores.access import StoreAccess
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    BreakerStore,
    Move,
    Reading,
    Report,
    StoreUnavailable,
)

logger = logging.getLogger("analytics_admin.breakers")

SETTLING_INTERVALS = 12
"""Number of intervals after which the rates of a new generation are evaluated as they are. Failures
are reported at once, successes up to an interval later, and a process that has not seen the
generation yet reports none. With 4 intervals, one failing process of four would still trip a
threshold a fifth above the true rate."""
POLICY_REPORT_SECONDS = 3600.0
"""Interval at which a process reports that it uses a breaker, and its policy."""
REGISTRATION_RETRY_SECONDS = 60.0
"""Interval at which a process tries again to register a name beyond MAX_NAMES, and says so."""
NO_SNAPSHOT = Snapshot(generation="")
"""The snapshot before the first reading: calls pass and their results count nowhere."""


class StoreSync:
    """The jobs; ``changed`` receives each transition that this process makes."""

    def __init__(
        self,
        access: StoreAccess,
        *,
        interval: Callable[[], float],
        keep_for: Callable[[], float | None],
        changed: Callable[[StateChange], None],
    ) -> None:
        self._access = access
        self._interval = interval
        self._keep_for = keep_for
        self._changed = changed
        self._unconfirmed: dict[str, StateChange] = {}
        self._refused_until: dict[str, float] = {}
        self._report_refused_at = float("-inf")

    def synchronise(self, store: BreakerStore, states: Sequence[LocalState]) -> None:
        """Report and read these breakers in one round trip."""
        holds = {state.name: self._recent_hold(state) for state in states}
        due = {state.name for state in states if self._policy_is_due(state)}
        reading = store.add([state.report(with_policy=state.name in due) for state in states])
        for state in states:
            self._apply(store, state, reading.snapshots[state.name], reading.now)
            self._note_policy_report(state, reading, reported=state.name in due)
        if not self._access.is_current(store):
            return  # too late: no caller waits for this any longer
        missing = [state for state in states if reading.snapshots[state.name] is None]
        self._register(store, missing, holds)
        for state in states:
            self._make_due_transition(store, state)
        self._confirm_changes(store)

    def _policy_is_due(self, state: LocalState) -> bool:
        keep_for = self._keep_for()
        every = (
            POLICY_REPORT_SECONDS if keep_for is None else min(POLICY_REPORT_SECONDS, keep_for / 4)
        )
        return time.monotonic() - state.policy_reported_at >= every

    def _note_policy_report(self, state: LocalState, reading: Reading, *, reported: bool) -> None:
        """Note the report, unless the breaker has no record, which keeps no policy."""
        if reported and reading.snapshots[state.name] is not None:
            state.policy_reported_at = time.monotonic()

    def _recent_hold(self, state: LocalState) -> Hold | None:
        """Return the hold in force a moment ago, for a store that has lost its record."""
        now = time.monotonic()
        if state.snapshot is None or now - state.read_at > 2 * self._interval():
            return None
        hold = state.snapshot.hold
        return None if hold is None or hold.is_over(state.store_time(now)) else hold

    def _register(
        self, store: BreakerStore, states: list[LocalState], holds: Mapping[str, Hold | None]
    ) -> None:
        """Create the missing records of breakers never used before, or of an emptied store."""
        now = time.monotonic()
        states = [state for state in states if now >= self._refused_until.get(state.name, now)]
        if not states:
            return
        refused = store.register([state.name for state in states], keep_for=self._keep_for())
        if refused:
            self._report_refused(refused)
            states = [state for state in states if state.name not in refused]
        moves = [
            Move(name=state.name, expected=None, new=replace(new_record(), hold=holds[state.name]))
            for state in states
        ]
        for state, outcome in zip(states, store.compare_and_set(moves), strict=True):
            self._apply(store, state, outcome.snapshot, outcome.now)

    def _report_refused(self, names: Sequence[str]) -> None:
        now = time.monotonic()
        self._refused_until |= dict.fromkeys(names, now + REGISTRATION_RETRY_SECONDS)
        if now < self._report_refused_at:
            return
        self._report_refused_at = now + REGISTRATION_RETRY_SECONDS
        logger.error(
            "circuit breakers: the maximum of %d names is registered; calls of %r%s pass "
            "unprotected. Names are for backends, not for data: see forget_circuit_breaker",
            MAX_NAMES,
            names[0],
            f" and {len(names) - 1} more" if len(names) > 1 else "",
        )

    def win_permit(self, store: BreakerStore, state: LocalState) -> Snapshot | None:
        """Return the snapshot under which the call passes; None once it is rejected."""
        snapshot = state.snapshot or NO_SNAPSHOT
        while self._access.is_current(store):
            decision = admission(snapshot, state.policy, state.store_time(time.monotonic()))
            if decision is not Admission.PROBE:
                return snapshot if decision is Admission.ALLOW else None
            granted = grant_permit(snapshot, state.policy)
            cause = HOLD_OVER if snapshot.hold else WAIT_OVER
            won, snapshot = self._move(store, state, snapshot, granted, cause)
            if won:
                return snapshot
        return None  # the caller no longer waits

    def win_spare(self, store: BreakerStore, state: LocalState) -> None:
        """Win a permit for the next call from an event loop, which cannot wait for one."""
        if state.spare_permit is None:
            state.spare_permit = self.win_permit(store, state)

    def record(
        self, store: BreakerStore, state: LocalState, admitted: Snapshot, results: Results
    ) -> None:
        """Report results at once, with what is pending, and make the due transition."""
        due = self._policy_is_due(state)  # a process may end before it synchronises again
        pending = state.report(with_policy=due)
        reading = store.add(_with_pending(pending, admitted.generation, results))
        self._apply(store, state, reading.snapshots[state.name], reading.now)
        self._note_policy_report(state, reading, reported=due)
        self._make_due_transition(store, state)

    def return_permit(self, store: BreakerStore, state: LocalState, admitted: Snapshot) -> None:
        """Return the permit of a probe without a result."""
        reading = store.add([state.report()])
        snapshot = reading.snapshots[state.name]
        while snapshot is not None and snapshot.generation == admitted.generation:
            won, snapshot = self._move(store, state, snapshot, return_permit(snapshot))
            if won:
                return

    def _make_due_transition(self, store: BreakerStore, state: LocalState) -> None:
        # A reading of another store is no reason to change this one.
        snapshot = state.snapshot if self._access.is_current(store) else None
        while snapshot is not None:
            due = due_transition(
                snapshot,
                state.policy,
                state.store_time(time.monotonic()),
                settling=SETTLING_INTERVALS * self._interval(),
                chance=random.random(),
            )
            if due is None:
                return
            won, snapshot = self._move(store, state, snapshot, due.new, due.cause)
            if won:
                return

    def _move(
        self, store: BreakerStore, state: LocalState, old: Snapshot, new: Snapshot, cause: str = ""
    ) -> tuple[bool, Snapshot]:
        """Try the move; return whether it was made, and the breaker as it is now."""
        move = Move(name=state.name, expected=old, new=new, cause=cause)
        before, after = move.from_label, move.to_label
        if before == after:  # another probe, or another round of probes
            move, cause = replace(move, cause=""), ""
        change = StateChange(name=state.name, from_state=before, to_state=after, cause=cause)
        try:
            (outcome,) = store.compare_and_set([move])
        except StoreUnavailable:
            if cause:
                self._unconfirmed[move.attempt] = change
            raise
        self._apply(store, state, outcome.snapshot, outcome.now)
        if outcome.won and cause:
            is_local = store is self._access.stand_in
            self._changed(replace(change, cause="local") if is_local else change)
        return outcome.won, outcome.snapshot or NO_SNAPSHOT

    def _confirm_changes(self, store: BreakerStore) -> None:
        """Announce the transitions that were made although their reply was lost."""
        while self._unconfirmed and store is not self._access.stand_in:
            attempt, change = self._unconfirmed.popitem()
            if any(record.attempt == attempt for record in store.transitions(change.name)):
                self._changed(change)

    def _apply(
        self, store: BreakerStore, state: LocalState, snapshot: Snapshot | None, now: float
    ) -> None:
        if self._access.is_current(store):
            state.read(snapshot, now, time.monotonic(), self._interval())


def _with_pending(pending: Report, generation: str, results: Results) -> list[Report]:
    """Return the reports of the results and of the pending successes."""
    if pending.generation != generation:
        return [pending, replace(pending, generation=generation, results=results)]
    results = replace(
        results,
        successes=pending.results.successes + results.successes,
        newest_success_at=max(pending.results.newest_success_at, results.newest_success_at),
        rejected=pending.results.rejected,
    )
    return [replace(pending, results=results)]
