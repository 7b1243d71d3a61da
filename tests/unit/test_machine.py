"""The rules of the machine, one by one; time is an argument."""

from dataclasses import replace

import pytest

from analytics_admin.breakers.machine import (
    Results,
    Snapshot,
    State,
    Verdict,
    apply_results,
    due_transition,
    first_generation,
    grant_permit,
    judge,
    new_record,
    next_generation,
    reset,
    retry_after,
    return_permit,
)
from analytics_admin.breakers.policy import BreakerPolicy

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


def closed(run: int = 0) -> Snapshot:
    return Snapshot(generation="g:1", consecutive_failures=run, failures=run)


def test_generations_of_new_records_never_repeat():
    assert len({first_generation() for _ in range(1000)}) == 1000


def test_every_next_generation_differs_from_all_before():
    seen = [first_generation()]
    for _ in range(100):
        seen.append(next_generation(seen[-1]))
    assert len(set(seen)) == 101


def test_a_closed_breaker_passes_calls():
    assert judge(closed(), POLICY, 0.0) is Verdict.PASSES
    assert judge(closed(run=2), POLICY, 0.0) is Verdict.PASSES
    assert retry_after(closed(), POLICY, 0.0) == 0


@pytest.mark.parametrize(("run", "trips"), [(0, False), (2, False), (3, True), (9, True)])
def test_the_threshold_itself_trips(run, trips):
    due = due_transition(closed(run), POLICY)
    assert (due is not None) is trips


def test_a_trip_begins_a_new_generation_with_zero_counts():
    due = due_transition(closed(3), POLICY)
    assert due == Snapshot(generation="g:2", state=State.OPEN, wait=30.0, attempts=1)


@pytest.mark.parametrize(
    ("now", "verdict", "wait"),
    [
        (100.0, Verdict.REJECTED, 30.0),
        (129.9, Verdict.REJECTED, 0.1),
        (130.0, Verdict.PROBES, 0.0),
        (500.0, Verdict.PROBES, 0.0),
        (40.0, Verdict.REJECTED, 30.0),  # the store's clock stepped back by a minute
    ],
)
def test_an_open_breaker_rejects_until_its_wait_is_over_and_never_longer(now, verdict, wait):
    assert judge(OPEN, POLICY, now) is verdict
    assert retry_after(OPEN, POLICY, now) == pytest.approx(wait)


def test_the_first_permit_begins_half_open_and_keeps_the_attempts():
    assert grant_permit(OPEN, POLICY) == Snapshot(
        generation="g:5", state=State.HALF_OPEN, attempts=1, permits=1
    )


def test_half_open_grants_the_permitted_probes_and_no_more():
    assert judge(HALF_OPEN, POLICY, 130.0) is Verdict.PROBES
    full = grant_permit(HALF_OPEN, POLICY)
    assert (full.generation, full.permits) == ("g:5", 2)
    assert judge(full, POLICY, 139.9) is Verdict.REJECTED
    assert retry_after(full, POLICY, 139.0) == pytest.approx(1.0)


def test_probes_that_never_report_are_forgiven_in_a_new_round():
    full = replace(HALF_OPEN, permits=2)
    assert judge(full, POLICY, 140.0) is Verdict.PROBES
    round_two = grant_permit(full, POLICY)
    assert (round_two.generation, round_two.permits, round_two.attempts) == ("g:6", 1, 1)


def test_a_returned_permit_can_be_granted_again_and_never_goes_below_zero():
    assert return_permit(HALF_OPEN).permits == 0
    assert return_permit(return_permit(HALF_OPEN)).permits == 0


def test_half_open_closes_when_every_permitted_probe_succeeded():
    assert due_transition(replace(HALF_OPEN, successes=1), POLICY) is None
    due = due_transition(replace(HALF_OPEN, successes=2), POLICY)
    assert due == Snapshot(generation="g:6", state=State.CLOSED)


def test_a_failed_probe_opens_again_and_counts_the_attempt():
    due = due_transition(replace(HALF_OPEN, failures=1, successes=1), POLICY)
    assert due == Snapshot(generation="g:6", state=State.OPEN, wait=30.0, attempts=2)


def test_counts_never_move_an_open_breaker():
    assert due_transition(replace(OPEN, failures=99, successes=99), POLICY) is None


@pytest.mark.parametrize("snapshot", [closed(2), OPEN, HALF_OPEN])
def test_reset_closes_from_every_state_in_a_new_generation(snapshot):
    after = reset(snapshot)
    assert after == Snapshot(generation=next_generation(snapshot.generation))


def test_successes_before_a_failure_of_the_same_report_do_not_hide_it():
    counted = apply_results(
        closed(2), Results(failures=1, successes=5, newest_success_at=50.0), now=60.0
    )
    assert (counted.consecutive_failures, counted.last_failure_at) == (1, 60.0)


def test_a_success_older_than_the_last_failure_leaves_the_run_alone():
    failed = replace(closed(2), last_failure_at=60.0)
    counted = apply_results(failed, Results(successes=5, newest_success_at=60.0), now=61.0)
    assert counted.consecutive_failures == 2
    assert counted.last_failure_at == 60.0


def test_a_new_record_is_closed_and_counts_nothing():
    record = new_record()
    assert (record.state, record.failures, record.permits) == (State.CLOSED, 0, 0)
