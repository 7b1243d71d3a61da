"""What the engine does with a store, whichever it is: tell, read, and make what is due.

Each method is a job for the link: it may run on another thread than its caller's.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Hold, Results, Snapshot
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
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    BreakerStore,
    Move,
    Reading,
    Report,
    StoreUnavailable,
)
from analytics_admin.breakers.stores.standin import StoreAccess

logger = logging.getLogger("analytics_admin.breakers")

SETTLING_INTERVALS = 12
"""For so long the rates of a new generation are not judged. Failures are told at once, successes
up to an interval later, and a process that has not seen the generation yet tells it none: with 4
intervals one failing process of four still trips a threshold a fifth above the true rate."""
POLICY_REPORT_SECONDS = 3600.0
"""Seconds after which a process says again that it uses a breaker."""
REGISTRATION_RETRY_SECONDS = 60.0
"""Seconds after which a breaker for which there was no place asks for one again."""
UNKNOWN = Snapshot(generation="")
"""What a call passes under when nothing could be asked yet; its results count nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A transition that this process made."""

    name: str
    from_state: str
    to_state: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChange:
    """The store was lost, for this reason, or is back (None)."""

    reason: str | None


class StoreSync:
    """The jobs; ``made`` is told of each transition that this process makes."""

    def __init__(
        self,
        link: StoreAccess,
        *,
        interval: Callable[[], float],
        keep_for: Callable[[], float | None],
        made: Callable[[StateChange], None],
    ) -> None:
        self._link = link
        self._interval = interval
        self._keep_for = keep_for
        self._made = made
        self._unsettled: dict[str, StateChange] = {}
        self._refused_until = float("-inf")

    def synchronise(self, store: BreakerStore, views: Sequence[LocalState]) -> None:
        """Tell and read all these breakers in one round trip."""
        holds = {view.name: self._recent_hold(view) for view in views}
        due = {view.name for view in views if self._policy_is_due(view)}
        reading = store.add([view.report(with_policy=view.name in due) for view in views])
        for view in views:
            self._saw(store, view, reading.snapshots[view.name], reading.now)
            self._note_policy_report(view, reading, said=view.name in due)
        if not self._link.is_current(store):
            return  # too late: nobody waits for this any longer
        missing = [name for name, snapshot in reading.snapshots.items() if snapshot is None]
        self._register(store, [v for v in views if v.name in missing], holds)
        for view in views:
            self._make_due_transition(store, view)
        self._settle(store)

    def _policy_is_due(self, view: LocalState) -> bool:
        keep_for = self._keep_for()
        every = (
            POLICY_REPORT_SECONDS if keep_for is None else min(POLICY_REPORT_SECONDS, keep_for / 4)
        )
        return time.monotonic() - view.policy_reported_at >= every

    def _note_policy_report(self, view: LocalState, reading: Reading, *, said: bool) -> None:
        """A breaker without a record keeps no policy: it is said again."""
        if said and reading.snapshots[view.name] is not None:
            view.policy_reported_at = time.monotonic()

    def _recent_hold(self, view: LocalState) -> Hold | None:
        """Return the hold in force by what was read a moment ago, for a store that lost it."""
        now = time.monotonic()
        if view.snapshot is None or now - view.read_at > 2 * self._interval():
            return None
        hold = view.snapshot.hold
        return None if hold is None or hold.is_over(view.store_time(now)) else hold

    def _register(
        self, store: BreakerStore, views: list[LocalState], holds: Mapping[str, Hold | None]
    ) -> None:
        """Give a record to breakers that have none: never used before, or the store was emptied."""
        if not views or time.monotonic() < self._refused_until:
            return
        refused = store.register([view.name for view in views], keep_for=self._keep_for())
        if refused:
            self._refuse(refused)
            views = [view for view in views if view.name not in refused]
        moves = [
            Move(name=view.name, expected=None, new=replace(new_record(), hold=holds[view.name]))
            for view in views
        ]
        for view, outcome in zip(views, store.compare_and_set(moves), strict=True):
            self._saw(store, view, outcome.snapshot, outcome.now)

    def _refuse(self, names: Sequence[str]) -> None:
        self._refused_until = time.monotonic() + REGISTRATION_RETRY_SECONDS
        logger.error(
            "circuit breakers: %d names are registered and there is no place for %r%s, whose calls "
            "pass unprotected; names are for backends, not for data: see forget_circuit_breaker",
            MAX_NAMES,
            names[0],
            f" and {len(names) - 1} more" if len(names) > 1 else "",
        )

    def win_permit(self, store: BreakerStore, view: LocalState) -> Snapshot | None:
        """Win a probe permit, unless others take them all first."""
        snapshot = view.snapshot or UNKNOWN
        while self._link.is_current(store):
            decision = admission(snapshot, view.policy, view.store_time(time.monotonic()))
            if decision is not Admission.PROBE:
                return snapshot if decision is Admission.ALLOW else None
            wanted = grant_permit(snapshot, view.policy)
            cause = HOLD_OVER if snapshot.hold else WAIT_OVER
            won, snapshot = self._move(store, view, snapshot, wanted, cause)
            if won:
                return snapshot
        return None  # whoever asked is waiting no longer

    def win_spare(self, store: BreakerStore, view: LocalState) -> None:
        """Win a permit for the next call from an event loop, which cannot wait for one."""
        if view.spare_permit is None:
            view.spare_permit = self.win_permit(store, view)

    def tell(
        self, store: BreakerStore, view: LocalState, admitted: Snapshot, results: Results
    ) -> None:
        due = self._policy_is_due(view)  # a process may end before it synchronises again
        pending = view.report(with_policy=due)
        reading = store.add(_with_pending(pending, admitted.generation, results))
        self._saw(store, view, reading.snapshots[view.name], reading.now)
        self._note_policy_report(view, reading, said=due)
        self._make_due_transition(store, view)

    def return_permit(self, store: BreakerStore, view: LocalState, admitted: Snapshot) -> None:
        reading = store.add([view.report()])
        snapshot = reading.snapshots[view.name]
        while snapshot is not None and snapshot.generation == admitted.generation:
            won, snapshot = self._move(store, view, snapshot, return_permit(snapshot))
            if won:
                return

    def _make_due_transition(self, store: BreakerStore, view: LocalState) -> None:
        # What was read of another store is no reason to change this one.
        snapshot = view.snapshot if self._link.is_current(store) else None
        while snapshot is not None:
            due = due_transition(
                snapshot,
                view.policy,
                view.store_time(time.monotonic()),
                settling=SETTLING_INTERVALS * self._interval(),
                chance=random.random(),
            )
            if due is None:
                return
            won, snapshot = self._move(store, view, snapshot, due.new, due.cause)
            if won:
                return

    def _move(
        self, store: BreakerStore, view: LocalState, old: Snapshot, new: Snapshot, cause: str = ""
    ) -> tuple[bool, Snapshot]:
        """Try the move; return whether it was made, and the breaker as it is now."""
        move = Move(
            name=view.name, expected=old, new=new, cause=cause, attempt=secrets.token_hex(8)
        )
        before, after = move.from_label, move.to_label
        if before == after:  # another probe, or another round of them
            move, cause = replace(move, cause=""), ""
        change = StateChange(name=view.name, from_state=before, to_state=after, cause=cause)
        try:
            (outcome,) = store.compare_and_set([move])
        except StoreUnavailable:
            if cause:
                self._unsettled[move.attempt] = change
            raise
        self._saw(store, view, outcome.snapshot, outcome.now)
        if outcome.won and cause:
            is_local = store is self._link.stand_in
            self._made(replace(change, cause="local") if is_local else change)
        return outcome.won, outcome.snapshot or UNKNOWN

    def _settle(self, store: BreakerStore) -> None:
        """Find out which transitions were made although their reply was lost, and announce them."""
        while self._unsettled and store is not self._link.stand_in:
            attempt, change = self._unsettled.popitem()
            if any(record.attempt == attempt for record in store.transitions(change.name)):
                self._made(change)

    def _saw(
        self, store: BreakerStore, view: LocalState, snapshot: Snapshot | None, now: float
    ) -> None:
        if self._link.is_current(store):
            view.read(snapshot, now, time.monotonic(), self._interval())


def _with_pending(pending: Report, generation: str, results: Results) -> list[Report]:
    """Return the reports that tell the results, and the successes that were still to be told."""
    if pending.generation != generation:
        return [pending, replace(pending, generation=generation, results=results)]
    results = replace(
        results,
        successes=pending.results.successes + results.successes,
        newest_success_at=max(pending.results.newest_success_at, results.newest_success_at),
        rejected=pending.results.rejected,
    )
    return [replace(pending, results=results)]
