"""How often each page of the console asks the stores, and each act: a table.

Counted is all that is sent once the page has been looked at before: the breakers' store is
connected by then, and knows the scripts. To the search cache's store, and to that of its counts,
each page has a connection of its own, which chooses its database first.
"""

from typing import Any

import pytest

from analytics_admin import services
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.models import Operation
from tests.console.staging import SHELL, record, url
from tests.support.breakers import round_trips, trip
from tests.support.console_pages import inputs
from tests.support.routes import console_routes

NAMED = "circuitbreaker/<str:name>/"
TICKED = "circuitbreaker/-/"
HOLD = {"control": "disabled", "for_seconds": "900"}
RELEASE = {**HOLD, "control": "automatic"}
NAMES = [f"b.{number:03}" for number in range(250)]

PAGES = {
    "circuitbreaker/": 1,
    NAMED: 1,
    "searchcache/": 4,
    "operation/": 0,
    "operation/export/": 0,
    "operation/<uuid:operation_id>/": 0,
    "operation/<uuid:operation_id>/change/": 0,
}
Pressed = dict[str, Any]
# What the button sends, the trips of the page that it leads to, and those of the act.
BREAKER_ACTS: dict[str, list[tuple[Pressed, int, int]]] = {
    "circuitbreaker/reset/": [({}, 1, 2), ({"only_open": "True"}, 1, 2)],
    f"{TICKED}reset/": [({"names": NAMES[:1]}, 1, 3), ({"names": NAMES[:100]}, 1, 3)],
    f"{TICKED}control/": [
        ({**HOLD, "names": NAMES[:1]}, 1, 3),
        ({**HOLD, "names": NAMES[:100]}, 1, 3),
        ({**RELEASE, "names": NAMES[:100]}, 1, 3),
    ],
    f"{NAMED}reset/": [({}, 1, 3)],
    f"{NAMED}control/": [(HOLD, 1, 3), (RELEASE, 1, 3)],
    f"{NAMED}probe/": [({}, 1, 3)],
    f"{NAMED}forget/": [({}, 1, 3)],
}
SEARCH_CACHE_ACTS: dict[str, list[tuple[Pressed, int, int]]] = {
    "searchcache/clear/": [
        ({"mode": "hard"}, 6, 5),
        ({"mode": "soft"}, 6, 5),
        ({"mode": "tags", "tags": "a, b"}, 2, 4),
    ],
    "searchcache/undo/": [({}, 2, 6)],
}
ACTS = [
    pytest.param(route, *row, id=f"{route}-{number}")
    for route, rows in {**BREAKER_ACTS, **SEARCH_CACHE_ACTS}.items()
    for number, row in enumerate(rows)
]


@pytest.fixture
def operator(client: Any, superuser: Any) -> Any:
    client.force_login(superuser)
    return client


def create(number: int) -> None:
    """Create as many breakers, the first one open, in a store that knows all scripts."""
    trip(NAMES[0])
    operator_store().forget("nobody", generation="")
    operator_store().load_many([NAMES[0]])
    operator_store().survey([], keep_for=None)
    moves = [Move(name=name, expected=None, new=new_record()) for name in NAMES[1:number]]
    operator_store().compare_and_set(moves)


def address(route: str) -> str:
    if "<uuid" in route:
        route = route.replace("<uuid:operation_id>", str(record().pk))
    return url(route.replace("<str:name>", NAMES[0]))


def press(client: Any, route: str, pressed: Pressed) -> Any:
    generation = services.describe_breaker(NAMES[0]).status.generation
    given = {"expected_generation": generation, **pressed} if "<str:name>" in route else pressed
    with round_trips() as sent:
        page = client.post(address(route), given)
    assert page.status_code == 200
    return page, sent["trips"]


@pytest.mark.parametrize("route", PAGES)
@pytest.mark.parametrize("registered", [3, 100])
def test_a_page_costs(operator: Any, route: str, registered: int) -> None:
    create(registered)
    at = address(route)
    operator.get(at)
    with round_trips() as sent:
        operator.get(at)
    assert sent["trips"] == PAGES[route]


@pytest.mark.parametrize(("route", "pressed", "asking", "acting"), ACTS)
def test_an_act_costs(
    operator: Any, route: str, pressed: Pressed, asking: int, acting: int
) -> None:
    create(100)
    services.clear_search_cache(actor=SHELL, mode="soft")
    press(operator, route, pressed)
    page, trips = press(operator, route, pressed)
    fields = inputs(page, address(route))
    names = dict.fromkeys(name for name, _ in fields)
    confirmed = {name: [value for key, value in fields if key == name] for name in names}
    with round_trips() as sent:
        answer = operator.post(address(route), {**confirmed, "for_seconds": "900"})
    assert answer.status_code == 302
    assert Operation.objects.latest("started_at").status == "done"
    assert (trips, sent["trips"]) == (asking, acting)


@pytest.mark.parametrize("number", [1, 100])
@pytest.mark.parametrize("route", [f"{TICKED}reset/", f"{TICKED}control/"])
def test_among_many_the_page_about_some_costs_no_more(
    operator: Any, route: str, number: int
) -> None:
    create(250)
    _page, trips = press(operator, route, {**HOLD, "names": NAMES[-number:]})
    assert trips == 1


@pytest.mark.parametrize("only_open", [{}, {"only_open": "True"}])
def test_among_many_the_page_about_all_first_asks_which_there_are(
    operator: Any, only_open: Pressed
) -> None:
    create(250)
    _page, trips = press(operator, "circuitbreaker/reset/", only_open)
    assert trips == 2


def test_the_table_is_about_every_page() -> None:
    assert {*PAGES, *BREAKER_ACTS, *SEARCH_CACHE_ACTS} == set(console_routes())
