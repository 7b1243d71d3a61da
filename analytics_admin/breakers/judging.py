"""When the results of a fleet are judged: once all processes have told what may keep it closed."""

import math
import time
from collections.abc import Callable, Sequence

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import closeness, run_reached_at, would_have_opened
from analytics_admin.breakers.stores.base import BreakerStore, Reading

SETTLING_INTERVALS = 12
"""Number of intervals after which the rates of a new generation are evaluated as they are. Failures
are reported at once, successes up to an interval later, and a process that has not seen the
generation yet reports none. With 4 intervals, one failing process of four would still trip a
threshold a fifth above the true rate."""
ANSWER_SECONDS = 0.08
"""Time in which all processes answer a question for their successes."""
SETTLE_SECONDS = 0.05
"""Time that a report takes on its way, beyond the interval at which processes report successes."""


class Judging:
    """Delays of the judging in one process.

    ``gets_pushes`` says whether every change is pushed here, ``interval`` is SYNC_INTERVAL.
    """

    def __init__(self, gets_pushes: Callable[[], bool], interval: Callable[[], float]) -> None:
        self._gets_pushes = gets_pushes
        self._interval = interval
        self._slowest_answer = 0.0
        """In how many seconds the process that is farthest from the store is answered."""

    def note(self, states: Sequence[LocalState], reading: Reading, *, took: float) -> None:
        """Note what a reading of these breakers, which took so long, says of the other processes.

        If there was a question, that is when all will have answered it, also the farthest one.
        """
        self._slowest_answer = reading.slowest_answer
        if not (reading.is_question_heard or reading.is_alone):
            return
        way = max(ANSWER_SECONDS + 2 * self._slowest_answer, 2 * took)
        answered_at = time.monotonic() + way
        is_heard = reading.is_question_heard or self._gets_pushes()
        all_is_told = reading.is_alone and not reading.is_question_heard
        for state in states:
            if is_heard and _run_reached_at(state) is None:  # until now
                state.run_counts_at = answered_at
            if not _has_reached_rate(state):
                state.rates_count_at = (0.0 if all_is_told else answered_at), True

    def seconds_to_judge(self, store: BreakerStore, state: LocalState) -> float | None:
        """Return when what would open the breaker is to be judged; None: there is nothing to be."""
        now = time.monotonic()
        rates_at = self._rates_count_at(store, state)
        return min(
            (
                wait
                for wait in (
                    self._seconds_to_judge_run(store, state, now),
                    rates_at - now if rates_at > now else None,
                )
                if wait is not None
            ),
            default=None,
        )

    def _rates_count_at(self, store: BreakerStore, state: LocalState) -> float:
        """Return when what was told of a rate at its limit is all that there is to be told."""
        if not store.asks_processes or not _has_reached_rate(state):
            state.rates_count_at = None
            return 0.0
        if state.rates_count_at is None:  # asked for by another process, if at all
            state.rates_count_at = time.monotonic() + self._told_within(), False
        return state.rates_count_at[0]

    def rate_delay(self, store: BreakerStore, state: LocalState) -> float:
        """Return the age of a generation from which its rates count as they are."""
        if not store.is_shared:  # no other process counts here
            return 0.0
        if self._rates_count_at(store, state) > time.monotonic():
            return math.inf
        all_is_told = state.rates_count_at is not None and state.rates_count_at[1]
        if all_is_told:
            return 0.0
        return SETTLING_INTERVALS * max(self._interval(), 2 * self._slowest_answer)

    def _told_within(self) -> float:
        """Return after how many seconds all processes have told what they tell each interval."""
        return self._interval() + max(SETTLE_SECONDS, 2 * self._slowest_answer)

    def _seconds_to_judge_run(
        self, store: BreakerStore, state: LocalState, now: float
    ) -> float | None:
        if (reached_at := _run_reached_at(state)) is None:
            state.run_counts_at = state.run_found = None
            return None
        if state.run_counts_at is not None:
            return max(0.0, state.run_counts_at - now)
        began_at = _run_began_at(state)
        if state.run_found is None or state.run_found[0] != began_at:
            state.run_found = began_at, state.store_time(now)
        due = min(reached_at, state.run_found[1]) + self.run_delay(store, state)
        return max(SETTLE_SECONDS, due - state.store_time(now))

    def run_delay(self, store: BreakerStore, state: LocalState) -> float:
        """Return the age at which a run counts, since other processes have reported by then."""
        interval, now = self._interval(), time.monotonic()
        if not interval or not store.is_shared:
            return 0.0
        if state.run_counts_at is not None:
            return 0.0 if now >= state.run_counts_at else math.inf
        delay = self._told_within()
        if state.run_found is not None and state.run_found[0] == _run_began_at(state):
            return 0.0 if state.store_time(now) - state.run_found[1] >= delay else delay
        return delay


def _run_reached_at(state: LocalState) -> float | None:
    """Return the store time at which the run, as it was read, reached the threshold."""
    snapshot, limit = state.snapshot, state.policy.failure_threshold
    if snapshot is None or limit is None or snapshot.state is not State.CLOSED:
        return None
    if would_have_opened(snapshot):  # under METRICS_ONLY: there is nothing more to judge
        return None
    return run_reached_at(snapshot, limit)


def _run_began_at(state: LocalState) -> float:
    """Return the store time of the run's first failure, as far as it is known."""
    return state.snapshot.run_times[0] if state.snapshot and state.snapshot.run_times else 0.0


def _has_reached_rate(state: LocalState) -> bool:
    """Return whether a rate, as it was read, has reached its limit."""
    snapshot = state.snapshot
    if snapshot is None or snapshot.state is not State.CLOSED:
        return False
    return closeness(snapshot.window, state.policy.rates) == 2
