"""The rules of the state machine, one by one; time is an argument."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analytics_admin.breakers import state_machine
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.state import Control, Counts, Hold, Results, Snapshot, State
from analytics_admin.breakers.state_machine import (
    Admission,
    admission,
    allow_probe,
    count_run,
    due_transition,
    first_generation,
    grant_permit,
    new_record,
    next_generation,
    open_wait,
    reset,
    retry_after,
    return_permit,
    run_reached_at,
)

POLICY = BreakerPolicy(
    failure_threshold=3,
    wait_duration_in_open_state=30,
    permitted_number_of_calls_in_half_open_state=2,
    max_wait_duration_in_half_open_state=10,
)
OPEN = Snapshot(generation="g:4", state=State.OPEN, entered_at=100.0, wait=30.0, attempts=1)
HALF_OPEN = Snapshot(
    generation="g:5", state=State.HALF_OPEN, entered_at=130.0, attempts=1, permits=1
)


@pytest.fixture(autouse=True)
def suffix(monkeypatch):
    """Have what is random in a generation be known."""
    monkeypatch.setattr(state_machine, "draw_suffix", lambda: "r")


def closed(run: int = 0) -> Snapshot:
    return Snapshot(
        generation="g:1", consecutive_failures=run, counts=Counts(calls=run, failures=run)
    )


def due(snapshot: Snapshot, policy: BreakerPolicy = POLICY, now: float = 1000.0):
    """Return the snapshot that is due, or None."""
    transition = due_transition(snapshot, policy, now, rate_delay=1.0)
    return transition and transition.new


def test_generations_of_new_records_never_repeat():
    assert len({first_generation() for _ in range(1000)}) == 1000


def test_two_moves_from_one_generation_begin_two(monkeypatch):
    monkeypatch.undo()
    assert len({next_generation("g:4") for _ in range(100)}) == 100
    assert all(next_generation("g:4").startswith("g:5:") for _ in range(100))


def test_every_next_generation_differs_from_all_before():
    seen = [first_generation()]
    for _ in range(100):
        seen.append(next_generation(seen[-1]))
    assert len(set(seen)) == 101


def test_a_closed_breaker_passes_calls():
    assert admission(closed(), POLICY, 0.0) is Admission.ALLOW
    assert admission(closed(run=2), POLICY, 0.0) is Admission.ALLOW
    assert retry_after(closed(), POLICY, 0.0) == 0


@pytest.mark.parametrize(("run", "trips"), [(0, False), (2, False), (3, True), (9, True)])
def test_the_threshold_itself_trips(run, trips):
    assert (due(closed(run)) is not None) is trips


def test_a_trip_begins_a_new_generation_with_zero_counts():
    assert due(closed(3)) == Snapshot(generation="g:2:r", state=State.OPEN, wait=30.0, attempts=1)


@pytest.mark.parametrize(
    ("now", "verdict", "wait"),
    [
        (100.0, Admission.REJECT, 30.0),
        (129.9, Admission.REJECT, 0.1),
        (130.0, Admission.PROBE, 0.0),
        (500.0, Admission.PROBE, 0.0),
        (40.0, Admission.REJECT, 30.0),  # the store's clock stepped back by a minute
    ],
)
def test_an_open_breaker_rejects_until_its_wait_is_over_and_never_longer(now, verdict, wait):
    assert admission(OPEN, POLICY, now) is verdict
    assert retry_after(OPEN, POLICY, now) == pytest.approx(wait)


def test_the_first_permit_begins_half_open_and_keeps_the_attempts():
    assert grant_permit(OPEN) == Snapshot(
        generation="g:5:r", state=State.HALF_OPEN, attempts=1, permits=1
    )


def test_half_open_grants_the_permitted_probes_and_no_more():
    assert admission(HALF_OPEN, POLICY, 130.0) is Admission.PROBE
    full = grant_permit(HALF_OPEN)
    assert (full.generation, full.permits) == ("g:5", 2)
    assert admission(full, POLICY, 139.9) is Admission.REJECT
    assert retry_after(full, POLICY, 139.0) == pytest.approx(1.0)


def test_a_round_whose_probes_never_report_is_a_failed_probe_and_the_wait_grows():
    full = replace(HALF_OPEN, permits=2, counts=Counts(calls=1))
    policy = replace(POLICY, open_state_backoff_multiplier=2)
    assert due(full, policy, now=139.9) is None
    assert admission(full, policy, 139.9) is Admission.REJECT
    assert due(full, policy, now=140.0) == Snapshot(
        generation="g:6:r", state=State.OPEN, wait=60.0, attempts=2
    )
    assert admission(full, policy, 140.0) is Admission.REJECT
    assert due(replace(full, permits=1), policy, now=999.0) is None  # another call may probe


def test_a_returned_permit_can_be_granted_again_and_never_goes_below_zero():
    assert return_permit(HALF_OPEN).permits == 0
    assert return_permit(return_permit(HALF_OPEN)).permits == 0


def test_half_open_closes_when_every_permitted_probe_succeeded():
    assert due(replace(HALF_OPEN, counts=Counts(calls=1))) is None
    assert due(replace(HALF_OPEN, counts=Counts(calls=2))) == Snapshot(
        generation="g:6:r", state=State.CLOSED
    )


def test_a_failed_probe_opens_again_and_counts_the_attempt():
    assert due(replace(HALF_OPEN, counts=Counts(calls=2, failures=1))) == Snapshot(
        generation="g:6:r", state=State.OPEN, wait=30.0, attempts=2
    )


def test_counts_never_move_an_open_breaker():
    assert due(replace(OPEN, counts=Counts(calls=99, failures=99), consecutive_failures=99)) is None


@pytest.mark.parametrize("snapshot", [closed(2), OPEN, HALF_OPEN])
def test_reset_closes_from_every_state_in_a_new_generation(snapshot):
    after = reset(snapshot)
    assert after == Snapshot(generation=next_generation(snapshot.generation))


def run_of(*times: float, **fields: Any) -> Snapshot:
    """Return a closed breaker with failures at these times."""
    last = {"last_failure_at": times[-1]} if times else {}
    return replace(closed(len(times)), run_times=times, **last, **fields)


def after(snapshot: Snapshot, *, failed_at: Sequence[float] = (), success: float = 0.0) -> Snapshot:
    successes = ((int(success), 1),) if success else ()
    results = Results(
        failures=len(failed_at),
        failed_at=tuple(failed_at),
        successes=successes,
        newest_success_at=success,
    )
    return count_run(snapshot, results)


def test_a_success_takes_the_failures_before_it_out_of_the_run():
    assert after(run_of(50, 60), success=70).consecutive_failures == 0
    assert after(run_of(50, 60), success=55).consecutive_failures == 1
    assert after(run_of(50, 60), success=40).consecutive_failures == 2


def test_at_the_same_instant_the_success_came_first():
    assert after(run_of(50, 60), success=60).consecutive_failures == 1


def test_a_failure_reported_after_a_later_success_is_part_of_no_run():
    assert after(after(run_of(), success=70), failed_at=[60, 80]).consecutive_failures == 1


def test_failures_before_the_newest_success_of_their_own_report_count_for_no_run():
    results = Results(
        failures=3,
        ended_failures=2,
        failed_at=(1.0, 2.0, 4.0),
        successes=((3, 1),),
        newest_success_at=3.0,
    )
    assert count_run(run_of(0.5), results).consecutive_failures == 1


def test_of_a_long_run_only_the_first_and_last_times_are_kept_and_all_count():
    snapshot = after(run_of(), failed_at=range(1, 16))
    snapshot = after(snapshot, failed_at=range(16, 31))
    assert snapshot.consecutive_failures == 30
    assert snapshot.run_times == (*range(1, 11), *range(21, 31))
    assert after(snapshot, success=0.5).consecutive_failures == 30
    assert after(snapshot, success=5).consecutive_failures == 16  # those without a time are gone
    assert after(snapshot, success=25.5).consecutive_failures == 5


def test_a_run_that_goes_on_has_reached_its_length_when_it_first_did():
    """Else a busy fleet that fails all the time never comes to be judged."""
    snapshot = run_of(*range(1, 6))
    for at in range(6, 200):
        snapshot = after(snapshot, failed_at=[at])
        assert run_reached_at(snapshot, 5) == 5
        assert run_reached_at(snapshot, 10) == (10 if at >= 10 else None)


def test_a_run_counts_once_other_processes_have_had_the_time_to_report():
    policy = BreakerPolicy(failure_threshold=3)
    snapshot = run_of(10.0, 11.0, 12.0, 12.5)
    assert run_reached_at(snapshot, 3) == 12.0
    for now, is_due in [(12.2, False), (12.29, False), (12.3, True)]:
        due = due_transition(snapshot, policy, now, rate_delay=0, run_delay=0.3)
        assert (due is not None) is is_due


RATES = BreakerPolicy(
    failure_threshold=None,
    failure_rate_threshold=50,
    slow_call_rate_threshold=80,
    sliding_window_size=20,
    minimum_number_of_calls=10,
    permitted_number_of_calls_in_half_open_state=4,
)


@pytest.mark.parametrize(
    ("window", "cause"),
    [
        (Counts(calls=9, failures=9, slow=9), None),  # under the minimum nothing is known
        (Counts(calls=10, failures=4), None),
        (Counts(calls=10, failures=5), "failure_rate"),  # the threshold itself trips
        (Counts(calls=10, slow=7), None),
        (Counts(calls=10, slow=8), "slow_call_rate"),
        (Counts(calls=10, failures=5, slow=8), "failure_rate"),
    ],
)
def test_rates_trip_at_their_threshold_once_they_are_known(window, cause):
    snapshot = Snapshot(generation="g:1", window=window, consecutive_failures=window.failures)
    transition = due_transition(snapshot, RATES, 1000.0, rate_delay=1.0)
    assert (transition and transition.cause) == cause


def young(
    policy: BreakerPolicy,
    age: float,
    window: Counts,
    *,
    calls: int | None = None,
    rate_delay: float = 1.2,
) -> str | None:
    """Return the rule that opens a generation of this age; a success is 0.2 s late at most."""
    counts = replace(window, calls=calls) if calls else window
    snapshot = Snapshot(generation="g:1", entered_at=100.0, window=window, counts=counts)
    transition = due_transition(snapshot, policy, 100.0 + age, rate_delay=rate_delay)
    return transition and transition.cause


def test_nothing_is_known_of_rates_while_every_success_may_be_late():
    assert young(RATES, 0.2, Counts(calls=20, failures=20), calls=10_000) is None


@pytest.mark.parametrize(
    ("age", "calls", "cause"),
    [
        (0.4, 19, None),  # half of the time is reported: 9.5 calls
        (0.4, 20, "failure_rate"),
        (0.8, 13, None),
        (0.8, 14, "failure_rate"),
        (1.1, 12, None),
        (1.2, 10, "failure_rate"),  # settled
    ],
)
def test_the_minimum_of_calls_must_be_reported_beyond_those_that_are_late(age, calls, cause):
    policy = replace(RATES, sliding_window_size=100)
    assert young(policy, age, Counts(calls=calls, failures=calls)) == cause


@pytest.mark.parametrize(
    ("age", "failures", "cause"),
    [
        (0.4, 20, None),  # of 20 more calls 20 are late: 20 failures of 60
        (0.4, 26, None),
        (0.4, 27, "failure_rate"),  # 13 more, 13 late: 27 of 53
        (0.8, 22, None),
        (0.8, 23, "failure_rate"),
        (1.2, 20, "failure_rate"),
    ],
)
def test_successes_that_may_be_late_count_as_if_they_were_reported(age, failures, cause):
    policy = replace(RATES, sliding_window_size=100)
    assert young(policy, age, Counts(calls=40, failures=failures)) == cause


def test_slow_calls_are_judged_with_the_late_successes_too():
    policy = replace(RATES, sliding_window_size=100)
    assert young(policy, 0.4, Counts(calls=40, slow=35)) is None
    assert young(policy, 0.4, Counts(calls=40, slow=36)) == "slow_call_rate"
    assert young(policy, 1.2, Counts(calls=40, slow=32)) == "slow_call_rate"


def test_a_count_window_is_judged_as_it_is_once_later_calls_than_those_fill_it():
    half = Counts(calls=20, failures=10)
    assert young(RATES, 0.4, half, calls=39) is None
    assert young(RATES, 0.4, half, calls=40) == "failure_rate"


def test_a_time_window_is_judged_as_it_is_once_it_began_later_than_those():
    policy = replace(RATES, sliding_window_type="time_based", sliding_window_size=1)
    half = Counts(calls=100, failures=50)
    assert young(policy, 1.4, half, calls=300, rate_delay=2.4) == "failure_rate"
    assert young(policy, 1.3, half, calls=300, rate_delay=2.4) is None


def test_rates_are_judged_at_once_where_nothing_is_late():
    assert young(RATES, 0.0, Counts(calls=10, failures=5), rate_delay=0) == "failure_rate"
    assert young(RATES, 0.0, Counts(calls=9, failures=9), rate_delay=0) is None


def test_metrics_only_judges_a_young_generation_in_the_same_way():
    hold = Hold(control=Control.METRICS_ONLY, until=None)
    held = Snapshot(generation="g:1", entered_at=100.0, window=Counts(calls=20, failures=20))
    held = replace(held, hold=hold, counts=held.window)
    assert due_transition(held, RATES, 100.3, rate_delay=1.2) is None
    assert due_transition(held, RATES, 100.4, rate_delay=1.2).cause == "failure_rate"


@given(
    age=st.floats(0.01, 3.0),
    rate_delay=st.floats(0.1, 3.0),
    failures=st.integers(0, 10_000),
    successes=st.integers(0, 10_000),
    extra=st.floats(0, 1),
)
def test_no_late_success_makes_a_rate_trip_that_is_below_its_threshold(
    age, rate_delay, failures, successes, extra
):
    """Whatever the pace: before it has settled, no more is missing than the last sixth of that."""
    assume(failures + successes and age < rate_delay)
    reported = max(0.0, 1 - rate_delay / 6 / age)
    told = math.ceil(successes * (reported + extra * (1 - reported)))
    limit = 100 * failures / (failures + successes) * 1.0001
    assume(0 < limit <= 100)
    policy = BreakerPolicy(
        failure_rate_threshold=limit,
        sliding_window_type="time_based",
        sliding_window_size=60,
        minimum_number_of_calls=1,
    )
    window = Counts(calls=failures + told, failures=failures)
    assert young(policy, age, window, rate_delay=rate_delay) is None


def test_the_consecutive_rule_needs_no_settling():
    assert due(replace(closed(3), entered_at=100.0), now=100.0).state is State.OPEN


def test_a_window_smaller_than_the_minimum_is_known_when_it_is_full():
    policy = BreakerPolicy(
        failure_rate_threshold=100, sliding_window_size=5, minimum_number_of_calls=50
    )
    assert policy.calls_needed == 5


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        (Counts(calls=3, failures=3), None),
        (Counts(calls=4, failures=2), State.OPEN),
        (Counts(calls=4, failures=1), State.CLOSED),
        (Counts(calls=4, slow=4), State.OPEN),
    ],
)
def test_half_open_is_judged_by_the_rates_where_there_are_any(counts, state):
    after = due(replace(HALF_OPEN, counts=counts), RATES)
    assert (after and after.state) == state


def test_each_further_opening_waits_longer_up_to_the_maximum():
    policy = BreakerPolicy(
        wait_duration_in_open_state=10,
        open_state_backoff_multiplier=2,
        max_wait_duration_in_open_state=35,
    )
    assert [open_wait(policy, attempts, 0.5) for attempts in (1, 2, 3, 9999)] == [10, 20, 35, 35]


def test_a_back_off_without_maximum_stops_at_a_day():
    for multiplier in (10, 1e6, 1e300):
        policy = BreakerPolicy(open_state_backoff_multiplier=multiplier)
        assert open_wait(policy, 10_000, 0.5) == 86_400


def test_the_wait_is_spread_evenly_about_its_length():
    policy = BreakerPolicy(wait_duration_in_open_state=10, randomized_wait_factor=0.2)
    assert [open_wait(policy, 1, chance) for chance in (0.0, 0.5, 1.0)] == [8, 10, 12]


def test_a_new_record_is_closed_and_counts_nothing():
    record = new_record()
    assert (record.state, record.counts, record.permits) == (State.CLOSED, Counts(), 0)


def test_an_allowed_probe_passes_at_once_in_a_generation_of_its_own_and_the_opening_still_counts():
    allowed = allow_probe(OPEN)
    assert allowed is not None
    assert admission(OPEN, POLICY, now=101.0) is Admission.REJECT
    assert admission(allowed, POLICY, now=101.0) is Admission.PROBE
    assert (allowed.generation, allowed.attempts, allowed.counts) == ("g:5:r", 1, Counts())
    failed = replace(allowed, permits=1, counts=Counts(calls=1, failures=1))
    due = due_transition(failed, POLICY, now=102.0, rate_delay=0)
    assert due is not None
    assert (due.new.state, due.new.attempts) == (State.OPEN, 2)


@pytest.mark.parametrize("control", sorted(set(Control) - {Control.AUTOMATIC}))
@pytest.mark.parametrize("until", [None, 50.0])
def test_a_hold_even_one_that_is_over_leaves_no_probe_to_allow(control, until):
    assert allow_probe(replace(OPEN, hold=Hold(control=control, until=until))) is None


@pytest.mark.parametrize("snapshot", [closed(), HALF_OPEN, replace(OPEN, state=State.UNKNOWN)])
def test_a_probe_is_allowed_through_an_open_breaker_alone(snapshot):
    assert allow_probe(snapshot) is None
