"""A breaker as this process knows it: the last reading, and what the store does not have yet."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from analytics_admin.breakers.history import MAX_FAILURES, TakenNote, encode_note
from analytics_admin.breakers.policy import BreakerPolicy, encode_policy
from analytics_admin.breakers.state import (
    NO_COUNTS,
    RUN_TIMES,
    Control,
    Counts,
    Results,
    Snapshot,
    State,
    Transition,
)
from analytics_admin.breakers.state_machine import (
    HOLD_RETRY_SECONDS,
    control_in_force,
    due_transition,
    is_earlier,
    is_new_record,
)
from analytics_admin.breakers.stores.base import NO_RESULTS, Report
from analytics_admin.stores.threads import allocate_rlock

NEVER = float("-inf")
_CLOSED = State.CLOSED
MAX_OUTCOMES = 64
"""Outcomes kept one by one; the call that adds another folds them into sums."""
MAX_FAILURE_TIMES = 1000
"""Times kept of a breaker's last failures; a longer run is as good as this one."""

if TYPE_CHECKING:
    from analytics_admin.breakers.reporter_requests import Answer, Claim

    _Count = count[int]  # generic to the type checker alone
else:
    _Count = count


class SuccessCounter(_Count):
    """Successes of one generation in one second of the store's clock: ``next()`` counts one.

    ``itertools.count`` advances in one step of the interpreter, so no thread's count is lost.
    """

    __slots__ = ("_reported", "generation", "second")
    generation: str
    second: int
    _reported: int

    def take(self) -> int:
        """Return the number counted since the last ``take``."""
        counted = next(self)  # reading is a step too, which the next reading subtracts
        number = counted - self._reported
        self._reported = counted + 1
        return number


def _new_counter(generation: str, second: int) -> SuccessCounter:
    counter = SuccessCounter()
    counter.generation = generation
    counter.second = second
    counter._reported = 0
    return counter


class Outcome(NamedTuple):
    """One call that has ended, but for a quick success; times are monotonic."""

    generation: str
    began: float
    ended: float
    failed: bool = False
    slow: bool = False
    ends_run: bool = True
    """Whether a call that did not fail ends a run of failures."""
    note: TakenNote | None = None


@dataclass(slots=True)
class _Sums:
    """Outcomes of one generation that the store does not have yet."""

    failures: int = 0
    slow_failures: int = 0
    slow_successes: int = 0
    successes: dict[int, int] = field(default_factory=dict)
    """Quick successes that did not count themselves, by second of the store's clock."""
    failed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_FAILURE_TIMES))
    notes: deque[TakenNote] = field(default_factory=lambda: deque(maxlen=MAX_FAILURES))

    def add_failure(self, outcome: Outcome) -> None:
        self.failed_at.append(outcome.ended)
        if outcome.note is not None:
            self.notes.append(outcome.note)
        if outcome.slow:
            self.slow_failures += 1
        else:
            self.failures += 1

    def add_success(self, outcome: Outcome, now: float) -> None:
        if outcome.slow:
            self.slow_successes += 1
        else:
            self.add_quick(int(now))

    def add_quick(self, second: int, number: int = 1) -> None:
        self.successes[second] = self.successes.get(second, 0) + number

    @property
    def counts(self) -> Counts:
        failures, slow = self.failures + self.slow_failures, self.slow_successes
        quick = sum(self.successes.values())
        return Counts(
            calls=failures + slow + quick, failures=failures, slow=slow + self.slow_failures
        )

    def ended_by(self, success: float) -> int:
        """Return how many of the failures are earlier than the success."""
        run = sum(at >= success for at in self.failed_at)
        return max(0, min(self.failures + self.slow_failures, len(self.failed_at)) - run)


class LocalState:
    """One breaker as this process knows it.

    Calls before ``passes_until`` (monotonic seconds) pass without a further check. They count
    themselves with ``next(counter)``, if ``counter`` is still the one with which they began. Calls
    before ``rejects_until`` are rejected: see ``reject``.

    The lock is re-entrant: a signal handler may call the breaker in whose middle it came.
    """

    __slots__ = (
        "_adopted",
        "_at_loss",
        "_before",
        "_failed_at",
        "_in_flight",
        "_is_ordered",
        "_lock",
        "_lost_probes",
        "_old_counters",
        "_outcomes",
        "_pushed_at",
        "_read_now",
        "_rejected_by",
        "_rejects_to",
        "_run",
        "_run_began",
        "_run_dropped",
        "_run_kept",
        "_run_limit",
        "_shared_generation",
        "_sums",
        "_told_success",
        "ahead",
        "asked_at",
        "counter",
        "counts_every_exception",
        "followed_at",
        "has_rates",
        "has_succeeded",
        "is_followed",
        "kept",
        "look",
        "look_at",
        "name",
        "newest_success",
        "offset",
        "passes_until",
        "policy",
        "policy_reported_at",
        "rates_count_at",
        "read_at",
        "rejections",
        "rejects_until",
        "reported_at",
        "run_counts_at",
        "run_found",
        "slow_after",
        "snapshot",
        "spare_permit",
        "unregistered_until",
        "used_at",
    )

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self._lock = allocate_rlock()
        self.snapshot: Snapshot | None = None
        self.ahead: Transition | None = None
        """A transition that this process has made for itself and the store does not have yet."""
        self.kept: Snapshot | None = None
        """Its opening by this process alone, kept for one wait after the store has come back."""
        self._shared_generation = ""
        self._at_loss: Snapshot | None = None
        """What the shared store had when it was lost, until it is read again."""
        self._lost_probes, self._before = 0, ""
        """The latter is the generation that ended with the present one."""
        self.reported_at = NEVER
        """What was counted before this is reported (monotonic seconds)."""
        self.has_succeeded = False
        """Whether this process has begun to report the breaker's successes."""
        self.read_at = self._read_now = self._pushed_at = NEVER
        self.offset = 0.0
        # Until the last the store, which has too many names, is not asked again to register this
        # one; nothing is counted.
        self.used_at = self.followed_at = self.asked_at = self.unregistered_until = NEVER
        self.is_followed = False
        """Whether the process keeps it up to date without being asked."""
        self.look: Answer | None = None
        """Done once the first reading is there; None afterwards."""
        self.look_at = NEVER
        self.spare_permit: tuple[Snapshot, float] | None = None
        self.passes_until = self.rejects_until = NEVER
        self._rejects_to, self._rejected_by = NEVER, ""
        self.newest_success = NEVER
        self.counter = _new_counter("", 0)
        self._old_counters: tuple[SuccessCounter, ...] = ()
        # Lists, since an empty deque takes 700 bytes, as much as all the rest.
        self._outcomes: list[Outcome] = []
        self._sums: dict[str, _Sums] = {}
        self._in_flight = NO_COUNTS
        self._failed_at = NEVER
        self._adopted = ""
        """The generation in which calls count that passed before the first reading."""
        self._run: list[float] = []
        self._run_began = NEVER
        self._is_ordered = False
        self._told_success = NEVER
        self.rejections = _new_counter("", 0)
        self.run_counts_at: float | None = None
        """By then all processes have been asked for the successes that may end the run, and have
        answered (monotonic seconds); None: nobody was asked, they report by themselves."""
        self.run_found: tuple[float, float] | None = None
        """When the run began, and when it was first found to have reached the threshold (store
        time). The record of a long run keeps the times of some of its failures only."""
        self.rates_count_at: tuple[float, bool] | None = None
        """The same for a rate that has reached its limit, and whether all processes were asked."""
        self.policy = policy
        self.slow_after = float("inf")
        self.apply_policy(policy)

    def apply_policy(self, policy: BreakerPolicy) -> None:
        """Use this policy from now on."""
        self.policy = policy
        self.has_rates = policy.window is not None
        self.counts_every_exception = (
            policy.record_exceptions == (Exception,) and not policy.ignore_exceptions
        )
        self._run_limit = policy.failure_threshold or math.inf
        self._run_kept = min(policy.failure_threshold or 1, MAX_FAILURE_TIMES)
        self._run = self._run[-self._run_kept :]
        # Each drop moves the rest; a run too long to be judged here may drop many at once.
        self._run_dropped = 1 if self._run_limit <= MAX_FAILURE_TIMES else MAX_FAILURE_TIMES // 10
        self.policy_reported_at = NEVER
        if policy.slow_call_rate_threshold is not None:
            self.slow_after = policy.slow_call_duration_threshold
        else:
            self.slow_after = float("inf")
        self.expire()

    def expire(self) -> None:
        """Treat what was read before as too old."""
        self.is_followed = False
        self.read_at = self._read_now = NEVER
        self.close_gate()

    def close_gate(self) -> None:
        """Have the next call ask the engine."""
        self.passes_until = self.rejects_until = NEVER

    def rest(self) -> None:
        """Drop what a breaker that is not in use does not need; its next call asks the engine."""
        with self._lock:
            self.close_gate()
            for counter in self._old_counters:
                if number := counter.take():  # by a thread that was held up since
                    if (sums := self._sums.get(counter.generation)) is None:
                        sums = self._sums[counter.generation] = _Sums()
                    sums.add_quick(counter.second, number)
            self._old_counters = ()

    def unfollow(self) -> None:
        """Have the next call read the breaker."""
        self.is_followed = False
        self.rest()

    def last_used_at(self) -> float:
        """Return when a call last used the breaker (monotonic seconds)."""
        return max(self.used_at, self.newest_success)

    def store_time(self, at: float) -> float:
        """Return the store's time at a monotonic instant of this process."""
        return at + self.offset

    @property
    def current(self) -> Snapshot | None:
        """The breaker as calls of this process meet it."""
        kept, ahead = self.kept, self.ahead  # another thread may drop them
        if kept is not None:
            return kept
        return self.snapshot if ahead is None else ahead.new

    def read(
        self,
        snapshot: Snapshot | None,
        store_now: float,
        at: float,
        lasts: float = math.inf,
        *,
        asked_at: float = math.inf,
    ) -> None:
        """Apply a reading of the store's time ``store_now`` that arrived at monotonic ``at``.

        Calls pass unchecked by it for at most ``lasts`` seconds. Replies can overtake one another:
        one up to a second older than the last is ignored, as is another generation that was asked
        for, at monotonic ``asked_at``, before the present one was pushed. What was counted under
        another generation is dropped, but for the calls from before the first reading. A generation
        that begins in the future, since the store's clock was set back, counts from when it was
        first seen.
        """
        with self._lock:
            if self._read_now - 1.0 < store_now < self._read_now:
                return
            if asked_at < self._pushed_at and not self._is_of_this_generation(snapshot):
                if self.read_at == NEVER:  # the push sets no clock
                    self.read_at, self.offset = at, store_now - at
                    self._open_gate(at, lasts)
                return
            self._read_now = store_now
            self.read_at = at
            self.offset = store_now - at
            self._in_flight = NO_COUNTS
            self._apply(snapshot, store_now)
            self._open_gate(at, lasts)

    def begin_alone(self) -> Snapshot | None:
        """Return what this process knows, to go on with it alone: the store is lost."""
        with self._lock:
            if self.kept is None:
                self._shared_generation = self.snapshot.generation if self.snapshot else ""
            if self._at_loss is None:
                self._at_loss = self.snapshot
            return self.latest()

    def end_alone(self) -> None:
        """Drop what was counted alone, but keep an opening for its wait: the store is back."""
        with self._lock:
            alone = self.current
            self.forget_pending()
            self.drop_ahead()
            self.kept = None
            is_own = alone is not None and alone.generation != self._shared_generation
            if alone is not None and is_own and alone.state is State.OPEN and alone.hold is None:
                self.kept = alone
            self.expire()

    def lost_with(self, stored: Snapshot) -> tuple[Snapshot, str] | None:
        """Return what the shared store had later than this, and the generation that it had before.

        None: this is the latest. It is not if the store came back with its past, as a copy does
        that has taken its place without the last changes.
        """
        known = self._at_loss or self.snapshot
        return (known, self._before) if known is not None and is_earlier(stored, known) else None

    def note_lost_probe(self, generation: str) -> None:
        """Note that a probe of the shared store's round has ended while that store is lost."""
        with self._lock:
            at_loss = self._at_loss
            if at_loss is not None and at_loss.state is State.HALF_OPEN:
                self._lost_probes += generation == at_loss.generation

    def take_lost_probes(self) -> tuple[str, int]:
        """Return of which generation, and how many, such probes hold permits there still."""
        with self._lock:
            generation = "" if self._at_loss is None else self._at_loss.generation
            number, self._lost_probes = self._lost_probes, 0
            return generation, number

    def end_loss(self) -> None:
        """Forget what the shared store had when it was lost: it is read again."""
        self._at_loss = None

    def drop_kept(self) -> None:
        """Meet calls as the store has it: the wait is over."""
        with self._lock:
            self.kept = None
            self.close_gate()

    def _keeps_opening(self, shared: Snapshot | None) -> bool:
        """Return whether nobody has moved the breaker since the store was lost."""
        if shared is None:
            return True  # the store came back empty
        if shared.state is not State.CLOSED or shared.hold is not None:
            return False
        known, self._shared_generation = self._shared_generation, shared.generation
        return shared.generation == known or not known or is_new_record(shared.generation, known)

    def apply_push(self, snapshot: Snapshot, store_now: float, at: float) -> bool:
        """Apply a change of store time ``store_now``; return whether that was possible.

        Nothing is known of how long the message took, so it sets no clock. One from before the last
        reading is too late, unless the store's clock was set back: only another reading tells.
        """
        with self._lock:
            if self._is_of_this_generation(snapshot):
                return True
            if store_now <= self._read_now or snapshot.entered_at > store_now:
                return False
            self._read_now, self._pushed_at = store_now, at
            self._apply(snapshot, store_now)
            self._open_gate(at, math.inf)
            return True

    def _is_of_this_generation(self, snapshot: Snapshot | None) -> bool:
        known = self.snapshot
        return (
            known is not None and snapshot is not None and known.generation == snapshot.generation
        )

    def _apply(self, snapshot: Snapshot | None, store_now: float) -> None:
        if snapshot is not None and snapshot.entered_at > store_now:
            snapshot = replace(snapshot, entered_at=self._first_seen(snapshot, store_now))
        if self.kept is not None and not self._keeps_opening(snapshot):
            self.kept = None
        before = self.snapshot.generation if self.snapshot is not None else ""
        generation = snapshot.generation if snapshot is not None else ""
        self.snapshot = snapshot
        if generation != before:
            if self._at_loss is None:
                self._before = before
            self.ahead, self._in_flight = None, NO_COUNTS
            is_closed = snapshot is not None and snapshot.state is State.CLOSED
            self._begin_generation(generation, int(store_now), adopts=is_closed and not before)
        if snapshot is not None and snapshot.last_success_at > self._told_success + 1e-5:
            # A success in another process ends this one's run, too.
            # Callers add to the list meanwhile, without a lock.
            run, since = self._run, snapshot.last_success_at
            if run and self.store_time(min(run)) < since:
                self._run = [at for at in run if self.store_time(at) >= since]

    def take_spare(self, at: float, claim: "Claim") -> Snapshot | None:
        """Return the permit granted for a caller that did not wait for it, if it is still valid."""
        if self.spare_permit is None:
            return None
        with self._lock:
            spare = self.spare_permit
            if spare is None or at >= spare[1]:  # the reporter gives it back
                return None
            permit = spare[0]
            claim.taken = permit  # no signal comes between this and the next step
            self.spare_permit = None
            current = self.snapshot.generation if self.snapshot else None
            return permit if permit.generation == current else None

    def drop_spare(self, spare: tuple[Snapshot, float]) -> bool:
        """Return whether this permit was still there to be dropped."""
        with self._lock:
            is_there = self.spare_permit is spare
            if is_there:
                self.spare_permit = None
            return is_there

    def reject(self, at: float) -> tuple[str, float]:
        """Count a rejection before ``rejects_until``; return what rejects it, and retry_after."""
        self.used_at = at
        next(self.rejections)
        wait = self._rejects_to - at
        return self._rejected_by, wait if wait < math.inf else HOLD_RETRY_SECONDS

    def latest(self) -> Snapshot | None:
        """Return the breaker with what this process knows better than the store."""
        snapshot = self.current
        if snapshot and self.store_time(self.newest_success) > snapshot.last_failure_at:
            return replace(snapshot, consecutive_failures=0)
        return snapshot

    def roll(self, at: float, lasts: float = math.inf) -> None:
        """Begin the counter of the current second, if the last second is over."""
        with self._lock:
            self._open_gate(at, lasts)

    def count_success(self, generation: str, at: float) -> None:
        """Count a quick success that ended at monotonic ``at``, unless its generation is over."""
        with self._lock:
            if (generation or self._adopted) != self.counter.generation:
                return
            if at < self.unregistered_until and self.snapshot is None:
                return
            self._begin_counter(int(self.store_time(at)))
            next(self.counter)
            self.newest_success = max(self.newest_success, at)

    def count(self, outcome: Outcome) -> bool:
        """Count any other outcome; return whether it makes a run that may open the breaker.

        Costs memory per breaker, not per call; never waits.
        """
        is_long = False
        generation, began, ended, failed, _slow, ends_run, _note = outcome
        if failed:
            if (generation or self._adopted) == self.counter.generation:
                run = self._run
                if self.newest_success > self._failed_at or not run:
                    run.clear()
                    self._run_began, self._is_ordered = ended, False
                elif began >= self._run_began:
                    # Calls that were all in flight together met one fault, not so many.
                    self._is_ordered = True
                run.append(ended)
                if len(run) > self._run_kept:
                    del run[: self._run_dropped]
                self._failed_at = ended
                is_long = len(run) >= self._run_limit
        elif ends_run:
            self.newest_success = max(self.newest_success, ended)
        outcomes = self._outcomes
        outcomes.append(outcome)
        if len(outcomes) > MAX_OUTCOMES and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()
        return is_long

    def judge(self, at: float, chance: float) -> None:
        """Make the transition that the results of this process alone require, for itself.

        The store has the last word: see ``drop_ahead``. Rates are judged by the store's counts
        alone.
        """
        snapshot = self.snapshot
        if snapshot is None or self.ahead is not None:
            return
        if snapshot.state is _CLOSED and (len(self._run) < self._run_limit or not self.has_run):
            return
        with self._lock:
            if self.ahead is not None or self.snapshot is not snapshot:
                return
            self._fold()
            sums = self._sums.get(snapshot.generation)
            counted = snapshot.counts + self._in_flight + (sums.counts if sums else NO_COUNTS)
            view = replace(
                snapshot, consecutive_failures=len(self._run), counts=counted, window=NO_COUNTS
            )
            now = self.store_time(at)
            due = due_transition(view, self.policy, now, rate_delay=math.inf, chance=chance)
            if due is None or due.new.generation == snapshot.generation:
                return
            self.ahead = replace(due, new=replace(due.new, entered_at=now))
            self._begin_generation(due.new.generation, int(now), adopts=False)
            self._open_gate(at, math.inf)

    @property
    def has_run(self) -> bool:
        """Whether the failures of this process alone reach the threshold, one after the other."""
        if len(self._run) < self._run_limit:
            return False
        return self._is_ordered or self._run_limit == 1

    def drop_ahead(self) -> None:
        """Drop the transition of this process alone: the store has another truth."""
        with self._lock:
            if self.ahead is not None:
                self.ahead = None
                generation = self.snapshot.generation if self.snapshot is not None else ""
                self._begin_generation(generation, self.counter.second, adopts=False)
                self.close_gate()

    @property
    def has_counted(self) -> bool:
        """Whether a call has ended in this process."""
        return self.newest_success > NEVER or self._failed_at > NEVER

    @property
    def has_outcomes(self) -> bool:
        """Whether calls have ended, other than by a quick success, that are not reported yet."""
        return bool(self._outcomes or self._sums)

    def report(self, *, with_policy: bool = False) -> Report:
        """Return what the store does not have yet of the generation that was read last.

        What is counted before the first reading waits for it.
        """
        with self._lock:
            generation = self.snapshot.generation if self.snapshot is not None else ""
            results = self._take(generation) if generation else NO_RESULTS
            self._in_flight = results.counts
            if results.newest_success_at:
                self._told_success = results.newest_success_at
            return Report(
                name=self.name,
                window=self.policy.window,
                generation=generation,
                results=results,
                question_at=None if self.has_run else self.policy.failure_threshold,
                rates=self.policy.rates,
                policy_text=encode_policy(self.policy) if with_policy else None,
            )

    def forget_pending(self) -> None:
        """Drop what is not reported yet."""
        with self._lock:
            self._take(self.snapshot.generation if self.snapshot is not None else "")
            self._outcomes.clear()
            self._sums.clear()
            self._in_flight = NO_COUNTS

    def _take(self, generation: str) -> Results:
        """Return what was counted under this generation since the last time."""
        self._fold()
        counters = [*self._old_counters, self.counter]
        batches: dict[int, int] = {}
        for counter in counters:
            if counter.generation == generation and (number := counter.take()):
                batches[counter.second] = batches.get(counter.second, 0) + number
        # A thread may be about to count into a counter just replaced, so it is read again.
        self._old_counters = self._old_counters[-2:]
        return self._results(batches, self._sums.pop(generation, None))

    def after_fork(self) -> None:
        """Start as a child: the parent reports its results and may have held the lock."""
        self._lock = allocate_rlock()
        self.forget_pending()
        self.has_succeeded = False
        self.is_followed, self.look, self.spare_permit = False, None, None
        self.close_gate()

    def _fold(self) -> None:
        """Add the outcomes to the sums of their generations, without those that are over."""
        # Until a reading is adopted, the counter is that of the calls from before it.
        known = {self.snapshot.generation if self.snapshot is not None else ""}
        known.add(self.counter.generation)
        if self.ahead is not None:
            known.add(self.ahead.new.generation)
        outcomes = self._outcomes
        for _ in range(len(outcomes)):
            try:
                outcome = outcomes.pop(0)
            except IndexError:  # a signal's handler has folded them in the middle of this
                return
            generation = outcome.generation or self._adopted
            if generation not in known:
                continue
            if (sums := self._sums.get(generation)) is None:
                sums = self._sums[generation] = _Sums()
            if outcome.failed:
                sums.add_failure(outcome)
            else:
                sums.add_success(outcome, self.store_time(outcome.ended))

    def _results(self, batches: dict[int, int], sums: _Sums | None) -> Results:
        rejected = self.rejections.take()
        if not batches and sums is None:
            return Results(rejected=rejected) if rejected else NO_RESULTS
        sums = sums or _Sums()
        for second, number in sums.successes.items():
            batches[second] = batches.get(second, 0) + number
        newest = self.newest_success if batches or sums.slow_successes else NEVER
        last = islice(sums.failed_at, max(0, len(sums.failed_at) - RUN_TIMES), None)
        return Results(
            successes=tuple(sorted(batches.items())),
            newest_success_at=self.store_time(newest) if newest > NEVER else 0.0,
            slow_successes=sums.slow_successes,
            failures=sums.failures,
            slow_failures=sums.slow_failures,
            ended_failures=sums.ended_by(newest),
            failed_at=tuple(map(self.store_time, last)),
            rejected=rejected,
            notes=tuple(map(encode_note, sums.notes)),
        )

    def _begin_generation(self, generation: str, second: int, *, adopts: bool) -> None:
        """Begin new counts; ``adopts``: what was counted before the first reading counts here."""
        if self.counter.generation == generation:
            return
        if adopts and self.counter.generation == "":
            self._fold()
            if (sums := self._sums.pop("", None)) is not None:
                self._sums[generation] = sums
            for counter in (*self._old_counters, self.counter):
                counter.generation = generation
            self._adopted = generation
            return
        if not generation:
            self._adopted = ""
        self._run.clear()
        kept = {generation}
        if self.snapshot is not None:
            kept.add(self.snapshot.generation)
        self._sums = {of: sums for of, sums in self._sums.items() if of in kept}
        self._old_counters = tuple(it for it in self._old_counters if it.generation in kept)
        if self.counter.generation in kept:
            self._old_counters += (self.counter,)
        self.counter = _new_counter(generation, second)

    def _first_seen(self, snapshot: Snapshot, store_now: float) -> float:
        before = self.snapshot
        if (
            before is None
            or before.generation != snapshot.generation
            or before.entered_at > store_now
        ):
            return store_now
        return before.entered_at

    def _open_gate(self, at: float, lasts: float) -> None:
        """Set until when calls pass, or are rejected, unchecked: at most for about a second."""
        self.close_gate()
        snapshot, now = self.current, self.store_time(at)
        if snapshot is None or self.read_at == NEVER:
            return
        ends = math.inf
        if snapshot.hold is not None:
            control = control_in_force(snapshot, now)
            ends = snapshot.hold.until or ends
            if control is Control.FORCED_OPEN:
                self._close_until(ends, control.value, min(self.read_at + lasts, at + 1.0))
            if control not in (Control.DISABLED, Control.METRICS_ONLY):
                return
        elif snapshot.state is State.OPEN:
            ends = snapshot.entered_at + snapshot.wait
            self._close_until(ends, State.OPEN.value, min(self.read_at + lasts, at + 1.0))
            return
        elif snapshot.state is not State.CLOSED:
            return
        if self.policy.record_result:
            return
        self._begin_counter(int(now))
        self.passes_until = min(self.read_at + lasts, min(int(now) + 1, ends) - self.offset)

    def _close_until(self, ends: float, by: str, unless_read: float) -> None:
        """Have calls rejected until ``ends`` (the store's time), but no longer than unread."""
        self._rejects_to, self._rejected_by = ends - self.offset, by
        self.rejects_until = min(unless_read, self._rejects_to)

    def _begin_counter(self, second: int) -> None:
        if self.counter.second != second:
            self._old_counters += (self.counter,)
            self.counter = _new_counter(self.counter.generation, second)
