"""Who may do what, as two tables: each address x each kind of user x each method.

The addresses are read from the URLs: one without a row fails here, and so does a row without one.
"""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.core.management import call_command
from django.test import Client

from analytics_admin.models import Operation
from analytics_admin.permissions import VIEW_CONSOLE, permission_of
from analytics_admin.services import describe_breaker
from analytics_admin.tokens import issue_access_token, issue_refresh_token
from tests.support.operations import (
    BODIES,
    CLICKS,
    METHODS,
    call,
    click,
    denied,
    everything_that_acts_want,
    stage,
    state,
)
from tests.support.routes import SECTION, api_routes, console_routes, example

# By column: not staff and therefore out of the admin; staff with the permissions named; superuser.
WHO = {
    "anonymous": None,
    "plain": {},
    "inactive": {"is_superuser": True, "is_staff": True, "is_active": False},
    "no_staff": {"is_superuser": True},
    "staff": {"is_staff": True},
    "view": {"is_staff": True, "holds": ["view_console"]},
    "clear": {"is_staff": True, "holds": ["clear_search_cache"]},
    "reset": {"is_staff": True, "holds": ["reset_circuit_breakers"]},
    "control": {"is_staff": True, "holds": ["control_circuit_breakers"]},
    "v+clear": {"is_staff": True, "holds": ["view_console", "clear_search_cache"]},
    "v+reset": {"is_staff": True, "holds": ["view_console", "reset_circuit_breakers"]},
    "v+control": {"is_staff": True, "holds": ["view_console", "control_circuit_breakers"]},
    "super": {"is_superuser": True, "is_staff": True},
}

STAFF = {"staff", "view", "clear", "reset", "control", "v+clear", "v+reset", "v+control", "super"}

# Under REQUIRE_MODEL_PERMISSIONS: "-" is sent to the login, "x" gets 403, "r" may look, "A" may
# act. Without that setting all staff are as the superuser, here and in the REST API.
CONSOLE = """
address                                 kind  anonymous plain inactive no_staff  staff view clear reset control  v+clear v+reset v+control  super
searchcache/                            page      -       -       -       -        x    r     x     x      x        r       r        r        r
searchcache/clear/                      act       -       -       -       -        x    r     x     x      x        A       r        r        A
searchcache/undo/                       act       -       -       -       -        x    r     x     x      x        A       r        r        A
circuitbreaker/                         page      -       -       -       -        x    r     x     x      x        r       r        r        r
circuitbreaker/reset/                   act       -       -       -       -        x    r     x     x      x        r       A        r        A
circuitbreaker/-/reset/                 act       -       -       -       -        x    r     x     x      x        r       A        r        A
circuitbreaker/-/control/               act       -       -       -       -        x    r     x     x      x        r       r        A        A
circuitbreaker/<str:name>/              page      -       -       -       -        x    r     x     x      x        r       r        r        r
circuitbreaker/<str:name>/control/      act       -       -       -       -        x    r     x     x      x        r       r        A        A
circuitbreaker/<str:name>/reset/        act       -       -       -       -        x    r     x     x      x        r       A        r        A
circuitbreaker/<str:name>/probe/        act       -       -       -       -        x    r     x     x      x        r       r        A        A
circuitbreaker/<str:name>/forget/       act       -       -       -       -        x    r     x     x      x        r       r        A        A
operation/                              list      -       -       -       -        x    r     x     x      x        r       r        r        r
operation/export/                       rows      -       -       -       -        x    r     x     x      x        r       r        r        r
operation/<uuid:operation_id>/          page      -       -       -       -        x    r     x     x      x        r       r        r        r
operation/<uuid:operation_id>/change/   gone      -       -       -       -        x    r     x     x      x        r       r        r        r
"""  # noqa: E501

# What an address of a kind answers to a right: to GET and HEAD, POST, a confirmed POST, any other.
ANSWERS = {
    ("page", "r"): ("ok", "405", "405", "405"),
    ("act", "r"): ("away", "403", "403", "405"),
    ("act", "A"): ("away", "ok", "away", "405"),
    ("rows", "r"): ("ok", "405", "405", "405"),
    ("gone", "r"): ("away", "405", "405", "405"),
    ("list", "r"): ("ok", "ok", "ok", "ok"),  # Django's own
}

# "-" gets 401, "x" 403, "A" what is asked for; by any other method everybody gets 405.
REST = """
address                                         method    anonymous plain inactive no_staff  staff view clear reset control  v+clear v+reset v+control  super
analytics/cache                                 GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
analytics/cache/clear                           POST          -       x       -       A        x    x     A     x      x        A       x        x        A
analytics/cache/undo                            POST          -       x       -       A        x    x     A     x      x        A       x        x        A
analytics/circuit-breakers                      GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
analytics/circuit-breakers/reset                POST          -       x       -       A        x    x     x     A      x        x       A        x        A
analytics/circuit-breakers/control              PUT           -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/circuit-breakers/probe                POST          -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/circuit-breakers/forget               POST          -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/circuit-breakers/<str:name>           GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
analytics/circuit-breakers/<str:name>           DELETE        -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/circuit-breakers/<str:name>/reset     POST          -       x       -       A        x    x     x     A      x        x       A        x        A
analytics/circuit-breakers/<str:name>/control   PUT           -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/circuit-breakers/<str:name>/probe     POST          -       x       -       A        x    x     x     x      A        x       x        A        A
analytics/processes                             GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
analytics/operations                            GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
analytics/operations/<uuid:operation_id>        GET,HEAD      -       x       -       A        x    A     x     x      x        A       A        A        A
docs                                            GET,HEAD      A       A       A       A        A    A     A     A      A        A       A        A        A
schema                                          GET,HEAD      A       A       A       A        A    A     A     A      A        A       A        A        A
auth/token                                      POST          A       A       A       A        A    A     A     A      A        A       A        A        A
auth/token/refresh                              POST          A       A       A       A        A    A     A     A      A        A       A        A        A
"""  # noqa: E501


ACTS = {"POST", "PUT", "DELETE"}
ANSWERED = {"-": 401, "x": 403, "A": 200, "": 405}


def read(table: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return a table's cells by row (its first two words) and column."""
    head, *rows = [line.split() for line in table.strip().splitlines()]
    assert head[2:] == list(WHO)
    return {(row[0], row[1]): dict(zip(head[2:], row[2:], strict=True)) for row in rows}


CONSOLE_ROWS, REST_ROWS = read(CONSOLE), read(REST)


@pytest.fixture
def required(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "REQUIRE_MODEL_PERMISSIONS": request.param,
        "THROTTLE_RATES": {"write": None, "login": None},
    }
    return bool(request.param)


# Without the setting nobody looks at what staff hold.
UNREQUIRED = [who for who, options in WHO.items() if "holds" not in (options or {})]
USERS = [*((who, True) for who in WHO), *((who, False) for who in [*UNREQUIRED, "v+clear"])]
every_user = pytest.mark.parametrize(("who", "required"), USERS, indirect=["required"])


@pytest.fixture
def superuser(db: None) -> Any:
    return make("super")


@pytest.fixture
def user(who: str, superuser: Any) -> Any:
    """Whom a column is of; None for who has not signed in."""
    return superuser if who == "super" else None if WHO[who] is None else make(who)


def make(who: str) -> Any:
    options: dict[str, Any] = WHO[who] or {}
    fields = {key: value for key, value in options.items() if key != "holds"}
    user = get_user_model().objects.create_user(who, password="pw", **fields)
    held = Permission.objects.filter(codename__in=options.get("holds", []))
    user.user_permissions.set(held)
    return user


def rights(cells: dict[str, str], *, required: bool) -> dict[str, str]:
    """Return a row's cells as the setting has them."""
    return cells if required else cells | dict.fromkeys(STAFF, cells["super"])


def test_every_address_of_the_console_has_a_row():
    assert sorted({address for address, _ in CONSOLE_ROWS}) == sorted(console_routes())


def test_every_address_of_the_rest_api_has_a_row():
    assert sorted({address for address, _ in REST_ROWS}) == sorted({*api_routes()} - {"…"})


def test_every_permission_has_its_columns():
    acts = {VIEW_CONSOLE, *Operation.Kind} - BY_COMMAND
    codenames = {permission_of(act).split(".")[1] for act in acts}
    held = [frozenset(options.get("holds", [])) for options in WHO.values() if options]
    assert {frozenset({name}) for name in codenames} <= set(held)
    assert {frozenset({name, "view_console"}) for name in codenames} <= set(held)


BY_COMMAND = {Operation.Kind.REVOKE_TOKENS, Operation.Kind.PRUNE_OPERATIONS}
"""Operations that no address does, so that no column is about their permission."""
OTHERS = ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]
"""Methods that are dealt among the users of the same right at an address."""


def dealt(who: str, *, required: bool, cells: dict[str, str]) -> set[str]:
    """Return those of the OTHERS that are this user's part at this address."""
    alike = [
        (it, setting)
        for it, setting in USERS
        if rights(cells, required=setting)[it] == rights(cells, required=required)[who]
    ]
    turn = alike.index((who, required))
    return {it for number, it in enumerate(OTHERS) if (number - turn) % min(len(alike), 5) == 0}


@pytest.mark.lengthy
@every_user
def test_the_console_lets_look_and_act_whom_the_table_says(who, user, required):
    client = Client()
    if user is not None:
        client.force_login(user)
    wrong = []
    operation, before = stage(), state()
    for (address, kind), cells in CONSOLE_ROWS.items():
        right = rights(cells, required=required)[who]
        url = SECTION + example(address, operation)
        sent = {} if kind in {"list", "rows"} else everything_that_acts_want()
        omitted = {*OTHERS} - dealt(who, required=required, cells=cells)
        methods = [method for method in CLICKS if method not in omitted]
        expected = {method: expected_of_console(kind, right, method) for method in methods}
        given = {method: outcome(click(client, method, url, sent)) for method in methods[:-1]}
        changed = state() != before
        given["CONFIRM"] = outcome(click(client, "CONFIRM", url, sent))
        acted, refused = (state() != before), denied()
        if given != expected or changed or acted is not (right == "A"):
            wrong.append((address, given, expected, changed, acted))
        if refused != (2 if kind == "act" and expected["POST"] == "403" else 0):
            wrong.append((address, "rows of refused acts", refused))
        if acted:
            operation, before = stage(), state()
    assert wrong == []


def expected_of_console(kind: str, right: str, method: str) -> str:
    if right in {"-", "x"}:
        return {"-": "login", "x": "403"}[right]
    look, press, confirm, other = ANSWERS[kind, right]
    return {"GET": look, "HEAD": look, "POST": press, "CONFIRM": confirm}.get(method, other)


def outcome(answer: Any) -> str:
    if answer.status_code in {301, 302}:
        return "login" if answer.url.startswith("/admin/login/?next=") else "away"
    return "ok" if answer.status_code == 200 else str(answer.status_code)


@every_user
def test_the_rest_api_answers_whom_the_table_says(who, user, superuser, required):
    headers = {"Authorization": f"Bearer {issue_access_token(user)}"} if user else {}
    bodies = {**BODIES, "auth/token/refresh": {"refresh": issue_refresh_token(superuser)}}

    def answer_of(address, method):
        return call(method, address, bodies.get(address, {}), headers, operation).status_code

    wrong = []
    operation, before = stage(), state()
    turn = USERS.index((who, required))
    for number, address in enumerate(dict.fromkeys(address for address, _ in REST_ROWS)):
        allowed = {it: right_in_rest(address, it, who, required=required) for it in METHODS}
        # Who asks by a method that nobody may use is no matter: each user takes one of them. And
        # every other user takes HEAD, which is a GET.
        refused_to_all = [it for it in METHODS if not allowed[it]]
        left_out = {*refused_to_all} - {refused_to_all[(turn + number) % len(refused_to_all)]}
        if (turn + number) % 2:
            left_out |= {"HEAD"} - {*refused_to_all}
        allowed = {it: right for it, right in allowed.items() if it not in left_out}
        # The one that acts, if any does, comes last: what the others leave is looked at before.
        act = [it for it in allowed if allowed[it] and it in ACTS and "analytics/" in address]
        given = {it: answer_of(address, it) for it in allowed if it not in act}
        changed, strayed = state() != before, denied()
        given |= {it: answer_of(address, it) for it in act}
        acted, refused = (state() != before, denied()) if act else (changed, 0)
        expected = {it: ANSWERED[right] for it, right in allowed.items()}
        if given != expected or changed or acted is not ([allowed[it] for it in act] == ["A"]):
            wrong.append((address, given, expected, changed, acted))
        if strayed or refused != [allowed[it] for it in act].count("x"):
            wrong.append((address, "rows of refused acts", strayed, refused))
        if acted:
            operation, before = stage(), state()
    assert wrong == []


def right_in_rest(address: str, method: str, who: str, *, required: bool) -> str:
    """Return the cell of the table; nothing where the address does not take the method."""
    for (named, methods), cells in REST_ROWS.items():
        if named == address and method in methods.split(","):
            return rights(cells, required=required)[who]
    return ""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONFIRM"])
def test_without_its_csrf_token_nothing_is_taken_from_anybody(method, superuser):
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    operation, before = stage(), state()
    for address, _ in CONSOLE_ROWS:
        url = SECTION + example(address, operation)
        answer = click(client, method, url, everything_that_acts_want())
        assert answer.status_code == 403, address
        assert "CSRF" in answer.text, address
    assert (state(), denied()) == (before, 0)


@pytest.mark.parametrize("required", [True], indirect=True)
@pytest.mark.usefixtures("required", "db")
def test_commands_ask_for_no_permission():
    before = stage() and state()
    call_command("clear_search_cache", "--no-input", stdout=StringIO())
    call_command("reset_circuit_breakers", "--no-input", stdout=StringIO())
    assert caches["search"].get("query") is None
    assert state() != before
    assert describe_breaker("guarded").status.state == "closed"
