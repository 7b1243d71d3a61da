"""One contract for both stores: whatever the primitives promise, each of them keeps."""

import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics_admin.breakers.machine import (
    Results,
    Snapshot,
    State,
    apply_results,
    grant_permit,
    new_record,
    next_generation,
    reset,
)
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.redis_store import RedisStore
from analytics_admin.breakers.store import BreakerStore, MemoryStore, Move

POLICY = BreakerPolicy(permitted_number_of_calls_in_half_open_state=3)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> BreakerStore:
    return MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=2)


def create(store: BreakerStore, name: str = "a", new: Snapshot | None = None) -> Snapshot:
    (outcome,) = store.compare_and_set([Move(name=name, expected=None, new=new or new_record())])
    assert outcome.snapshot is not None
    return outcome.snapshot


def load(store: BreakerStore, name: str = "a") -> Snapshot | None:
    return store.load_many([name]).snapshots[name]


def test_a_name_without_record_loads_as_none_and_is_not_registered(store):
    assert load(store) is None
    assert store.list_names() == []


def test_adding_to_a_missing_record_creates_nothing(store):
    reading = store.add("a", "any:1", Results(failures=1))
    assert reading.snapshots == {"a": None}
    assert store.list_names() == []


def test_a_created_record_is_registered_and_stamped_with_the_stores_time(store):
    before = store.load_many([]).now if isinstance(store, MemoryStore) else 0
    created = create(store)
    assert store.list_names() == ["a"]
    assert created.entered_at >= before > -1
    assert created == load(store)


def test_creating_what_exists_already_changes_nothing(store):
    created = create(store)
    (outcome,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    assert not outcome.won
    assert outcome.snapshot == created == load(store)


def test_results_of_another_generation_are_dropped(store):
    created = create(store)
    reading = store.add("a", next_generation(created.generation), Results(failures=9))
    assert reading.snapshots["a"] == created


def test_failures_and_successes_are_counted_and_the_answer_is_the_new_snapshot(store):
    created = create(store)
    store.add("a", created.generation, Results(failures=2))
    reading = store.add("a", created.generation, Results(failures=1, successes=4))
    snapshot = reading.snapshots["a"]
    assert snapshot == load(store)
    assert (snapshot.failures, snapshot.successes, snapshot.consecutive_failures) == (3, 4, 3)
    assert snapshot.last_failure_at == pytest.approx(reading.now, abs=1)


def test_a_success_later_than_the_last_failure_ends_the_run(store):
    created = create(store)
    failed_at = store.add("a", created.generation, Results(failures=2)).now
    later = Results(successes=1, newest_success_at=failed_at + 1)
    snapshot = store.add("a", created.generation, later).snapshots["a"]
    assert snapshot.consecutive_failures == 0


def test_a_stale_success_does_not_undo_the_run(store):
    created = create(store)
    failed_at = store.add("a", created.generation, Results(failures=2)).now
    earlier = Results(successes=50, newest_success_at=failed_at - 1)
    snapshot = store.add("a", created.generation, earlier).snapshots["a"]
    assert snapshot.consecutive_failures == 2


def test_a_move_to_a_new_generation_zeroes_the_counts(store):
    created = create(store)
    store.add("a", created.generation, Results(failures=2, successes=1))
    (outcome,) = store.compare_and_set([Move(name="a", expected=created, new=reset(created))])
    assert outcome.won
    assert outcome.snapshot.generation == next_generation(created.generation)
    assert (outcome.snapshot.failures, outcome.snapshot.successes) == (0, 0)


def test_counts_do_not_stop_a_move_but_generation_and_permits_do(store):
    created = create(store)
    store.add("a", created.generation, Results(failures=2))
    half_open = grant_permit(replace(created, state=State.OPEN), POLICY)
    assert store.compare_and_set([Move(name="a", expected=created, new=half_open)])[0].won
    second = grant_permit(half_open, POLICY)
    assert store.compare_and_set([Move(name="a", expected=half_open, new=second)])[0].won
    assert not store.compare_and_set([Move(name="a", expected=half_open, new=second)])[0].won


def test_granting_a_permit_keeps_the_counts_of_the_round(store):
    created = create(store, new=replace(new_record(), state=State.HALF_OPEN, permits=1))
    store.add("a", created.generation, Results(successes=1, newest_success_at=1.0))
    more = grant_permit(created, POLICY)
    (outcome,) = store.compare_and_set([Move(name="a", expected=created, new=more)])
    assert (outcome.snapshot.permits, outcome.snapshot.successes) == (2, 1)
    assert outcome.snapshot.entered_at == created.entered_at


def test_every_field_survives_the_store(store):
    new = Snapshot(generation="ab:7", state=State.OPEN, wait=12.5, attempts=3, permits=2)
    created = create(store, new=new)
    assert replace(created, entered_at=0.0) == new
    assert load(store) == created


def test_many_breakers_are_read_and_moved_in_one_call(store):
    names = [f"b{number:04}" for number in range(1200)]
    store.compare_and_set([Move(name=name, expected=None, new=new_record()) for name in names])
    assert store.list_names() == names
    snapshots = store.load_many(names).snapshots
    moves = [Move(name=n, expected=s, new=reset(s)) for n, s in snapshots.items() if s]
    assert all(outcome.won for outcome in store.compare_and_set(moves))


def test_one_of_many_racing_moves_wins(store):
    created = create(store)
    barrier, wins = threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        (outcome,) = store.compare_and_set([Move(name="a", expected=created, new=reset(created))])
        wins.append(outcome.won)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 7 + [True]


def test_a_store_that_forgot_its_scripts_is_told_them_again():
    store = RedisStore("breakers", timeout=2)
    create(store)
    store._client.script_flush()
    assert load(store) is not None


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(0, 3), st.integers(-5, 5)),
        st.tuples(st.sampled_from(["reset", "permit", "create", "stale add", "stale move"])),
    ),
    max_size=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OPERATIONS)
def test_any_sequence_of_primitives_leaves_both_stores_alike(operations):
    memory, redis = MemoryStore(), RedisStore("breakers", timeout=2)
    redis._client.flushdb()
    histories = [_play(store, operations) for store in (memory, redis)]
    assert histories[0] == histories[1]


def _play(store: BreakerStore, operations: list[tuple]) -> list[object]:
    """Run the operations and note everything but the stores' own clocks."""
    first, seen = replace(new_record(), generation="fixed:1"), []
    for kind, *arguments in operations:
        current = load(store)
        base = current or first
        if kind in ("add", "stale add"):
            failures, successes, newest = arguments or (1, 1, 0)
            generation = base.generation if kind == "add" else "stale:1"
            # Far from the clocks, so that both stores judge the order alike.
            results = Results(
                failures=failures, successes=successes, newest_success_at=newest * 1e10
            )
            store.add("a", generation, results)
        else:
            new = grant_permit(base, POLICY) if kind == "permit" else reset(base)
            expected = None if kind == "create" else base
            if kind == "stale move":
                expected = replace(base, generation="stale:1")
            new = first if kind == "create" else new
            seen.append(store.compare_and_set([Move(name="a", expected=expected, new=new)])[0].won)
        after = load(store)
        seen.append(after and replace(after, entered_at=0.0, last_failure_at=0.0))
    return seen


def test_apply_results_is_what_the_script_does():
    store, created = RedisStore("breakers", timeout=2), None
    created = create(store)
    results = Results(failures=2, successes=3, newest_success_at=5.0)
    reading = store.add("a", created.generation, results)
    expected = apply_results(created, results, reading.now)
    assert reading.snapshots["a"] == replace(
        expected, last_failure_at=reading.snapshots["a"].last_failure_at
    )
