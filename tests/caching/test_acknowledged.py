"""What was cleared, deleted or replaced is gone for every call that begins later, over both stores.

Each test is one way by which an earlier value could come back.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest

from analytics_admin.caching import Lookup, SearchCache
from analytics_admin.caching.clear import hard, soft, tags
from analytics_admin.caching.effects import CallStore, Compute, InBackground, Sleep, WaitFor
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.stores.client import StoreSilent
from tests.support.backend import BackendDown
from tests.support.cache_aliases import raw, redis_alias, use_caches
from tests.support.search_caches import (
    IN_LINE,
    STORES,
    Backend,
    InSteps,
    InThread,
    another,
    in_steps,
    use_store,
)
from tests.support.servers import StoreServer

WAYS = pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
OPTIONS: dict[str, Any] = {"tags": ["x"]}
STALE: dict[str, Any] = {"tags": ["x"], "stale_for": 60}
Act = Callable[[SearchCache], Any]


def replace_briefly(cache: SearchCache) -> None:
    """Set another value, whose time is over at once: who asks later finds none."""
    cache.set("q", "replaced", tags=["x"], timeout=0.001)
    time.sleep(0.005)


ACTS: dict[str, Act] = {
    "hard clear": lambda cache: hard.clear(),
    "operator's tag clear": lambda cache: tags.clear_tags(["x"]),
    "tag clear": lambda cache: cache.clear_tags(["x"]),
    "delete": lambda cache: cache.delete("q"),
    "set": replace_briefly,
}
EACH_ACT = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
EACH_REMOVAL = pytest.mark.parametrize("act", list(ACTS.values())[:-1], ids=list(ACTS)[:-1])


@pytest.fixture
def full() -> Any:
    """A server that takes no writes from when its memory is limited."""
    with StoreServer(maxmemory_policy="noeviction") as server:
        yield server


def make_stale(cache: SearchCache, **options: Any) -> None:
    cache.set("q", "old", timeout=0.001, **{**STALE, **options})
    time.sleep(0.005)


def failing() -> Any:
    raise BackendDown


def looks(call: InSteps) -> int:
    return sum(isinstance(effect, CallStore) for effect in call.carried_out)


# A flight's result


@STORES
@WAYS
@EACH_ACT
def test_what_was_stored_before_an_act_is_not_taken_from_the_flight_after_it(
    cache, other, act, in_loop
):
    """The act falls between the storing and the reply to it."""
    leader = in_steps(cache, Backend("old"), **OPTIONS)
    reply = leader.stored()
    act(other)
    follower = in_steps(cache, Backend("new"), in_loop=in_loop, **OPTIONS)
    if act in (ACTS["delete"], ACTS["set"]):  # else the epochs tell it not to wait
        follower.until(WaitFor)
    reply()
    assert leader.end().value == "old"
    assert follower.end() == Lookup("new", "miss", 0.0)
    assert other.get("q", **OPTIONS) == "new"


@STORES
@WAYS
@EACH_ACT
def test_what_another_process_stored_before_an_act_is_not_taken_from_the_flight_after_it(
    cache, other, act, in_loop
):
    """The act falls between the leader's look and the reply to it."""
    leader = in_steps(cache, Backend("never"), **OPTIONS)
    other.set("q", "old", **OPTIONS)
    reply = leader.carry_out()
    act(other)
    follower = in_steps(cache, Backend("new"), in_loop=in_loop, **OPTIONS)
    follower.until(WaitFor)
    reply()
    assert leader.end().value == "old"
    assert follower.end().value == "new"


@STORES
@WAYS
def test_what_was_fresh_before_a_soft_clear_is_no_hit_after_it(cache, other, in_loop):
    leader = in_steps(cache, Backend("never"))
    other.set("q", "old")
    reply = leader.carry_out()
    soft.clear_softly()
    other.delete("q")  # or else it may be served as stale
    follower = in_steps(cache, Backend("new"), in_loop=in_loop)
    follower.until(WaitFor)
    reply()
    assert follower.end().value == "new"


@STORES
@EACH_ACT
def test_what_a_background_refresh_stored_before_an_act_is_not_taken_after_it(settings, kind, act):
    use_store(settings, kind, SEARCH_CACHE_BACKGROUND=True, SEARCH_CACHE_BACKGROUND_REFRESHES=1)
    cache, other = another(), another()
    make_stale(cache)
    caller = in_steps(cache, Backend("refreshed"), **STALE)
    caller.until(InBackground)
    refresh = caller.background()
    assert caller.end().value == "old"
    reply = refresh.stored()
    act(other)
    follower = in_steps(cache, Backend("new"), **OPTIONS)
    if act in (ACTS["delete"], ACTS["set"]):
        follower.until(WaitFor)
    reply()
    refresh.end()
    assert follower.end().value == "new"


@STORES
@WAYS
def test_who_looked_before_the_value_was_stored_takes_it_without_another_look(
    cache, other, in_loop
):
    leader = in_steps(cache, Backend("found"))
    leader.until(Compute)
    follower = in_steps(cache, Backend("never"), in_loop=in_loop)
    follower.until(WaitFor)
    leader.end()
    assert (follower.end().value, looks(follower)) == ("found", 0)


@STORES
def test_who_looked_while_the_value_was_stored_looks_once_more(cache):
    """Nobody can tell which came first."""
    leader = in_steps(cache, Backend("found"))
    leader.until(Compute)
    leader.carry_out()()
    leader.until(CallStore)
    follower = in_steps(cache, Backend("never"))
    follower.until(WaitFor)
    leader.end()
    answer = follower.end()
    assert (answer.value, answer.state, looks(follower)) == ("found", "hit", 1)


@STORES
def test_a_miss_is_three_calls_of_the_store_with_its_look(cache):
    call = in_steps(cache, Backend("found"))
    call.end()
    assert looks(call) == 2


# A stale value in place of a computation that fails


@STORES
@WAYS
@EACH_REMOVAL
def test_no_value_from_before_an_act_stands_in_for_a_computation_that_fails_after_it(
    cache, other, act, in_loop
):
    make_stale(cache)
    call = in_steps(cache, failing, in_loop=in_loop, **STALE)
    call.until(Compute)
    act(other)
    with pytest.raises(BackendDown):
        call.end()
    assert cache.counter.take() == Counts(
        misses=1, computed=1, compute_errors=1, compute_seconds=pytest.approx(0, abs=5)
    )


@STORES
@WAYS
def test_what_was_set_meanwhile_is_served_instead_of_a_failure(cache, other, in_loop):
    make_stale(cache)
    call = in_steps(cache, failing, in_loop=in_loop, **STALE)
    call.until(Compute)
    other.set("q", "set", **OPTIONS)
    answer = call.end()
    assert (answer.value, answer.state) == ("set", "hit")


@STORES
def test_what_was_cleared_softly_meanwhile_stands_in_for_a_failure(cache):
    make_stale(cache)
    call = in_steps(cache, failing, **STALE)
    call.until(Compute)
    soft.clear_softly()
    assert call.end().state == "stale"


# A stale value while another process computes


@STORES
@WAYS
@EACH_REMOVAL
def test_no_value_from_before_an_act_stands_in_while_others_compute_after_it(
    cache, other, act, in_loop
):
    make_stale(cache)
    call = in_steps(cache, Backend("never"), in_loop=in_loop, **STALE)
    act(other)
    theirs = in_steps(other, Backend("new"), **STALE)
    theirs.until(Compute)
    call.until(Sleep)
    theirs.end()
    assert call.end().value == "new"


# A store that is lost, or takes no writes, in the middle


def use_server(settings: Any, server: StoreServer) -> SearchCache:
    use_caches(settings, search=redis_alias("s", url=server.url))
    settings.ANALYTICS_ADMIN = {**IN_LINE, "STORE_RETRY_INTERVAL": 60}
    return another()


@pytest.mark.parametrize("compute", [lambda: "new", failing], ids=["computes", "fails"])
@pytest.mark.parametrize("lost_at", [CallStore, Compute], ids=["claim", "end"])
def test_a_stale_value_is_not_served_without_the_store(settings, full, compute, lost_at):
    """It may have been cleared just before the store was lost."""
    cache = use_server(settings, full)
    make_stale(cache)
    call = in_steps(cache, compute, **STALE)
    call.until(lost_at)
    hard.clear()
    full.stop()
    if compute is failing:
        with pytest.raises(BackendDown):
            call.end()
    else:
        assert call.end().value == "new"


def test_a_store_that_is_full_still_serves_stale_values_that_count(settings, full):
    cache = use_server(settings, full)
    make_stale(cache, tags=())
    call = in_steps(cache, Backend("never"), stale_for=60)
    raw().config_set("maxmemory", 1)
    assert call.end().state == "stale"


def test_a_store_that_is_full_serves_no_stale_value_that_was_cleared(settings, full):
    cache = use_server(settings, full)
    make_stale(cache, tags=())
    call = in_steps(cache, Backend("new"), stale_for=60)
    cache.delete("q")
    raw().config_set("maxmemory", 1)
    assert call.end() == Lookup("new", "bypass", 0.0)


@pytest.mark.parametrize("kind", ["redis"])
@pytest.mark.parametrize("act", [lambda cache: cache.delete("q"), replace_briefly])
def test_a_result_that_the_store_never_answered_for_serves_nobody_who_began_after_an_act(
    cache, other, act, monkeypatch
):
    """One silence of a store that is well: the process goes on with it."""
    cache.get("connected")
    store = (cache._client or cache._connect()).access._store
    slow = Backend("old")
    slow.go_on.clear()
    leader = InThread(lambda: cache.get_or_compute("q", slow))
    assert slow.begun.wait(20)
    act(other)
    follower = InThread(lambda: cache.get_or_compute("q", Backend("new")))
    time.sleep(0.1)
    assert follower.is_waiting
    fill = store.fill

    def fill_in_silence(*terms: Any, **more: Any) -> bool:
        monkeypatch.setattr(store, "fill", fill)
        raise StoreSilent("silent")

    monkeypatch.setattr(store, "fill", fill_in_silence)
    slow.go_on.set()
    assert leader.result() == "old"
    assert follower.result() == "new"
