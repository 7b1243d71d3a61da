"""To look back at many breakers: each with its transitions, in one round trip, on both stores."""

import time

import pytest

from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import BATCH, RedisStore
from tests.support.breakers import names_in, round_trips


@pytest.fixture(params=["memory", "redis"])
def store(request):
    return MemoryStore() if request.param == "memory" else RedisStore("breakers", timeout=2)


def moved(store, name, times):
    """Have a breaker that has moved so often."""
    snapshot = None
    for number in range(times + 1):
        cause = f"cause-{number}" if number else ""
        move = Move(name=name, expected=snapshot, new=new_record(), cause=cause)
        (outcome,) = store.compare_and_set([move])
        snapshot = outcome.snapshot


def test_each_comes_with_its_transitions_newest_first_and_nothing_changes(store):
    moved(store, "a", 25)
    moved(store, "b", 2)
    reading = store.read_transitions(["a", "b", "none"])
    for name in ("a", "b"):
        assert reading.transitions[name] == store.transitions(name)
    assert len(reading.transitions["a"]) == 20
    assert [move.cause for move in reading.transitions["b"]] == ["cause-2", "cause-1"]
    assert (reading.snapshots["none"], reading.transitions["none"]) == (None, [])
    assert reading.snapshots == store.load_many(["a", "b", "none"]).snapshots
    assert abs(reading.now - time.time()) < 5
    assert names_in(store) == ["a", "b"]


def test_however_many_it_is_one_round_trip():
    store = RedisStore("breakers", timeout=2)
    names = [f"many-{number}" for number in range(BATCH + 5)]
    moved(store, names[-1], 3)
    store.read_transitions(names)  # tells the server the script
    with round_trips() as sent:
        reading = store.read_transitions(names)
    assert sent["trips"] == 1
    assert list(reading.snapshots) == names
    assert len(reading.transitions[names[-1]]) == 3
