"""The list of breakers among many: what is on a page, and what it costs to learn it."""

import hashlib
import random
import time
from dataclasses import replace
from itertools import product

import pytest

from analytics_admin.breakers import control as breaker_control
from analytics_admin.breakers import listing
from analytics_admin.breakers.runtime import declared_names, operator_store
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.state_machine import first_generation, new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.services import list_breakers, page_breakers
from analytics_admin.services.breakers.queries import BREAKER_STATES
from tests.support.breakers import another, round_trips, state_now, trip
from tests.support.cases import case
from tests.support.stored_breakers import change_record, raw_client


def create(*names):
    operator_store().compare_and_set(
        [Move(name=name, expected=None, new=new_record()) for name in names]
    )


def tripped(snapshot):
    opened = replace(snapshot, generation=first_generation(), state=State.OPEN, wait=60.0)
    return snapshot, opened


def hold(name, control, seconds=None):
    breaker_control.set_control(
        [name], Control(control), for_seconds=seconds, actor="sam", reason="deploy"
    )


@pytest.fixture
def sixty():
    """Sixty breakers in all states that there are."""
    names = [f"shop.{number:02}" for number in range(60)]
    create(*names)
    for name, control in zip(names, ("forced_open", "disabled", "metrics_only"), strict=False):
        hold(name, control)
    for name in names[10:13]:
        trip(name)
    change_record(names[20], state="napping")  # as another release would write it
    raw_client().hset(operator_store()._not_closed, names[20], "napping")
    probing = another(names[13], failure_threshold=1, wait_duration_in_open_state=0.01)
    probing.acquire().fail()
    time.sleep(0.02)
    probing.acquire()
    assert state_now(probing) == "half_open"
    return names


def names_of(page):
    return [status.name for status in page.breakers]


SEARCHES = ["", "shop.1", "SHOP.0", "none such"]


@pytest.mark.usefixtures("sixty")
def test_pages_hold_together_what_the_whole_list_holds():
    everything = {status.name: status.state for status in list_breakers()}
    for asked_for in product([None, *BREAKER_STATES], SEARCHES, ["name", "urgency"]):
        with case(*asked_for):
            pages_hold_together(everything, *asked_for)


def pages_hold_together(everything, state, search, sort):
    expected = {
        name
        for name, its in everything.items()
        if state in (None, its) and search.casefold() in name
    }
    found = []
    asked_for = {"state": state, "search": search, "sort": sort, "page_size": 7}
    for page in range(1, page_breakers(**asked_for).pages + 1):
        answer = page_breakers(**asked_for, page=page)
        assert answer.count == len(expected)
        found += answer.breakers
    assert {status.name for status in found} == expected
    assert len(found) == len(expected)
    assert all(everything[status.name] == status.state for status in found)
    if sort == "name":
        assert [status.name for status in found] == sorted(expected)


@pytest.mark.usefixtures("sixty")
def test_the_urgent_come_first_and_the_closed_last():
    states = [status.state for status in page_breakers(sort="urgency").breakers]
    assert set(states[:4]) == {"open", "forced_open"}
    assert set(states[4:8]) == {"disabled", "metrics_only", "half_open", "unknown"}
    assert states[8] == "closed"


@pytest.mark.usefixtures("sixty")
def test_states_count_the_whole_site_whatever_is_listed():
    states = page_breakers(search="shop.5", page_size=3).states
    assert states["open"] == 3
    assert states["unknown"] == 1
    assert {states[control] for control in ("forced_open", "disabled", "metrics_only")} == {1}
    assert sum(states.values()) == 60 + len(declared_names())


def test_a_hold_that_is_over_counts_as_what_it_ends_in():
    create("held", "plain")
    hold("held", "forced_open", 0.05)
    time.sleep(0.06)
    page = page_breakers(state="half_open")
    assert names_of(page) == ["held"]
    assert page.states["half_open"] == 1
    assert "forced_open" not in page.states


def test_a_name_that_comes_or_goes_between_two_looks_is_seen():
    create("b", "c")
    assert names_of(page_breakers(search="")) == sorted({"b", "c"} | declared_names())
    create("a")
    breaker_control.forget("c")
    assert names_of(page_breakers(search="")) == sorted({"a", "b"} | declared_names())


def test_what_changed_between_two_looks_at_a_page_is_seen_at_the_second():
    create("a", "b")
    assert names_of(page_breakers(state="open")) == []
    trip("b")
    assert names_of(page_breakers(state="open")) == ["b"]
    breaker_control.reset(["b"], only_open=False)
    assert names_of(page_breakers(state="open")) == []


def test_a_page_among_ten_thousand_costs_at_most_two_round_trips():
    names = [f"b{number:05}" for number in range(9_000)]
    create(*names)
    for name in random.Random(5).sample(names, 40):
        trip(name)
    questions = [
        {},
        {"page": 73},
        {"state": "open"},
        {"state": "closed", "page": 40},
        {"sort": "urgency"},
        {"search": "9"},
        {"sort": "urgency", "activity": True},
        {"state": "closed", "page": 40, "activity": True},
    ]
    costs = []
    for question in questions:
        first = page_breakers(**question)  # it may have to load the scripts
        with round_trips() as sent:
            page = page_breakers(**question)
        costs.append((sent["trips"], question))
        assert names_of(page) == names_of(first), question
    assert [cost for cost in costs if cost[0] > 2] == []


@pytest.mark.parametrize("question", [{"state": "open", "page": 5}, {"sort": "urgency"}])
def test_a_page_costs_no_more_while_much_of_the_fleet_is_open(question):
    names = [f"b{number:04}" for number in range(1_000)]
    create(*names)
    opened = {
        name: tripped(old) for name, old in operator_store().load_many(names).snapshots.items()
    }
    operator_store().compare_and_set(
        [Move(name=n, expected=o, new=new) for n, (o, new) in opened.items()]
    )
    hold(names[0], "forced_open")
    first = page_breakers(**question)  # it may have to load the scripts
    with round_trips() as sent:
        page = page_breakers(**question)
    assert sent["trips"] <= 2
    assert names_of(page) == names_of(first)
    assert (len(page.breakers), page.count >= 999) == (100, True)
    assert page.states["open"] == 999


@pytest.mark.parametrize(
    "question",
    [{}, {"activity": True}, {"state": "open", "activity": True}, {"sort": "urgency", "page": 2}],
)
@pytest.mark.parametrize("how_many", [3, 37, 100])
def test_a_hundred_breakers_cost_one_round_trip_at_the_first_look(how_many, question, monkeypatch):
    monkeypatch.setattr(listing, "declared_names", lambda: frozenset({"b00", "unused"}))
    names = [f"b{number:02}" for number in range(how_many)]
    create(*names)
    trip(names[1])
    hold(names[2], "forced_open")
    page_breakers(search="tells the server the script")
    with round_trips() as sent:
        page = page_breakers(**question, page_size=40)
    assert sent["trips"] == 1
    assert sum(page.states.values()) == how_many + 1
    assert set(page.activity) == (set(names_of(page)) if "activity" in question else set())
    with round_trips() as sent:
        assert names_of(page_breakers(**question, page_size=40)) == names_of(page)
    assert sent["trips"] == 1


def lowered(key, prefix, version):
    return f"{prefix}/{version}/{key}".lower()


def hashed(key, prefix, version):
    return hashlib.sha1(key.encode()).hexdigest()


@pytest.mark.parametrize("make_key", [lowered, hashed])
def test_keys_of_the_sites_own_making_are_found(make_key, settings):
    breakers = {**settings.CACHES["breakers"], "KEY_FUNCTION": make_key}
    settings.CACHES = {**settings.CACHES, "breakers": breakers}
    create("b.One", "b.two")
    trip("b.One")
    states = {it.name: it.state for it in page_breakers(search="b.", activity=True).breakers}
    assert states == {"b.One": "open", "b.two": "closed"}
