"""What this process knows of the shared breakers, and how it tells the store what it saw.

A view younger than SYNC_INTERVAL is trusted without asking; successes wait for the next round
trip, failures go at once.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import cache

from django.core.signals import setting_changed
from django.dispatch import receiver

from analytics_admin.breakers.machine import (
    Results,
    Snapshot,
    State,
    Verdict,
    due_transition,
    grant_permit,
    judge,
    new_record,
    retry_after,
    return_permit,
)
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.redis_store import RedisStore
from analytics_admin.breakers.store import BreakerStore, MemoryStore, Move, StoreUnavailable
from analytics_admin.conf import SETTING, app_settings
from analytics_admin.connections import is_local_memory
from analytics_admin.signals import breaker_state_changed

logger = logging.getLogger("analytics_admin.breakers")

CALL_TIMEOUT = 0.1
ACT_TIMEOUT = 0.5
OUTAGE_PAUSE = 5.0
"""Seconds for which no call asks a store that has just failed to answer."""

_memory_store = MemoryStore()


@cache
def store_for(alias: str, timeout: float) -> BreakerStore:
    """Return the store behind the alias; ``timeout`` (seconds) holds for each of its replies."""
    return _memory_store if is_local_memory(alias) else RedisStore(alias, timeout=timeout)


def act_store() -> BreakerStore:
    """Return the store as operators' acts use it: patient, and failing aloud."""
    return store_for(app_settings().breaker_cache, ACT_TIMEOUT)


@receiver(setting_changed)
def _forget_stores(*, setting: str, **_: object) -> None:
    if setting in {"CACHES", SETTING}:
        store_for.cache_clear()


class View:
    """One breaker as this process sees it."""

    def __init__(self, name: str, policy: Callable[[], BreakerPolicy]) -> None:
        self._name = name
        self._policy = policy
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._read_at = float("-inf")
        self._offset = 0.0
        self._asked_again_at = float("-inf")
        self._pending_successes = 0
        self._newest_success_at = 0.0

    def snapshot(self) -> Snapshot:
        """Return the breaker, asking the store when what is known is older than SYNC_INTERVAL.

        While the store does not answer, what was last known holds; a closed breaker if nothing.
        """
        known = self._snapshot
        if known is not None and time.monotonic() - self._read_at < app_settings().sync_interval:
            return known
        try:
            return self._synchronise()
        except StoreUnavailable as error:
            return self._outage(error)

    def expire(self) -> None:
        """Ask the store at the next call, also when it did not answer a moment ago."""
        self._read_at = self._asked_again_at = float("-inf")

    def now(self) -> float:
        """Return the store's time, by this process' clock since the last reading."""
        return time.monotonic() + self._offset

    def retry_after(self, snapshot: Snapshot) -> float:
        return retry_after(snapshot, self._policy(), self.now())

    def admit(self) -> Snapshot | None:
        """Return the snapshot under which a call may pass, or None when it may not.

        A half-open one is a probe, whose permit the store has granted to this caller alone.
        """
        snapshot = self.snapshot()
        try:
            while True:
                verdict = judge(snapshot, self._policy(), self.now())
                if verdict is Verdict.REJECTED:
                    return None
                if verdict is Verdict.PASSES:
                    return snapshot
                won, snapshot = self._move(snapshot, grant_permit(snapshot, self._policy()))
                if won:
                    return snapshot
        except StoreUnavailable as error:
            return self._outage(error)

    def succeeded(self, admitted: Snapshot) -> None:
        """Count a success: a probe's at once, another's with the next round trip."""
        if admitted.state is State.CLOSED:
            with self._lock:
                if self._generation() == admitted.generation:
                    self._pending_successes += 1
                    self._newest_success_at = self.now()
            return
        self._tell(admitted, Results(successes=1, newest_success_at=self.now()))

    def failed(self, admitted: Snapshot) -> None:
        """Count a failure, at once."""
        pending = self._take_pending() if admitted.state is State.CLOSED else Results()
        self._tell(
            admitted,
            Results(
                failures=1,
                successes=pending.successes,
                newest_success_at=pending.newest_success_at,
            ),
        )

    def released(self, admitted: Snapshot) -> None:
        """Give a probe's permit back; a call that was no probe leaves no trace."""
        if admitted.state is not State.HALF_OPEN:
            return
        try:
            snapshot = self._load()
            while snapshot.generation == admitted.generation and snapshot.permits:
                won, snapshot = self._move(snapshot, return_permit(snapshot))
                if won:
                    return
        except StoreUnavailable as error:
            self._outage(error)

    def _tell(self, admitted: Snapshot, results: Results) -> None:
        """Report results and make the transition that they bring about."""
        try:
            reading = self._store().add(self._name, admitted.generation, results)
            snapshot = self._saw(reading.snapshots[self._name], reading.now)
            if snapshot is not None:
                self._make_due_transition(snapshot)
        except StoreUnavailable as error:
            self._outage(error)

    def _make_due_transition(self, snapshot: Snapshot) -> None:
        due = due_transition(snapshot, self._policy())
        while due is not None:
            won, snapshot = self._move(snapshot, due)
            due = None if won else due_transition(snapshot, self._policy())

    def _synchronise(self) -> Snapshot:
        """Read the breaker, handing in the successes that waited for it."""
        known, pending = self._snapshot, self._take_pending()
        if known is not None and pending.successes:
            reading = self._store().add(self._name, known.generation, pending)
            snapshot = self._saw(reading.snapshots[self._name], reading.now)
            return snapshot or self._load()
        return self._load()

    def _load(self) -> Snapshot:
        """Read the breaker; one that nobody has registered is registered as closed."""
        reading = self._store().load_many([self._name])
        snapshot = self._saw(reading.snapshots[self._name], reading.now)
        while snapshot is None:
            move = Move(name=self._name, expected=None, new=new_record())
            (outcome,) = self._store().compare_and_set([move])
            snapshot = self._saw(outcome.snapshot, outcome.now)
        return snapshot

    def _move(self, expected: Snapshot, new: Snapshot) -> tuple[bool, Snapshot]:
        move = Move(name=self._name, expected=expected, new=new)
        (outcome,) = self._store().compare_and_set([move])
        snapshot = self._saw(outcome.snapshot, outcome.now)
        if outcome.won and expected.state is not new.state:
            self._announce(expected, new)
        return outcome.won, snapshot if snapshot is not None else self._load()

    def _announce(self, old: Snapshot, new: Snapshot) -> None:
        logger.warning("circuit breaker %s: %s to %s", self._name, old.state, new.state)
        breaker_state_changed.send_robust(
            sender=View, name=self._name, from_state=old.state.value, to_state=new.state.value
        )

    def _saw(self, snapshot: Snapshot | None, now: float) -> Snapshot | None:
        """Take over what the store answered; results of another generation are dropped."""
        with self._lock:
            if snapshot is None or snapshot.generation != self._generation():
                self._pending_successes = 0
            self._read_at = time.monotonic()
            self._offset = now - self._read_at
            self._snapshot = snapshot
            return snapshot

    def _generation(self) -> str:
        return "" if self._snapshot is None else self._snapshot.generation

    def _take_pending(self) -> Results:
        with self._lock:
            taken = Results(
                successes=self._pending_successes, newest_success_at=self._newest_success_at
            )
            self._pending_successes = 0
            return taken

    def _store(self) -> BreakerStore:
        if time.monotonic() < self._asked_again_at:
            raise StoreUnavailable("the store did not answer a moment ago")
        return store_for(app_settings().breaker_cache, CALL_TIMEOUT)

    def _outage(self, error: StoreUnavailable) -> Snapshot:
        """Go on with what was last known; a breaker that would probe lets its calls pass."""
        now = time.monotonic()
        if now >= self._asked_again_at:
            self._asked_again_at = now + OUTAGE_PAUSE
            logger.warning("circuit breaker %s: %s; using what was known", self._name, error.reason)
        known = self._snapshot
        if known is None:
            self._offset = time.time() - now
            return Snapshot(generation="")
        return known
