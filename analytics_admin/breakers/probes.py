"""Which calls may pass as probes: their permits are granted in the store, and given back there."""

import time
from collections.abc import Sequence
from dataclasses import replace

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.permit import is_probe
from analytics_admin.breakers.reporter_requests import Claim, Request
from analytics_admin.breakers.state import Snapshot, Transition
from analytics_admin.breakers.state_machine import (
    HOLD_OVER,
    WAIT_OVER,
    Admission,
    admission,
    begin_round_anew,
    grant_permit,
    return_permit,
)
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.breakers.sync import MAX_ATTEMPTS, NO_SNAPSHOT, StoreSync

SPARE_SECONDS = 1.0
"""A permit that came after its caller had left serves another call for this long at least."""
SPARE_INTERVALS = 2.0
"""Where calls are rarer, it waits for as long as so many of them take."""
SPARE_SHARE = 0.75
"""Part of the time of a round for which it waits at most: the call has to report in time."""


def _permits(snapshot: Snapshot | None) -> tuple[str, int] | None:
    return None if snapshot is None else (snapshot.generation, snapshot.permits)


def spare_seconds(state: LocalState, idle: float, now: float) -> float:
    """Return for how long to keep a permit for the next call, the last being ``idle`` seconds ago.

    In an event loop, and with a slow store, a permit serves the call after the one that asked.
    """
    limit = SPARE_SHARE * state.policy.max_wait_duration_in_half_open_state
    asked = now - state.asked_at
    between = max(idle, asked) if asked < limit else idle
    return min(SPARE_INTERVALS * between, limit)


class Probes:
    """The permits that this process wins and returns. Every method may raise StoreUnavailable."""

    def __init__(self, sync: StoreSync) -> None:
        self._sync = sync
        self.spares: dict[str, tuple[LocalState, tuple[Snapshot, float]]] = {}
        """By name, the permits that wait for another call, and until when."""

    def grant(self, store: BreakerStore, state: LocalState, callers: Sequence[Request]) -> None:
        """Win permits for the callers; one that its caller waits for no more is a spare."""
        answers = self.win(store, state, len(callers))
        for request, permit in zip(callers, answers, strict=True):
            if request.give(permit) or permit is None or not is_probe(permit):
                continue
            if state.spare_permit is None:
                ends_at = time.monotonic() + max(SPARE_SECONDS, request.spare_for)
                spare = state.spare_permit = (permit, ends_at)
                self.spares[state.name] = (state, spare)
            else:
                self.give_back(store, state, permit.generation)

    def win(self, store: BreakerStore, state: LocalState, number: int) -> list[Snapshot | None]:
        """Return for each of that many calls the snapshot under which it passes, or None."""
        passing: list[Snapshot | None] = []
        for _ in range(MAX_ATTEMPTS):
            snapshot = state.snapshot or NO_SNAPSHOT
            left = number - len(passing)
            now_there = state.store_time(time.monotonic())
            decision = admission(snapshot, state.policy, now_there)
            if decision is Admission.ALLOW:
                return [*passing, *[snapshot] * left]
            if decision is Admission.REJECT or not left or not self._sync.is_current(store):
                break
            granted = grant_permit(begin_round_anew(snapshot, state.policy, now_there))
            limit = state.policy.permitted_number_of_calls_in_half_open_state
            new = min(left, limit - granted.permits + 1)
            granted = replace(granted, permits=granted.permits + new - 1)
            cause = HOLD_OVER if snapshot.hold else WAIT_OVER
            transition = Transition(old=snapshot, new=granted, cause=cause)
            ((won, now),) = self._sync.move(
                store, [(state, transition)], prober=self._sync.prober()
            )
            if won and now is not None:
                passing += [now] * new
        return [*passing, *[None] * (number - len(passing))]

    def give_back(self, store: BreakerStore, state: LocalState, generation: str) -> None:
        """Return the permit of a probe without a result."""
        self._sync.synchronise(store, [state])
        for _ in range(MAX_ATTEMPTS):
            snapshot = state.snapshot
            if snapshot is None or snapshot.generation != generation:
                return
            if not self._sync.is_current(store):
                return
            back = Transition(old=snapshot, new=return_permit(snapshot), cause="")
            ((won, _),) = self._sync.move(store, [(state, back)], prober=self._sync.prober())
            if won:
                return

    def take(self, store: BreakerStore, state: LocalState, claim: Claim) -> Snapshot | None:
        """Win a permit for a caller that uses a store in memory by itself."""
        before = state.snapshot
        try:
            (claim.taken,) = permits = self.win(store, state, 1)
        except StoreUnavailable:
            raise
        except BaseException:  # a signal's handler; nobody knows whether it was won
            now = store.load_many([state.name]).snapshots[state.name]
            if now is not None and is_probe(now) and _permits(now) != _permits(before):
                claim.taken = now
            raise
        return permits[0]

    @property
    def due_in(self) -> float:
        """The seconds until a spare permit is to be given back."""
        at = [ends_at for _state, (_permit, ends_at) in list(self.spares.values())]
        return min(at, default=float("inf")) - time.monotonic()

    def give_back_spares(self, store: BreakerStore) -> None:
        """Return the spare permits that no call has used in time."""
        for name, (state, spare) in list(self.spares.items()):
            if time.monotonic() >= spare[1] or state.spare_permit is not spare:
                self.spares.pop(name, None)
                if state.drop_spare(spare):
                    self.give_back(store, state, spare[0].generation)
