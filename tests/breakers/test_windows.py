"""What a window holds: at most 60 buckets, whatever its size and the traffic, on both stores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.state import Counts, Results
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.breakers.windows import MAX_BUCKETS, WindowCounts
from tests.support.stored_breakers import key_of, raw_client

NOW = 1_000_000


def successes(at, number=1):
    return Results(successes=((at, number),))


def timed(size):
    return WindowCounts(Window(timed=True, size=size))


def counted(size):
    return WindowCounts(Window(timed=False, size=size))


@pytest.mark.parametrize("size", [1, 5, 60])
def test_a_time_window_of_up_to_a_minute_moves_by_the_second(size):
    window = timed(size)
    window.add(Results(failures=1), NOW)
    assert window.counts(NOW + size - 0.1) == Counts(calls=1, failures=1)
    assert window.counts(NOW + size) == Counts()


@pytest.mark.parametrize(("size", "width"), [(61, 2), (300, 5), (900, 15)])
def test_a_longer_one_moves_by_its_bucket(size, width):
    window = timed(size)
    for second in range(NOW, NOW + 3 * size):
        window.add(successes(second), second)
        held = window.counts(second).calls
        assert held == second - NOW + 1 or size - width < held <= size + width
    assert len(window._seconds) <= MAX_BUCKETS


def test_results_ahead_of_the_clock_are_dropped_and_do_not_come_back():
    window = timed(60)
    window.add(Results(failures=9), NOW + 30)
    window.add(successes(NOW), NOW)
    assert window.counts(NOW) == Counts(calls=1)
    assert window.counts(NOW + 30) == Counts(calls=1)


@pytest.mark.parametrize("size", [1, 59, 60])
def test_a_count_window_of_up_to_sixty_calls_is_exact(size):
    window, calls = counted(size), []
    for number in range(3 * size):
        failed = number % 7 == 3
        window.add(Results(failures=1) if failed else successes(NOW), NOW)
        calls.append(failed)
        kept = calls[-size:]
        assert window.counts(NOW) == Counts(calls=len(kept), failures=sum(kept))


@pytest.mark.parametrize("size", [61, 100, 1_000, 10_000])
def test_a_larger_one_holds_as_many_calls_and_nearly_their_failures(size):
    window, calls = counted(size), []
    for number in range(3 * size):
        failed = number % 7 == 3
        window.add(Results(failures=1) if failed else successes(NOW), NOW)
        calls.append(failed)
    assert window.counts(NOW).calls == size
    assert window.counts(NOW).failures == pytest.approx(sum(calls[-size:]), abs=size / 60)
    assert len(window._calls) <= MAX_BUCKETS + 2


@given(
    st.sampled_from([1, 7, 100, 10_000]),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 3))),
)
def test_its_sums_are_those_of_its_buckets_and_never_more_than_its_size(size, reports):
    window = counted(size)
    for calls, failures in reports:
        window.add(Results(successes=((NOW, calls),), failures=failures), NOW)
        assert window._sums == [sum(column) for column in zip(*window._calls, strict=True)] or (
            window._sums == [0, 0, 0] and not window._calls
        )
        assert window.counts(NOW).calls <= size
        assert 0 <= window.counts(NOW).failures <= window.counts(NOW).calls


@pytest.mark.parametrize("window", [Window(timed=True, size=900), Window(timed=False, size=10_000)])
def test_a_look_reads_as_much_of_a_large_window_as_of_a_small_one(window):
    store, client = RedisStore("breakers", timeout=2), raw_client()
    (made,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    now = int(made.now)
    for age in range(900, -1, -1):
        results = Results(successes=((now - age, 10),), failures=age % 2)
        report = Report(
            name="a", window=window, generation=made.snapshot.generation, results=results
        )
        store.add([report])
    fields = client.hgetall(key_of("a"))
    assert sum(len(value) for value in fields.values()) < 1_000
    client.config_resetstat()
    store.add([Report(name="a", window=window)])
    done = client.info("commandstats")
    reads = {name for name in done if name.startswith("cmdstat_h")}
    assert reads == {"cmdstat_hmget", "cmdstat_hget"}  # of the record, and of the processes
    assert done["cmdstat_hmget"]["calls"] == 1


def test_a_second_may_hold_any_number_of_calls():
    window = Window(timed=True, size=60)
    store, expected = RedisStore("breakers", timeout=2), WindowCounts(window)
    (made,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    generation, now = made.snapshot.generation, int(made.now)
    for age, number in enumerate([200, 300, 70_000, 2 * 10**7, 5 * 10**9, 3 * 10**12, 1], 3):
        results = successes(now - age, number)
        report = Report(name="a", window=window, generation=generation, results=results)
        counts = store.add([report]).snapshots["a"].window
        expected.add(results, now)
        assert counts == expected.counts(now)
    assert store.inspect("a", window).windows[window] == expected.counts(now)
