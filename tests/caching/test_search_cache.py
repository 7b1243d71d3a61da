"""What every call of the search cache promises, over both stores."""

from datetime import timedelta
from typing import Any

import pytest

from analytics_admin.caching import SearchCache, UnstorableValue, ValueTooLarge
from analytics_admin.caching.clear import hard
from tests.support.search_caches import STORES, Backend, another, use_store

pytestmark = STORES


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind, SEARCH_CACHE_MAX_VALUE_BYTES=1000)
    return another()


@pytest.mark.parametrize(
    "value", [None, "", 0, 0.0, False, [], {}, "text", "ö€😀\x00\n", -1.5, [1, {"a": [None]}]]
)
def test_a_result_is_computed_once_and_comes_back_as_it_was(cache, value):
    backend = Backend(value)
    found = [cache.get_or_compute(("q", 1), backend) for _ in range(3)]
    assert [(type(each), each) for each in found] == [(type(value), value)] * 3
    assert backend.calls == 1


def test_an_answer_says_where_it_is_from_and_how_old_it_is(cache):
    first, second = cache.lookup("q", Backend()), another().lookup("q", Backend())
    assert (first.state, first.age, second.state) == ("miss", 0, "hit")
    assert 0 <= second.age < 5


def test_another_process_sees_what_one_stored(cache):
    assert cache.set("q", [1, 2])
    assert another().get("q") == [1, 2]
    assert another().get_or_compute("q", Backend()) == [1, 2]


def test_what_a_caller_does_to_its_value_is_its_own_affair(cache):
    cache.get_or_compute("q", lambda: [1]).append(2)
    cache.get("q").append(3)
    assert cache.get("q") == [1]


def test_a_missing_value_is_the_default(cache):
    assert cache.get("q") is None
    assert cache.get("q", 5) == 5
    cache.set("q", None)
    assert cache.get("q", 5) is None


def test_many_are_read_at_once(cache):
    cache.set("a", 1)
    cache.set(("b", 2), None)
    assert cache.get_many(["a", ("b", 2), "c"]) == {"a": 1, ("b", 2): None}
    assert cache.get_many([]) == {}


def test_delete_says_whether_there_was_a_value(cache):
    cache.set("q", 1)
    assert cache.delete("q") is True
    assert cache.delete("q") is False
    assert cache.get("q") is None


def test_a_value_ends_with_its_timeout(cache):
    cache.set("q", 1, timeout=1)
    assert cache.get("q") == 1
    backend = Backend()
    assert wait_for(lambda: cache.get("q") is None)
    # A process may reckon the end by an answer's delay too soon; who would compute asks the store.
    hour = timedelta(hours=1)
    assert wait_for(lambda: cache.get_or_compute("q", backend, timeout=hour) == "found")
    assert backend.calls == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e12, timedelta(0)])
def test_a_timeout_that_cannot_be_is_refused_before_anything_is_done(cache, timeout):
    backend = Backend()
    with pytest.raises(ValueError, match="timeout"):
        cache.get_or_compute("q", backend, timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        cache.set("q", 1, timeout=timeout)
    assert backend.calls == 0


@pytest.mark.parametrize("timeout", [True, "5", [5], object()])
def test_a_timeout_of_another_kind_is_refused(cache, timeout):
    with pytest.raises(TypeError, match="timeout"):
        cache.get_or_compute("q", Backend(), timeout=timeout)


@pytest.mark.parametrize("stale_for", [-1, float("nan"), "5", None, True])
def test_stale_for_must_be_seconds(cache, stale_for):
    with pytest.raises((TypeError, ValueError), match="stale_for"):
        cache.lookup("q", Backend(), stale_for=stale_for)


def test_a_value_without_timeout_stays(cache):
    cache.get_or_compute("q", Backend(), timeout=None, tags=["a"])
    assert cache.get("q", tags=["a"]) == "found"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"hits": [1, 2, 3, (4,)]}, r'value\["hits"\]\[3\] is a tuple'),
        ({1: 2}, "value has the key 1"),
        ([{"a": {1}}], r'value\[0\]\["a"\] is a set'),
        ([float("nan")], r"value\[0\] is nan"),
        ([0, float("-inf")], r"value\[1\] is -inf"),
        (object(), "value is a object"),
        ("\ud83d\ude00", "surrogate"),
        ([10**5000], "value"),
    ],
)
def test_a_result_that_would_not_come_back_is_refused_by_its_place(cache, value, place):
    for call in (cache.get_or_compute, lambda key, compute: cache.set(key, compute())):
        with pytest.raises(UnstorableValue, match=place):
            call("q", lambda: value)
    assert cache.get_or_compute("q", Backend()) == "found"  # the lease was given back


def test_a_result_that_holds_itself_is_refused(cache):
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UnstorableValue, match="nested"):
        cache.get_or_compute("q", lambda: value)


def test_a_result_may_be_nested_500_times(cache):
    value: Any = []
    for _ in range(499):
        value = [value]
    assert cache.get_or_compute("q", lambda: value) == cache.get("q") == value
    with pytest.raises(UnstorableValue, match="value is nested too deeply"):
        cache.set("q", [value])


def test_a_result_over_the_limit_is_returned_but_not_stored(cache):
    backend = Backend("ö" * 600)
    assert [cache.get_or_compute("q", backend) for _ in range(2)] == ["ö" * 600] * 2
    assert backend.calls == 2
    assert cache.counter.take().too_large == 2
    with pytest.raises(ValueTooLarge, match="1202 bytes"):
        cache.set("q", "ö" * 600)


def test_an_exception_reaches_its_caller_and_the_next_call_computes(cache):
    backend = Backend()
    backend.error = LookupError("down")
    with pytest.raises(LookupError, match="down"):
        cache.get_or_compute("q", backend)
    backend.error = None
    assert cache.get_or_compute("q", backend) == "found"
    counts = cache.counter.take()
    assert (counts.compute_errors, counts.misses, counts.fills) == (1, 2, 1)


def test_a_stop_iteration_of_the_computation_is_an_exception_like_any_other(cache):
    with pytest.raises(StopIteration):
        cache.get_or_compute("q", lambda: next(iter([])))


def test_a_computation_that_asks_for_its_own_key_does_not_wait_for_itself(cache):
    inner = Backend()
    assert cache.get_or_compute("q", lambda: cache.get_or_compute("q", inner)) == "found"
    assert inner.calls == 1


def test_a_clear_leaves_nothing(cache):
    cache.get_or_compute("q", Backend("old"), tags=["a"])
    hard.clear()
    assert cache.get("q", tags=["a"]) is None
    assert cache.get_or_compute("q", Backend("new"), tags=["a"]) == "new"
    assert another().get("q", tags=["a"]) == "new"


def test_counts_say_what_calls_came_to(cache):
    for _ in range(3):
        cache.get_or_compute("q", Backend())
    cache.get("q")
    cache.get("none")
    counts = cache.counter.take()
    assert (counts.hits, counts.misses, counts.fills) == (3, 2, 1)
    assert cache.counter.take().hits == 0


@pytest.mark.parametrize("key", [object(), {1: 2}, float("nan"), b"bytes", {1, 2}])
def test_a_key_that_cannot_be_is_refused_before_anything_is_done(cache, key):
    backend = Backend()
    with pytest.raises((TypeError, ValueError), match="key"):
        cache.get_or_compute(key, backend)
    assert backend.calls == 0


def test_a_huge_key_is_a_key(cache):
    cache.set("x" * 100_000, 1)
    assert cache.get("x" * 100_000) == 1
    assert cache.get("x" * 99_999) is None


def wait_for(condition: Any) -> bool:
    from tests.support.sites import eventually

    return bool(eventually(condition))
