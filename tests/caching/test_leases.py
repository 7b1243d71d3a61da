"""Leases: who computes, who waits, and whose result is kept; over both stores."""

import threading
import time
from typing import Any

import pytest

from analytics_admin.caching import SearchCache, lease
from analytics_admin.caching.clear import hard
from analytics_admin.caching.lease import MAX_WAIT_LEASES
from analytics_admin.caching.stores.base import Ttl
from tests.support.backend import BackendDown
from tests.support.search_caches import (
    STORES,
    Backend,
    InThread,
    another,
    renew_nothing,
    use_store,
)
from tests.support.sites import eventually
from tests.support.stopwatch import Stopwatch

pytestmark = STORES
TTL = Ttl(fresh_ms=60_000, kept_ms=60_000)


@pytest.fixture
def slow(cache: SearchCache) -> Any:
    """A backend that is held up until the test lets it go on."""
    backend = Backend("old")
    backend.go_on.clear()
    yield backend
    backend.go_on.set()


def begun(cache: SearchCache, backend: Backend, **terms: Any) -> InThread:
    call = InThread(lambda: cache.get_or_compute("q", backend, **terms))
    assert backend.begun.wait(20)
    return call


def test_one_computes_and_all_are_served(cache, other, slow):
    backend = Backend("never")
    first = begun(cache, slow)
    waiting = [
        InThread(lambda c=each: c.get_or_compute("q", backend))
        for each in (cache, other)
        for _ in range(10)
    ]
    time.sleep(0.1)
    assert all(call.is_waiting for call in waiting)
    slow.go_on.set()
    assert {call.result() for call in [first, *waiting]} == {"old"}
    assert (slow.calls, backend.calls) == (1, 0)


def test_threads_of_one_process_share_their_looks_at_the_store(cache, other, slow, monkeypatch):
    first = begun(other, slow)
    cache.get("connected")
    store, claims = (cache._client or cache._connect()).access._store, []
    claim = store.claim
    monkeypatch.setattr(store, "claim", lambda *a, **k: claims.append(1) or claim(*a, **k))
    waiting = [InThread(lambda: cache.get_or_compute("q", Backend())) for _ in range(30)]
    time.sleep(0.3)
    slow.go_on.set()
    assert {call.result() for call in [first, *waiting]} == {"old"}
    assert len(claims) < 30


def test_a_process_that_waits_for_many_values_looks_more_seldom_for_each(cache, other, monkeypatch):
    monkeypatch.setattr(lease, "LOOKS_PER_SECOND", 50.0)
    held, keys = Backend("old"), [f"q{number}" for number in range(20)]
    held.go_on.clear()
    computing = [InThread(lambda k=key: other.get_or_compute(k, held)) for key in keys]
    assert eventually(lambda: held.calls == len(keys))
    cache.get("connected")
    store, claims = (cache._client or cache._connect()).access._store, []
    claim = store.claim
    monkeypatch.setattr(store, "claim", lambda *a, **k: claims.append(1) or claim(*a, **k))
    waiting = [InThread(lambda k=key: cache.get_or_compute(k, Backend())) for key in keys]
    time.sleep(0.6)
    looks = len(claims)
    held.go_on.set()
    assert {call.result() for call in [*computing, *waiting]} == {"old"}
    assert len(keys) <= looks <= 5 * len(keys)  # each would look about 10 times


@pytest.mark.parametrize(
    "act",
    [
        lambda cache: hard.clear(),
        lambda cache: cache.delete("q"),
        lambda cache: cache.clear_tags(["x"]),
    ],
    ids=["clear", "delete", "clear_tags"],
)
def test_what_was_computed_before_an_act_is_returned_but_not_stored(cache, other, slow, act):
    first = begun(cache, slow, tags=["x"])
    act(other)
    slow.go_on.set()
    assert first.result() == "old"
    assert other.get("q", tags=["x"]) is None
    assert cache.counter.take().refused_fills == 1


def test_what_was_set_meanwhile_stays(cache, other, slow):
    first = begun(cache, slow)
    other.set("q", "set")
    slow.go_on.set()
    assert first.result() == "old"
    assert cache.get("q") == "set"


@pytest.mark.parametrize("same_process", [True, False])
def test_a_call_after_a_clear_does_not_wait_for_what_began_before(cache, other, slow, same_process):
    first = begun(cache, slow)
    hard.clear()
    caller = cache if same_process else other
    assert caller.get_or_compute("q", Backend("new")) == "new"
    slow.go_on.set()
    assert first.result() == "old"
    assert cache.get("q") == other.get("q") == "new"


def test_a_lease_under_a_cleared_tag_is_taken_over_at_once(cache, other, slow):
    first = begun(cache, slow, tags=["x"])
    cache.clear_tags(["x"])
    watch = Stopwatch()
    assert other.get_or_compute("q", Backend("new"), tags=["x"]) == "new"
    assert watch.seconds < 1
    slow.go_on.set()
    assert first.result() == "old"
    assert cache.get("q", tags=["x"]) == "new"


def test_of_two_that_compute_the_first_to_finish_fills(settings, kind, cache, other, slow):
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.2)
    renew_nothing(cache)
    first = begun(cache, slow)
    late = Backend("late")
    late.go_on.clear()
    second = begun(other, late)
    for backend, call in ((slow, first), (late, second)):
        backend.go_on.set()
        assert call.result() == backend.value
        assert another().get("q") == "old"
    assert other.counter.take().refused_fills == 1


def test_who_waited_for_a_refused_result_gets_a_new_one(cache, slow):
    first = begun(cache, slow)
    waiting = [InThread(lambda: cache.get_or_compute("q", Backend("new"))) for _ in range(5)]
    time.sleep(0.1)
    hard.clear()
    slow.go_on.set()
    assert first.result() == "old"
    assert {call.result() for call in waiting} == {"new"}


def test_a_computation_that_raises_lets_another_process_try(cache, other, slow):
    slow.error = BackendDown()
    first = begun(cache, slow)
    second = InThread(lambda: other.get_or_compute("q", Backend("second")))
    time.sleep(0.1)
    watch = Stopwatch()
    slow.go_on.set()
    with pytest.raises(BackendDown):
        first.result()
    assert second.result() == "second"
    assert watch.seconds < 1


@pytest.mark.parametrize("same_process", [True, False])
def test_behind_a_backend_that_is_down_callers_do_not_fail_one_after_the_other(
    kind, cache, same_process
):
    def fail() -> None:
        time.sleep(0.15)
        raise BackendDown

    caches = [cache if same_process else another() for _ in range(20)]
    watch = Stopwatch()
    calls = [InThread(lambda c=each: c.get_or_compute("q", fail)) for each in caches]
    for call in calls:
        with pytest.raises(BackendDown):
            call.result()
    assert watch.seconds < 1.5  # one by one it is 3 s
    computed = sum(each.counter.take().compute_errors for each in set(caches))
    assert computed == (1 if same_process else 20)


def test_the_lease_of_a_killed_process_is_taken_over_and_the_first_result_fills(
    settings, kind, cache, other, slow
):
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.2)
    renew_nothing(cache)
    first = begun(cache, slow)
    quick = Backend("quick")
    began, watch = time.monotonic(), Stopwatch()
    assert other.get_or_compute("q", quick) == "quick"
    assert time.monotonic() - began > 0.1
    assert watch.seconds < 1.5
    slow.go_on.set()
    assert first.result() == "old"
    assert other.get("q") == "quick"


def test_a_computation_slower_than_its_lease_is_stored_all_the_same(
    settings, kind, cache, other, slow
):
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.1)
    first = begun(cache, slow)
    time.sleep(0.2)
    slow.go_on.set()
    assert first.result() == "old"
    assert other.get("q") == "old"


def test_who_has_waited_long_enough_computes_without_storing(settings, kind, cache, other):
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.2)
    client = other._connect()
    keys, done = client.request("q").keys, threading.Event()
    claim = client.access.run(lambda store: store.claim(keys, TTL, lease=0.2))

    def hold_for_ever() -> None:
        while not done.wait(0.01):
            client.access.run(lambda store: store.renew(keys, claim, lease=0.2))

    holding = InThread(hold_for_ever)
    watch, backend = time.monotonic(), Backend("impatient")
    waiting = [InThread(lambda: cache.get_or_compute("q", backend)) for _ in range(5)]
    assert {call.result() for call in waiting} == {"impatient"}
    assert time.monotonic() - watch > MAX_WAIT_LEASES * 0.2
    assert (backend.calls, cache.get("q")) == (1, None)
    done.set()
    holding.result()


def test_a_stale_value_is_served_at_once_while_one_refreshes_it(cache, other, slow):
    cache.set("q", "stale", timeout=0.02, stale_for=60)
    time.sleep(0.03)
    first = begun(cache, slow, stale_for=60)
    never = Backend("never")
    for caller in (cache, other):
        answer = caller.lookup("q", never, stale_for=60)
        assert (answer.value, answer.state, never.calls) == ("stale", "stale", 0)
        assert answer.age > 0.01
    slow.go_on.set()
    assert first.result() == "old"
    assert other.lookup("q", never, stale_for=60).state == "hit"


def test_a_stale_value_is_absent_for_who_does_not_want_it(cache):
    cache.set("q", "stale", timeout=0.02, stale_for=60)
    time.sleep(0.03)
    assert cache.get("q") is None
    assert cache.lookup("q", Backend(), stale_for=0.001).state == "miss"


def test_a_stale_value_is_served_when_the_computation_fails(cache):
    from analytics_admin.breakers import CircuitOpenError

    cache.set("q", "stale", timeout=0.02, stale_for=60)
    time.sleep(0.03)
    backend = Backend()
    for error in (BackendDown(), CircuitOpenError("catalog", "open", 5.0)):
        backend.error = error
        assert cache.lookup("q", backend, stale_for=60).state == "stale"
    counts = cache.counter.take()
    assert (counts.stale_served, counts.stale_on_error, counts.compute_errors) == (2, 2, 2)


def test_a_value_cleared_hard_is_never_served_as_stale(cache):
    cache.set("q", "stale", timeout=None)
    hard.clear()
    backend = Backend()
    backend.error = BackendDown()
    with pytest.raises(BackendDown):
        cache.get_or_compute("q", backend, stale_for=60)


def test_an_interrupted_computation_gives_its_lease_back(cache, other):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_compute("q", interrupt)
    watch = Stopwatch()
    assert other.get_or_compute("q", Backend()) == "found"
    assert watch.seconds < 1


def test_many_callers_of_many_keys_each_compute_once(cache, other):
    backends = [Backend(n) for n in range(20)]
    barrier = threading.Barrier(40)

    def call(caller: SearchCache, start: int) -> list[Any]:
        barrier.wait(60)
        return [caller.get_or_compute(n % 20, backends[n % 20]) for n in range(start, start + 20)]

    calls = [InThread(lambda c=c, n=n: call(c, n)) for c in (cache, other) for n in range(20)]
    for n, under_way in enumerate(calls):
        assert sorted(under_way.result()) == list(range(20)), n
    assert [backend.calls for backend in backends] == [1] * 20
