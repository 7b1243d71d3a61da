"""The totals of each breaker: they only rise, or begin at zero, whatever happens to its keys."""

from dataclasses import replace
from typing import Any

import pytest

from analytics_admin.breakers.state import Control, Hold, Results, Snapshot, State
from analytics_admin.breakers.state_machine import control, new_record, reset
from analytics_admin.breakers.stores.base import BreakerStore, Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.breakers.stores.totals import BreakerTotals, Totals
from tests.support.breakers import round_trips
from tests.support.stored_breakers import key_of, key_of_site, raw_client

HOLD = Hold(control=Control.FORCED_OPEN, until=4e9, actor="sam", reason="deploy")


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> BreakerStore:
    return MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=5)


@pytest.fixture
def redis() -> RedisStore:
    return RedisStore("breakers", timeout=5)


def move(store: BreakerStore, old: Snapshot | None, new: Snapshot, **more: Any) -> Snapshot:
    (made,) = store.compare_and_set([Move(name="a", expected=old, new=new, **more)])
    assert made.won
    assert made.snapshot is not None
    return made.snapshot


def count(store: BreakerStore, snapshot: Snapshot, **results: Any) -> None:
    store.add([Report(name="a", generation=snapshot.generation, results=Results(**results))])


def read(store: BreakerStore, name: str = "a") -> BreakerTotals | None:
    return store.read_totals([], keep_for=None, most=100).breakers.get(name)


def totals(store: BreakerStore) -> Totals:
    found = read(store)
    assert found is not None
    assert found.totals is not None
    return found.totals


def opened(old: Snapshot) -> Snapshot:
    return replace(reset(old), state=State.OPEN, wait=60.0)


def test_they_go_on_through_every_generation(store: BreakerStore) -> None:
    closed = move(store, None, new_record())
    count(store, closed, successes=((1, 7),), slow_successes=2, failures=3, slow_failures=1)
    open_ = move(store, closed, opened(closed), cause="failure_rate")
    count(store, open_, rejected=11)
    count(store, open_, rejected=2)
    again = move(store, open_, reset(open_), cause="reset", actor="sam")
    count(store, again, successes=((1, 1),), rejected=1)
    held = move(store, again, control(again, HOLD), cause="control", actor="sam")
    assert totals(store) == Totals(
        calls=14, failures=4, slow=3, rejected=14, closed=1, opened=1, held=1
    )
    assert read(store).state == "forced_open"
    assert read(store).held_until == 4e9
    move(store, held, control(held, replace(HOLD, until=None)), cause="control", actor="sam")
    assert read(store).held_until == float("inf")


def test_late_results_of_a_generation_that_is_gone_do_not_count(store: BreakerStore) -> None:
    closed = move(store, None, new_record())
    open_ = move(store, closed, opened(closed), cause="failure_rate")
    count(store, closed, failures=5, rejected=1)
    assert totals(store) == Totals(rejected=1, opened=1)
    assert open_


def test_permits_of_a_round_are_no_transitions(store: BreakerStore) -> None:
    closed = move(store, None, new_record())
    trial = move(store, closed, replace(opened(closed), state=State.HALF_OPEN), cause="wait_over")
    move(store, trial, replace(trial, permits=1))
    assert totals(store).transitions == (0, 0, 1, 0)


def test_a_forgotten_breaker_begins_at_zero(store: BreakerStore) -> None:
    closed = move(store, None, new_record())
    count(store, closed, failures=5, rejected=1)
    open_ = move(store, closed, opened(closed), cause="failure_rate")
    assert store.forget("a", generation=open_.generation)
    assert read(store) is None
    move(store, None, new_record())
    assert totals(store) == Totals()


def test_a_retired_breaker_begins_at_zero(redis: RedisStore) -> None:
    closed = move(redis, None, new_record())
    count(redis, closed, failures=5, rejected=1)
    move(redis, move(redis, closed, opened(closed), cause="failure_rate"), new_record())
    raw_client().zadd(key_of_site("index"), {"a": 1})
    redis.register(["b"], keep_for=60)
    assert not raw_client().exists(key_of("a", "totals"))
    redis.register(["a"], keep_for=60)
    move(redis, None, new_record())
    assert totals(redis) == Totals()


def test_a_breaker_whose_record_is_lost_begins_at_zero(redis: RedisStore) -> None:
    closed = move(redis, None, new_record())
    count(redis, closed, failures=5)
    open_ = move(redis, closed, opened(closed), cause="failure_rate")
    count(redis, open_, rejected=3)
    raw_client().delete(key_of("a"))  # as a server that runs out of memory does
    assert read(redis).totals is None
    again = replace(new_record(), generation=open_.generation)  # as a process writes it anew
    move(redis, None, again)
    assert totals(redis) == Totals()


def test_one_that_another_release_has_moved_begins_anew(redis: RedisStore) -> None:
    closed = move(redis, None, new_record())
    count(redis, closed, failures=5)
    open_ = move(redis, closed, opened(closed), cause="failure_rate")
    before = raw_client().hget(key_of("a", "totals"), "before")
    again = move(redis, open_, reset(open_), cause="reset")
    raw_client().hset(key_of("a", "totals"), "before", before)  # which knows of no totals
    count(redis, again, failures=2)
    assert totals(redis) == Totals(calls=2, failures=2)


@pytest.mark.parametrize(
    "damage",
    [
        {"before": "x"},
        {"before": "1" * 5000},
        {"before": "gone:1 1 2"},
        {"rejected": "none"},
        {"rejected": "9" * 30},
        "another type",
    ],
)
def test_damaged_totals_harm_no_call_and_no_reading(redis: RedisStore, damage: Any) -> None:
    closed = move(redis, None, new_record())
    open_ = move(redis, closed, opened(closed), cause="failure_rate")
    key = key_of("a", "totals")
    if isinstance(damage, dict):
        raw_client().hset(key, mapping=damage)
    else:
        raw_client().delete(key)
        raw_client().lpush(key, "a")
    count(redis, open_, rejected=4)
    again = move(redis, open_, reset(open_), cause="reset")
    count(redis, again, failures=1)
    assert redis.load_many(["a"]).snapshots["a"].counts.failures == 1
    assert totals(redis)[:2] == (1, 1)
    if isinstance(damage, dict) and "rejected" in damage:
        assert totals(redis).rejected == 4
    else:
        assert totals(redis).transitions >= (1, 0, 0, 0)


def test_all_breakers_are_read_in_one_round_trip_once_they_are_known(redis: RedisStore) -> None:
    names = [f"n{number:03}" for number in range(250)]
    redis.register(names, keep_for=None)
    redis.compare_and_set([Move(name=name, expected=None, new=new_record()) for name in names])
    redis.read_totals(names[:200], keep_for=None, most=1000)
    with round_trips() as sent:
        reading = redis.read_totals([], keep_for=None, most=1000, beside=[("ECHO", "x")])
    assert sent["trips"] == 1
    assert (sorted(reading.breakers), reading.left_out) == (names, 0)
    assert reading.beside == [b"x"]
    assert reading.seconds > 0


def test_beyond_the_maximum_breakers_are_counted_and_not_read(store: BreakerStore) -> None:
    store.register([f"n{number}" for number in range(9)], keep_for=None)
    reading = store.read_totals([], keep_for=None, most=5)
    assert (sorted(reading.breakers), reading.left_out) == ([f"n{it}" for it in range(5)], 4)


def test_names_that_no_breaker_can_have_are_escaped(redis: RedisStore) -> None:
    raw_client().zadd(key_of_site("index"), {b'\xff"\n': 4e9, b"": 4e9})
    reading = redis.read_totals([], keep_for=None, most=5)
    assert set(reading.breakers) == {'\\xff"\\x0a', "\\empty"}


def test_it_says_how_long_the_store_took_to_begin_to_answer(redis: RedisStore) -> None:
    redis.read_totals([], keep_for=None, most=5)
    raw_client().execute_command("CLIENT", "PAUSE", 80, "ALL")
    assert 0.05 < redis.read_totals([], keep_for=None, most=5).seconds < 3
    assert redis.read_totals([], keep_for=None, most=5).seconds < 0.05
