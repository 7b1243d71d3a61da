"""How the registered breakers are read: which there are and what they are, mostly at once."""

import pytest

from analytics_admin.breakers import runtime
from analytics_admin.breakers.runtime import UnknownBreakers, operator_store, read_registered
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from tests.support.breakers import round_trips, trip


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """The names that this process declares, of which the store knows none."""
    names = {"declared"}
    monkeypatch.setattr(runtime, "declared_names", lambda: frozenset(names))
    operator_store().survey([], keep_for=None)  # tells the server the scripts
    operator_store().load_many(["none"])
    return names


def create(number):
    names = [f"b{each:03}" for each in range(number)]
    operator_store().compare_and_set([Move(name=n, expected=None, new=new_record()) for n in names])
    return names


@pytest.mark.parametrize("registered", [3, 700])
def test_those_named_are_read_in_one_round_trip_however_many_there_are(registered):
    names = create(registered)[-2:]
    with round_trips() as sent:
        found = read_registered([*reversed(names), "declared", names[0]])
    assert sent["trips"] == 1
    assert list(found.snapshots) == [*names, "declared"]
    assert found.snapshots == operator_store().load_many([*names, "declared"]).snapshots


def test_of_very_many_that_are_named_the_rest_are_read_in_another():
    names = create(700)
    with round_trips() as sent:
        found = read_registered(names)
    assert sent["trips"] == 2
    assert found.snapshots == operator_store().load_many(names).snapshots


@pytest.mark.parametrize(("registered", "trips"), [(0, 1), (100, 1), (101, 2), (700, 2)])
def test_all_that_there_are_are_read_in_one_round_trip_where_they_are_few(registered, trips):
    names = create(registered)
    read_registered()  # a first look learns the names and takes one round trip more
    with round_trips() as sent:
        found = read_registered()
    assert sent["trips"] == trips
    assert list(found.snapshots) == [*names, "declared"]
    assert found.snapshots == operator_store().load_many([*names, "declared"]).snapshots


@pytest.mark.parametrize("name", ["mistyped", "", "<b>", "a\x00", "\ud800", "x" * 9999])
def test_all_unregistered_names_are_found_in_one_round_trip(name):
    trip("known")
    with round_trips() as sent, pytest.raises(UnknownBreakers) as raised:
        read_registered([name, "known", "zzz"])
    assert raised.value.names == sorted([name, "zzz"])
    assert sent["trips"] == 1


def test_one_that_is_registered_though_it_could_not_be_declared_is_read():
    operator_store().register(["<b>"], keep_for=None)
    assert read_registered(["<b>"]).snapshots == {"<b>": None}


def test_a_policy_that_is_declared_after_the_first_use_changes_what_the_process_tells():
    runtime.unpickled_breaker("declared.late").call(int)
    before = runtime._hash_policies()
    runtime.circuit_breaker("declared.late", failure_threshold=17)
    assert runtime._hash_policies() != before
