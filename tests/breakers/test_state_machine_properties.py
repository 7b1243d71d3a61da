"""Whatever several processes do, in whatever order and time: the state machine's rules hold."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.permit import Permit
from analytics_admin.breakers.state import Counts, Snapshot, State, StateChange
from analytics_admin.breakers.state_machine import allow_probe, reset, run_reached_at
from analytics_admin.breakers.stores.base import Move
from tests.support.simulation import SimulatedSite, simulated_site

pytestmark = pytest.mark.lengthy
NAME = "any-order"
SETTLE = 0.3 + 1e-3
"""SYNC_INTERVAL and the time that a report takes on its way: by then a run is judged."""
PROCESSES = 3
OPEN_WAIT = 10.0
HALF_OPEN_WAIT = 7.0

# From, to and cause of every transition that the policies below allow.
LAWFUL = {
    ("closed", "open", "consecutive_failures"),
    ("open", "half_open", "wait_over"),
    ("open", "half_open", "probe_allowed"),
    ("half_open", "open", "probe_failed"),
    ("half_open", "closed", "probes_succeeded"),
}


@dataclass(frozen=True, eq=False)
class Call:
    """A call under way, as its test sees it: when it began, and in which generation."""

    permit: Permit
    began: Snapshot
    is_probe: bool


class AnyOrder(RuleBasedStateMachine):
    """Processes with their own local states, on one store and a clock that only the test moves."""

    calls = Bundle("calls")

    @initialize(threshold=st.integers(1, 3), permits=st.integers(1, 3))
    def begin(self, threshold: int, permits: int) -> None:
        self._time = simulated_site()
        self.site: SimulatedSite = self._time.__enter__()
        self.threshold, self.permits = threshold, permits
        self.processes: list[CircuitBreaker] = [
            self.site.process(
                NAME,
                failure_threshold=threshold,
                permitted_number_of_calls_in_half_open_state=permits,
                wait_duration_in_open_state=OPEN_WAIT,
                max_wait_duration_in_half_open_state=HALF_OPEN_WAIT,
            )
            for _ in range(PROCESSES)
        ]
        assert self.processes[0].state == "closed"
        self.last = self.record()
        self.seen_generations = [self.last.generation]
        self.probes_out: Counter[str] = Counter()  # by half-open round
        self.ahead_of_time: set[str] = set()  # rounds that an operator began

    def teardown(self) -> None:
        if hasattr(self, "_time"):
            self._time.__exit__(None, None, None)

    def record(self) -> Snapshot:
        snapshot = self.site.store.load_many([NAME]).snapshots[NAME]
        assert snapshot is not None
        return snapshot

    @rule(seconds=st.sampled_from([0.001, 0.1, 0.25, 1.0, 5.0, HALF_OPEN_WAIT, OPEN_WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.site.clock.now += seconds

    @precondition(lambda self: self.record().state is not State.CLOSED)
    @rule()
    def the_wait_ends(self) -> None:
        self.site.clock.now += OPEN_WAIT

    @precondition(lambda self: self.record().state is State.CLOSED)
    @rule(number=st.integers(0, PROCESSES - 1))
    def the_backend_goes_down(self, number: int) -> None:
        self.site.clock.now += 1  # so that no process uses an old state
        failures = 0
        while self.record().state is State.CLOSED:
            self.processes[number].acquire().fail()
            failures += 1
            # Others' failures count, but a success may lie between.
            assert failures <= self.threshold

    @rule(target=calls, number=st.integers(0, PROCESSES - 1))
    def call_begins(self, number: int) -> object:
        before, process = self.record(), self.processes[number]
        try:
            permit = process.acquire()
        except CircuitOpenError:
            return multiple()
        after, began = self.record(), process.local_state.snapshot
        assert began is not None
        is_probe = began.state is State.HALF_OPEN
        if is_probe:
            same_round = after.generation == before.generation
            assert after.permits == (before.permits + 1 if same_round else 1)
            assert after.generation == began.generation
            self.probes_out[after.generation] += 1
        else:
            assert began.state is State.CLOSED
            assert after.generation == before.generation
        return Call(permit=permit, began=began, is_probe=is_probe)

    @rule(call=consumes(calls))
    def call_succeeds(self, call: Call) -> None:
        self.ends(call, failed=False)

    @rule(call=consumes(calls))
    def call_fails(self, call: Call) -> None:
        self.ends(call, failed=True)

    @rule(call=consumes(calls))
    def call_counts_as_nothing(self, call: Call) -> None:
        before = self.record()
        call.permit.release()
        after = self.record()
        if self.round_failed(before, after):
            return
        assert after.counts.failures == before.counts.failures
        assert after.state is before.state
        if call.is_probe and call.began.generation == before.generation:
            self.probes_out[before.generation] -= 1
            assert after.permits == before.permits - 1

    def ends(self, call: Call, *, failed: bool) -> None:
        before = self.record()
        if failed:
            call.permit.fail()
        else:
            call.permit.succeed()
        after = self.record()
        call.permit.fail()
        assert self.record() == after, "a permit reported twice"
        if call.began.generation != before.generation:
            if self.round_failed(before, after):
                return
            assert (after.generation, after.state) == (before.generation, before.state)
            assert after.counts.failures == before.counts.failures
            return
        if before.state is State.CLOSED:
            self.closed_call_ended(before, after, failed=failed)
        else:
            self.probe_ended(before, after, failed=failed)

    def closed_call_ended(self, before: Snapshot, after: Snapshot, *, failed: bool) -> None:
        if after.generation == before.generation:
            assert after.counts.failures == before.counts.failures + failed
            reached_at = run_reached_at(after, self.threshold)
            assert reached_at is None or self.site.clock.now - reached_at < SETTLE
        else:
            assert failed
            assert after.state is State.OPEN

    def probe_ended(self, before: Snapshot, after: Snapshot, *, failed: bool) -> None:
        assert before.state is State.HALF_OPEN
        if failed:
            assert (after.state, after.attempts) == (State.OPEN, before.attempts + 1)
        elif before.counts.calls + 1 == self.permits:
            assert (after.state, after.attempts) == (State.CLOSED, 0)
        elif not self.round_failed(before, after):
            assert after.generation == before.generation
            assert after.counts == Counts(calls=before.counts.calls + 1)

    def round_failed(self, before: Snapshot, after: Snapshot) -> bool:
        """Return whether it was found that not all probes of a round had reported in time."""
        if before.state is not State.HALF_OPEN or before.permits < self.permits:
            return False
        if after.state is State.HALF_OPEN or self.last.generation == after.generation:
            return False
        assert self.site.clock.now - before.entered_at >= HALF_OPEN_WAIT
        assert (after.state, after.attempts) == (State.OPEN, before.attempts + 1)
        return True

    @rule()
    def operator_resets(self) -> None:
        self.operator_moves(reset(self.record()))

    @rule()
    def operator_allows_a_probe(self) -> None:
        current = self.record()
        allowed = allow_probe(current)
        if current.state is not State.OPEN:
            assert allowed is None
            return
        assert allowed is not None
        self.operator_moves(allowed, cause="probe_allowed")
        after = self.record()
        assert (after.state, after.permits) == (State.HALF_OPEN, 0)
        assert after.attempts == current.attempts
        self.ahead_of_time.add(after.generation)

    @precondition(lambda self: self.record().generation in self.ahead_of_time)
    @rule(number=st.integers(0, PROCESSES - 1))
    def the_next_call_probes(self, number: int) -> None:
        self.site.clock.now += 1  # so that no process uses an old state
        before, free = self.record(), self.permits - self.record().permits
        if free and before.generation in self.ahead_of_time:  # the round is not over
            permit = self.processes[number].acquire()
            assert self.record().permits == before.permits + 1
            permit.release()

    def operator_moves(self, new: Snapshot, *, cause: str = "") -> None:
        attempt = f"operator {len(self.site.events)} {new.generation}"
        current = self.record()
        (outcome,) = self.site.store.compare_and_set(
            [Move(name=NAME, expected=current, new=new, cause=cause, attempt=attempt)]
        )
        assert outcome.won
        if cause:
            self.site.events.append(
                StateChange(name=NAME, from_state=current.state, to_state=new.state, cause=cause)
            )

    @rule(number=st.integers(0, PROCESSES - 1))
    def process_looks(self, number: int) -> None:
        before, process = self.record(), self.processes[number]
        is_old = (
            self.site.clock.monotonic() - process.local_state.read_at >= process.engine.interval
        )
        seen, after = process.state, self.record()
        assert seen == after.state.value or not is_old
        if self.round_failed(before, after):
            return
        assert (after.generation, after.permits) == (before.generation, before.permits)

    @invariant()
    @precondition(lambda self: hasattr(self, "site"))
    def generations_never_return(self) -> None:
        now = self.record()
        if now.generation != self.last.generation:
            assert now.generation not in self.seen_generations
            self.seen_generations.append(now.generation)
            assert now.consecutive_failures == now.counts.calls == 0
            if now.state is State.HALF_OPEN and now.generation not in self.ahead_of_time:
                if self.last.state is State.HALF_OPEN:  # nobody held a permit: it began anew
                    assert self.last.permits == 0
                    assert now.entered_at >= self.last.entered_at + HALF_OPEN_WAIT / 2
                else:
                    assert self.last.state is State.OPEN
                    assert now.entered_at >= self.last.entered_at + OPEN_WAIT
                assert now.attempts == self.last.attempts
        self.last = now

    @invariant()
    @precondition(lambda self: hasattr(self, "site"))
    def probes_never_exceed_the_permits(self) -> None:
        assert self.record().permits <= self.permits
        assert max(self.probes_out.values(), default=0) <= self.permits

    @invariant()
    @precondition(lambda self: hasattr(self, "site"))
    def transitions_are_lawful_and_each_is_announced_once(self) -> None:
        kept = self.site.store.transitions(NAME)
        moves = [(move.from_state, move.to_state, move.cause) for move in kept]
        assert set(moves) <= LAWFUL
        assert len({move.attempt for move in kept}) == len(kept)
        events = [(change.from_state, change.to_state, change.cause) for change in self.site.events]
        assert events[::-1][: len(moves)] == moves


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
