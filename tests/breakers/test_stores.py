"""One contract for both stores: whatever the primitives promise, each of them keeps."""

import threading
from dataclasses import replace
from unittest.mock import ANY, patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics_admin.breakers import state_machine
from analytics_admin.breakers.policy import BreakerPolicy, Window
from analytics_admin.breakers.state import Counts, Results, Snapshot, State
from analytics_admin.breakers.state_machine import grant_permit, new_record, next_generation, reset
from analytics_admin.breakers.stores.base import BreakerStore, Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import names_in
from tests.support.stored_breakers import raw_client

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


def add(store, name, generation, results, window=None):
    report = Report(name=name, generation=generation, results=results, window=window)
    return store.add([report])


def many(number: int) -> tuple[tuple[int, int], ...]:
    """So many successes, in a second long gone."""
    return ((1, number),) if number else ()


def test_a_name_without_record_loads_as_none_and_is_not_registered(store):
    assert load(store) is None
    assert names_in(store) == []


def test_adding_to_a_missing_record_creates_nothing(store):
    reading = add(store, "a", "any:1", Results(failures=1))
    assert reading.snapshots == {"a": None}
    assert names_in(store) == []


def test_a_created_record_is_registered_and_stamped_with_the_stores_time(store):
    before = store.load_many([]).now if isinstance(store, MemoryStore) else 0
    created = create(store)
    assert names_in(store) == ["a"]
    assert created.entered_at >= before > -1
    assert created == load(store)


def test_creating_what_exists_already_changes_nothing(store):
    created = create(store)
    (outcome,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    assert not outcome.won
    assert outcome.snapshot == created == load(store)


def test_results_of_another_generation_are_dropped(store):
    created = create(store)
    reading = add(store, "a", next_generation(created.generation), Results(failures=9))
    assert reading.snapshots["a"] == created


def test_failures_and_successes_are_counted_and_the_answer_is_the_new_snapshot(store):
    created = create(store)
    add(store, "a", created.generation, Results(failures=2))
    reading = add(store, "a", created.generation, Results(failures=1, successes=many(4)))
    snapshot = reading.snapshots["a"]
    assert snapshot == load(store)
    assert (snapshot.counts, snapshot.consecutive_failures) == (Counts(calls=7, failures=3), 3)
    assert snapshot.last_failure_at == pytest.approx(reading.now, abs=1)


def test_a_success_later_than_the_last_failure_ends_the_run(store):
    created = create(store)
    failed_at = add(store, "a", created.generation, Results(failures=2)).now
    later = Results(successes=many(1), newest_success_at=failed_at + 1)
    snapshot = add(store, "a", created.generation, later).snapshots["a"]
    assert snapshot.consecutive_failures == 0


def test_a_stale_success_does_not_undo_the_run(store):
    created = create(store)
    failed_at = add(store, "a", created.generation, Results(failures=2)).now
    earlier = Results(successes=many(50), newest_success_at=failed_at - 1)
    snapshot = add(store, "a", created.generation, earlier).snapshots["a"]
    assert snapshot.consecutive_failures == 2


def test_a_move_to_a_new_generation_zeroes_the_counts(store):
    created = create(store)
    add(store, "a", created.generation, Results(failures=2, successes=many(1)))
    closed = reset(created)
    (outcome,) = store.compare_and_set([Move(name="a", expected=created, new=closed)])
    assert outcome.won
    assert outcome.snapshot.generation == closed.generation != created.generation
    assert outcome.snapshot.counts == Counts()


def test_counts_do_not_stop_a_move_but_generation_and_permits_do(store):
    created = create(store)
    add(store, "a", created.generation, Results(failures=2))
    half_open = grant_permit(replace(created, state=State.OPEN))
    assert store.compare_and_set([Move(name="a", expected=created, new=half_open)])[0].won
    second = grant_permit(half_open)
    assert store.compare_and_set([Move(name="a", expected=half_open, new=second)])[0].won
    assert not store.compare_and_set([Move(name="a", expected=half_open, new=second)])[0].won


def test_each_change_that_processes_have_to_hear_of_has_a_number_of_its_own(store):
    created = create(store)
    begun = store.load_many(["a"]).sequence
    add(store, "a", created.generation, Results(failures=2))
    probing = replace(reset(created), state=State.HALF_OPEN, permits=1)
    (moved,) = store.compare_and_set([Move(name="a", expected=created, new=probing)])
    assert moved.sequence == begun + 1
    (lost,) = store.compare_and_set([Move(name="a", expected=created, new=probing)])
    granted = grant_permit(moved.snapshot)
    (permit,) = store.compare_and_set([Move(name="a", expected=moved.snapshot, new=granted)])
    assert (lost.sequence, permit.won, permit.sequence) == (begun + 1, True, begun + 1)
    assert not store.forget("a", generation=created.generation)
    assert store.forget("a", generation=granted.generation)
    assert add(store, "a", "", Results()).sequence == begun + 2


@pytest.mark.parametrize("damage", ["x" * 5000, "12.5", "-3", str(2**70)])
def test_the_number_goes_on_from_the_clock_where_it_was_lost_or_damaged(damage):
    store, client = RedisStore("breakers", timeout=2), raw_client()
    created = create(store)
    before = store.load_many(["a"]).sequence
    client.set(store._sequence, damage)
    assert store.load_many(["a"]).sequence == 0
    (moved,) = store.compare_and_set([Move(name="a", expected=created, new=reset(created))])
    client.flushdb()
    create(store)
    assert before < moved.sequence < store.load_many(["a"]).sequence


def test_granting_a_permit_keeps_the_counts_of_the_round(store):
    created = create(store, new=replace(new_record(), state=State.HALF_OPEN, permits=1))
    add(store, "a", created.generation, Results(successes=many(1), newest_success_at=1.0))
    more = grant_permit(created)
    (outcome,) = store.compare_and_set([Move(name="a", expected=created, new=more)])
    assert (outcome.snapshot.permits, outcome.snapshot.counts.calls) == (2, 1)
    assert outcome.snapshot.entered_at == created.entered_at


def test_every_field_survives_the_store(store):
    new = Snapshot(generation="ab:7", state=State.OPEN, wait=12.5, attempts=3, permits=2)
    created = create(store, new=new)
    assert replace(created, entered_at=0.0) == new
    assert load(store) == created


def test_many_breakers_are_read_and_moved_in_one_call(store):
    names = [f"b{number:04}" for number in range(1200)]
    store.compare_and_set([Move(name=name, expected=None, new=new_record()) for name in names])
    assert names_in(store) == names
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


def test_a_store_without_its_scripts_gets_them_again():
    store = RedisStore("breakers", timeout=2)
    create(store)
    store._client.script_flush()
    assert load(store) is not None


def test_transitions_are_kept_newest_first_and_twenty_at_most(store):
    current = create(store)
    for number in range(25):
        move = Move(
            name="a", expected=current, new=reset(current), cause="why", attempt=f"id{number}"
        )
        current = store.compare_and_set([move])[0].snapshot
    kept = store.transitions("a")
    assert [record.attempt for record in kept] == [f"id{n}" for n in range(24, 4, -1)]
    assert (kept[0].from_state, kept[0].to_state, kept[0].cause) == ("closed", "closed", "why")


def test_a_transition_remembers_what_had_been_counted(store):
    created = create(store)
    counted = Results(failures=2, slow_failures=1, successes=many(4))
    add(store, "a", created.generation, counted)
    opened = replace(reset(created), state=State.OPEN)
    store.compare_and_set([Move(name="a", expected=created, new=opened, cause="x", attempt="y")])
    (record,) = store.transitions("a")
    assert (record.consecutive_failures, record.counts) == (3, Counts(calls=7, failures=3, slow=1))


def test_a_move_without_cause_or_of_a_new_record_is_no_transition(store):
    created = create(store)
    store.compare_and_set([Move(name="a", expected=created, new=reset(created))])
    assert store.transitions("a") == []


def test_a_count_window_holds_the_last_calls_in_their_order(store):
    created, window = create(store), Window(timed=False, size=10)

    def counts(**results):
        reading = add(store, "a", created.generation, Results(**results), window)
        return reading.snapshots["a"].window

    assert counts(failures=4) == Counts(calls=4, failures=4)
    assert counts(successes=many(5), slow_successes=1) == Counts(calls=10, failures=4, slow=1)
    assert counts(successes=many(3)) == Counts(calls=10, failures=1, slow=1)
    assert counts(slow_failures=2) == Counts(calls=10, failures=2, slow=3)
    assert counts(successes=many(99)) == Counts(calls=10)
    assert counts() == Counts(calls=10)


def test_a_time_window_counts_each_success_in_its_own_second(store):
    created, window = create(store), Window(timed=True, size=60)
    now = int(add(store, "a", created.generation, Results()).now)
    results = Results(successes=((now - 61, 1), (now - 30, 2), (now, 4), (now + 9, 8)), failures=1)
    reading = add(store, "a", created.generation, results, window)
    assert reading.snapshots["a"].window == Counts(calls=7, failures=1)


@pytest.mark.parametrize("timed", [True, False])
def test_a_new_generation_begins_with_an_empty_window(store, timed):
    created, window = create(store), Window(timed=timed, size=60)
    add(store, "a", created.generation, Results(failures=3), window)
    moved = store.compare_and_set([Move(name="a", expected=created, new=reset(created))])[0]
    reading = add(store, "a", moved.snapshot.generation, Results(failures=1), window)
    assert reading.snapshots["a"].window == Counts(calls=1, failures=1)


def test_two_policies_do_not_mix_their_windows(store):
    created = create(store)
    small, large = Window(timed=False, size=5), Window(timed=False, size=50)
    add(store, "a", created.generation, Results(failures=3), small)
    reading = add(store, "a", created.generation, Results(failures=1), large)
    assert reading.snapshots["a"].window == Counts(calls=1, failures=1)
    assert reading.snapshots["a"].counts == Counts(calls=4, failures=4)


def test_several_breakers_are_reported_and_read_in_one_call(store):
    generations = {name: create(store, name).generation for name in "abc"}
    reports = [
        Report(name=name, generation=generation, results=Results(failures=number))
        for number, (name, generation) in enumerate(generations.items())
    ]
    snapshots = store.add([*reports, Report(name="unknown")]).snapshots
    assert [snapshots[name].counts.failures for name in "abc"] == [0, 1, 2]
    assert snapshots["unknown"] is None


WINDOWS = st.sampled_from(
    [
        None,
        Window(timed=True, size=5),
        Window(timed=True, size=130),
        Window(timed=False, size=7),
        Window(timed=False, size=130),
    ]
)
COUNTS = st.integers(0, 4)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            WINDOWS,
            st.lists(st.tuples(st.integers(-140, 2), st.integers(1, 99)), max_size=3),
            COUNTS,
            COUNTS,
            COUNTS,
            st.integers(-5, 5),
        ),
        st.tuples(
            st.sampled_from(["reset", "permit", "create", "stale add", "stale move"]), WINDOWS
        ),
    ),
    max_size=15,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OPERATIONS)
def test_any_sequence_of_primitives_leaves_both_stores_alike(operations):
    clock = [0.0]
    redis, memory = RedisStore("breakers", timeout=2), MemoryStore(lambda: clock[0])
    redis._client.flushdb()
    with patch.object(state_machine, "draw_suffix", lambda: "r"):
        for operation in operations:
            # Redis first: its time is then the memory store's.
            answer = _do(redis, operation)
            clock[0] = answer.now
            assert _do(memory, operation) == replace(answer, sequence=ANY)
    assert names_in(memory) == names_in(redis)
    assert memory.transitions("a") == redis.transitions("a")


def _do(store: BreakerStore, operation: tuple) -> object:
    kind, window, *arguments = operation
    first = Snapshot(generation="fixed:1")
    current = load(store)
    base = current or first
    if kind in ("add", "stale add"):
        batches, slow, failures, slow_failures, newest = arguments or ([], 1, 1, 1, 0)
        second = int(store.load_many(["a"]).now)
        results = Results(
            successes=tuple((second + at, number) for at, number in batches),
            slow_successes=slow,
            failures=failures,
            slow_failures=slow_failures,
            newest_success_at=newest * 1e10,  # far from the clock: the order is beyond doubt
        )
        generation = base.generation if kind == "add" else "stale:1"
        return store.add([Report(name="a", window=window, generation=generation, results=results)])
    new = {"permit": grant_permit(base), "create": first}.get(kind, reset(base))
    expected = None if kind == "create" else current
    if kind == "stale move":
        expected = replace(base, generation="stale:1")
    move = Move(name="a", expected=expected, new=new, cause=kind.replace(" ", "_"), attempt="id")
    return store.compare_and_set([move])[0]
