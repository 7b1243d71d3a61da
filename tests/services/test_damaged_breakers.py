"""A breaker whose data is damaged: each door shows it with the others, and can repair it."""

import json
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import pytest
from django.http import HttpRequest, HttpResponse

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.runtime import declared_names, operator_store
from analytics_admin.breakers.state import State
from analytics_admin.middleware import CircuitOpenMiddleware
from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker, list_breakers, page_breakers
from analytics_admin.signals import breaker_store_changed
from tests.support import doors
from tests.support.breakers import another, rest_engines, snapshot_of, state_now, trip
from tests.support.cases import case
from tests.support.doors import SECTION, ConsoleDoor, RestDoor, every_door, run
from tests.support.stored_breakers import change_record, key_of, raw_client

NAME = "shop.bad"
pytestmark = pytest.mark.django_db

REPAIRS = {
    "reset": doors.reset(NAME),
    "reset of all": doors.reset(None),
    "hold": doors.control(NAME, "disabled", 900),
    "release": doors.control(NAME, "automatic"),
    "forget": doors.forget(NAME),
}


def as_another_type(kind="record"):
    raw_client().delete(key_of(NAME, kind))
    raw_client().set(key_of(NAME, kind), "x")


def set_field(field, value):
    raw_client().hset(key_of(NAME), field, value)


DAMAGES = {
    "another type": as_another_type,
    "not UTF-8": partial(set_field, "record", b"\xff\xfe"),
    "huge": partial(set_field, "record", b"x" * 2_000_000),
    "nan": lambda: change_record(NAME, wait="nan"),
    "inf": lambda: change_record(NAME, entered_at="inf"),
    "400 digits": lambda: change_record(NAME, permits="9" * 400),
    "late": lambda: change_record(NAME, entered_at="1e300"),
    "a hold that ends in no time": lambda: (
        change_record(NAME, control="forced_open"),
        set_field("hold", '{"until": NaN, "actor": "a", "reason": "b"}'),
    ),
    "nested": lambda: (
        change_record(NAME, control="forced_open"),
        set_field("hold", "[" * 5_000),
    ),
}
HISTORIES = {
    "moves of another type": partial(as_another_type, "moves"),
    "failures of another type": partial(as_another_type, "failures"),
    "periods of another type": partial(as_another_type, "periods"),
    "policies of another type": partial(as_another_type, "policies"),
    "surrogates": lambda: raw_client().lpush(
        key_of(NAME, "failures"), r'1700000000 ["\ud800", "\ud800", "\ud800", 1]'
    ),
    "a late move": lambda: raw_client().lpush(
        key_of(NAME, "moves"), "id open closed reset 1e300 1 1 1 1 sam"
    ),
    "a nested policy": lambda: raw_client().hset(
        key_of(NAME, "policies"), "[" * 3_000, "1700000000"
    ),
    "an odd policy": lambda: raw_client().hset(
        key_of(NAME, "policies"), '{"sliding_window_size": 1e400}', "nan"
    ),
}


@pytest.fixture
def damaged():
    trip_both()


def trip_both():
    trip("shop.good")
    trip(NAME)


@pytest.fixture(params=["service", "rest", "console", "command"])
def door(request, superuser):
    return every_door(superuser)[request.param]


@pytest.fixture
def each_door(superuser):
    return every_door(superuser).values()


@pytest.mark.parametrize("repair", REPAIRS)
def test_every_door_repairs_it(door, repair):
    for damage in ("another type", "huge", "nan", "nested"):
        with case(damage):
            rest_engines()
            raw_client().flushall()
            Operation.objects.all().delete()
            trip_both()
            DAMAGES[damage]()
            answer = door.perform(REPAIRS[repair])
            assert answer.done, answer.message
            assert Operation.objects.get().status == "done"
            snapshot = operator_store().load_many([NAME]).snapshots[NAME]
            assert (snapshot is None) == (repair == "forget")
            if repair != "hold":
                assert state_now(another(NAME)) == "closed"
                trip(NAME)  # its failures count again


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", [*DAMAGES, *HISTORIES])
def test_no_list_page_or_command_breaks_on_it(damage, client, superuser):
    {**DAMAGES, **HISTORIES}[damage]()
    states = {status.name: status.state for status in list_breakers()}
    assert states["shop.good"] == "open"
    assert states[NAME] == ("unknown" if damage in DAMAGES else "open")
    page_breakers(activity=True)
    describe_breaker(NAME)
    client.force_login(superuser)
    for path in ("circuitbreaker/", f"circuitbreaker/{NAME}/"):
        assert client.get(SECTION + path).status_code == 200
    rest = RestDoor(superuser)
    for path in ("circuit-breakers", f"circuit-breakers/{NAME}"):
        assert rest.send("GET", path, {}).status_code == 200
    for arguments in ((), (NAME,), ("--json",)):
        assert run("circuit_breakers", *arguments)[0] == 0
    # What is done to another one comes through every door: each damage leaves it to one of them.
    each_door = [*every_door(superuser).values()]
    door = each_door[[*DAMAGES, *HISTORIES].index(damage) % len(each_door)]
    assert door.perform(doors.reset("shop.good")).done
    assert state_now(another("shop.good")) == "closed"
    trip("shop.good")


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", DAMAGES)
def test_its_calls_pass_and_those_of_others_are_rejected(damage):
    DAMAGES[damage]()
    assert another(NAME).call(lambda: "passed") == "passed"
    assert another(NAME).state == State.UNKNOWN
    with pytest.raises(CircuitOpenError):
        another("shop.good").acquire()


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", [*DAMAGES, *HISTORIES])
def test_no_process_takes_it_for_a_loss_of_the_store(damage):
    healthy = another("shop.healthy", failure_threshold=3)
    breaker = CircuitBreaker(NAME, healthy.engine, BreakerPolicy)
    received = []

    def note(reason, **_):
        received.append(reason)

    breaker_store_changed.connect(note)
    try:
        {**DAMAGES, **HISTORIES}[damage]()
        for _ in range(3):
            with suppress(CircuitOpenError):
                breaker.acquire().fail()
            healthy.acquire().fail()
        snapshot_of(breaker)
    finally:
        breaker_store_changed.disconnect(note)
    assert received == []
    assert state_now(healthy) == "open"


@pytest.mark.parametrize("wait", ["9999999999", "1e10", "120"])
@pytest.mark.usefixtures("damaged")
def test_a_visitor_of_a_breaker_with_an_odd_wait_learns_when_to_come_back(wait):
    change_record(NAME, wait=wait)
    with pytest.raises(CircuitOpenError) as rejected:
        another(NAME).acquire()
    answer = CircuitOpenMiddleware(lambda _: HttpResponse()).process_exception(
        HttpRequest(), rejected.value
    )
    assert answer.status_code == 503
    assert 0 < int(answer["Retry-After"]) <= 10**10


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"<b>x</b>", b"a/b?c#d", b"x" * 5_000, b"\x1b[31m", b""]
)
def test_a_name_that_no_breaker_can_have_is_listed_and_can_be_forgotten(
    raw, client, superuser, each_door
):
    index = operator_store()._index
    raw_client().zadd(index, {raw: 4e9})
    (name,) = {status.name for status in list_breakers()} - {"shop.good", NAME} - declared_names()
    assert name.isprintable()
    client.force_login(superuser)
    assert client.get(f"{SECTION}circuitbreaker/").status_code == 200
    rest = RestDoor(superuser)
    listed = rest.send("GET", "circuit-breakers", {})
    assert name in {it["name"] for it in listed.json()["results"]}
    assert rest.send("GET", f"circuit-breakers/{quote(name, safe='')}", {}).status_code == 200
    assert name in run("circuit_breakers")[1]
    printed = json.loads(run("circuit_breakers", "--json")[1])
    assert name in {it["name"] for it in printed["breakers"]}
    for door in each_door:
        raw_client().zadd(index, {raw: 4e9})
        assert door.perform(doors.reset(None)).done
        in_paths = isinstance(door, RestDoor | ConsoleDoor)
        answer = door.perform(doors.forget(quote(name, safe="") if in_paths else name))
        assert answer.done, answer.message
        assert raw_client().zscore(index, raw) is None


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("which", ["_index", "_not_closed"])
def test_a_damaged_list_is_said_and_every_door_repairs_it_by_a_reset_of_all(which, door):
    raw_client().set(getattr(operator_store(), which), "x")
    answer = door.perform(doors.reset(NAME))
    assert not answer.done
    assert "damaged; reset all to repair it" in answer.message
    assert door.perform(doors.reset(None)).done
    assert {status.name: status.state for status in list_breakers()}.items() >= {
        ("shop.good", "closed"),
        (NAME, "closed"),
    }
