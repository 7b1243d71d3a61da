"""No page of the console, and no operation, asks the stores more than a few times.

Counted are the questions, once the page has been looked at before: the breakers' store knows the
scripts by then. However many breakers there are, they are no more.
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
CLEAR = "searchcache/clear/"
HOLD = {"control": "disabled", "for_seconds": "900"}
RELEASE = {**HOLD, "control": "automatic"}
NAMES = [f"b.{number:03}" for number in range(250)]

MAX_FOR_A_PAGE = 2
MAX_FOR_A_CLEARS_PREVIEW = 5
"""It counts keys and memory in the store that is to be cleared."""
MAX_FOR_AN_UNDOS_PREVIEW = 3
"""A rehearsal sends nothing before the server has begun a transaction that will be discarded."""
MAX_FOR_A_PREVIEW = {
    CLEAR: MAX_FOR_A_CLEARS_PREVIEW,
    "searchcache/undo/": MAX_FOR_AN_UNDOS_PREVIEW,
}
MAX_FOR_AN_OPERATION = 5
"""One of them asks the store which copies of its data it has."""
MAX_FOR_A_CLEAR = 7
"""It makes sure first that a dedicated database is the cache's alone, and may be flushed."""

PAGES = [
    "circuitbreaker/",
    NAMED,
    "searchcache/",
    "operation/",
    "operation/export/",
    "operation/<uuid:operation_id>/",
    "operation/<uuid:operation_id>/change/",
]
Pressed = dict[str, Any]
"""What the button sends."""
OPERATIONS: dict[str, list[Pressed]] = {
    "circuitbreaker/reset/": [{}, {"only_open": "True"}],
    f"{TICKED}reset/": [{"names": NAMES[:1]}, {"names": NAMES[:100]}],
    f"{TICKED}control/": [
        {**HOLD, "names": NAMES[:1]},
        {**HOLD, "names": NAMES[:100]},
        {**RELEASE, "names": NAMES[:100]},
    ],
    f"{NAMED}reset/": [{}],
    f"{NAMED}control/": [HOLD, RELEASE],
    f"{NAMED}probe/": [{}],
    f"{NAMED}forget/": [{}],
    CLEAR: [{"mode": "hard"}, {"mode": "soft"}, {"mode": "tags", "tags": "a, b"}],
    "searchcache/undo/": [{}],
}


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
    return page, sent["questions"]


@pytest.mark.parametrize("route", PAGES)
@pytest.mark.parametrize("registered", [3, 250])
def test_a_page_asks_twice_at_most(operator: Any, route: str, registered: int) -> None:
    create(registered)
    at = address(route)
    operator.get(at)
    with round_trips() as sent:
        operator.get(at)
    assert sent["questions"] <= MAX_FOR_A_PAGE


@pytest.mark.parametrize(
    ("route", "pressed"),
    [(route, pressed) for route, requests in OPERATIONS.items() for pressed in requests],
)
def test_an_operation_and_its_confirm_page_ask_a_few_times_at_most(
    operator: Any, route: str, pressed: Pressed
) -> None:
    create(250)
    services.clear_search_cache(actor=SHELL, mode="soft")
    press(operator, route, pressed)
    page, asked = press(operator, route, pressed)
    fields = inputs(page, address(route))
    names = dict.fromkeys(name for name, _ in fields)
    confirmed = {name: [value for key, value in fields if key == name] for name in names}
    with round_trips() as sent:
        answer = operator.post(address(route), {**confirmed, "for_seconds": "900"})
    assert answer.status_code == 302
    assert Operation.objects.latest("started_at").status == "done"
    assert asked <= MAX_FOR_A_PREVIEW.get(route, MAX_FOR_A_PAGE)
    assert sent["questions"] <= (MAX_FOR_A_CLEAR if route == CLEAR else MAX_FOR_AN_OPERATION)


def test_every_page_is_counted() -> None:
    assert {*PAGES, *OPERATIONS} == set(console_routes())
