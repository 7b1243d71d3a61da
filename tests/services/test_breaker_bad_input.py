"""Breakers' services and endpoints, given arguments that cannot be: no operation."""

import math
from inspect import signature
from typing import Any
from uuid import uuid4

import pytest

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, OperationRejected, UnknownBreakers
from analytics_admin.services.errors import BreakerChanged
from tests.support.api import assert_error, nothing_changes
from tests.support.breakers import another, trip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

NAME = "bad.one"
SHELL = Actor.system("root", channel="command")
NO_TEXTS = (None, 5, 1.5, True, b"bad.one", ["bad.one"], {"bad.one": 1})
NO_FLAGS = (None, 0, 1, "", "false", "true", [], math.nan)
NO_NAMES = (
    "",
    " ",
    "bad.nope",
    "bad.one ",
    "BAD.ONE",
    "bad.one\n",
    "\0",
    "\u202e",
    "é",
    "x" * 5000,
)
HALF_A_PAIR = "\ud800"


@pytest.fixture(autouse=True)
def _breakers():
    trip(NAME)
    another("bad.two").acquire().succeed()


# What each parameter of the services is given, by the error that answers it.
NAMED = {TypeError: NO_TEXTS, UnknownBreakers: (*NO_NAMES, HALF_A_PAIR)}
SEVERAL = {
    TypeError: (NAME, b"bad.one", 5, [None], [5], [[NAME]], [NAME, None]),
    OperationRejected: ([], (), {}),
    UnknownBreakers: (["bad.nope"], [NAME, "bad.nope"], [""], [HALF_A_PAIR], ["a", "b"]),
}
REASON = {TypeError: NO_TEXTS, OperationRejected: ("x" * 501, "a\0b", HALF_A_PAIR)}
FLAG = {TypeError: NO_FLAGS}
GENERATION = {
    TypeError: (5, 1.5, True, b"x", ["x"], {NAME: 5}, {5: "x"}),
    ValueError: ({"bad.two": "x"}, {NAME: "x", "bad.nope": "y"}),
}
CONTROL = {
    OperationRejected: (*NO_TEXTS, "", "open", "closed", "DISABLED", "disabled ", HALF_A_PAIR)
}
SECONDS = {
    OperationRejected: (
        "900",
        "ever",
        "",
        True,
        [],
        {},
        0,
        -1,
        -0.0,
        1e9,
        10**400,
        math.nan,
        -math.inf,
    )
}
CHOICE = {ValueError: ("", "ajar", "OPEN", 5, True, ["open"], b"open", HALF_A_PAIR)}
NUMBER = {TypeError: ("1", "", 1.5, None, True, [], math.nan), ValueError: (0, -1, -(10**30))}
SEARCH = {TypeError: NO_TEXTS}
OPERATION_ID = {TypeError: ("", "abc", str(uuid4()), 5, True, uuid4().bytes, [uuid4()])}
COMMON = {
    "reason": REASON,
    "dry_run": FLAG,
    "expected_generation": GENERATION,
    "operation_id": OPERATION_ID,
}

SERVICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "list_breakers": ({}, {"state": CHOICE, "search": SEARCH, "sort": CHOICE}),
    "page_breakers": (
        {},
        {
            "state": CHOICE,
            "search": SEARCH,
            "sort": {ValueError: (*CHOICE[ValueError], None)},
            "page": NUMBER,
            "page_size": {**NUMBER, ValueError: (0, -1, 101, 10**30)},
            "activity": FLAG,
            "processes": FLAG,
        },
    ),
    "describe_breaker": ({}, {"name": NAMED}),
    "reset_circuit_breakers": (
        {"names": [NAME], "actor": SHELL},
        {
            "names": SEVERAL,
            "only_open": FLAG,
            "previewed": {TypeError: SEVERAL[TypeError]},
            **COMMON,
        },
    ),
    "set_breaker_control": (
        {"name": NAME, "control": "disabled", "actor": SHELL},
        {"name": NAMED, "control": CONTROL, "for_seconds": SECONDS, **COMMON},
    ),
    "set_breaker_controls": (
        {"names": [NAME], "control": "disabled", "actor": SHELL},
        {
            "names": {**SEVERAL, TypeError: (*SEVERAL[TypeError], None)},
            "control": CONTROL,
            "for_seconds": SECONDS,
            **COMMON,
        },
    ),
    "forget_breaker": ({"name": NAME, "actor": SHELL}, {"name": NAMED, **COMMON}),
    "allow_probe": ({"name": NAME, "actor": SHELL}, {"name": NAMED, **COMMON}),
}


def outcome(ask, *args, **given):
    """Return the name of the error, if it has words, or what came of it."""
    try:
        return f"done: {ask(*args, **given)}"
    except Exception as error:
        return type(error).__name__ if str(error).strip() else f"{error!r} without words"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_what_is_wrong_and_does_nothing(service):
    ask = getattr(services, service)
    given, parameters = SERVICES[service]
    with nothing_changes():
        for parameter, errors in parameters.items():
            for error, values in errors.items():
                answers = {repr(it): outcome(ask, **{**given, parameter: it}) for it in values}
                assert answers == dict.fromkeys(answers, error.__name__), parameter


NO_GENERATIONS = ["stale", "", "\0", "'; --", "x" * 5000, HALF_A_PAIR]


@pytest.mark.parametrize(
    "service",
    ["reset_circuit_breakers", "set_breaker_control", "forget_breaker", "allow_probe"],
)
def test_a_generation_that_the_breaker_is_not_at_moves_nothing_and_is_on_record(
    service,
):
    given, _ = SERVICES[service]
    with nothing_changes(rows=len(NO_GENERATIONS)):
        for generation in NO_GENERATIONS:
            with pytest.raises(BreakerChanged):
                getattr(services, service)(**given, expected_generation=generation)
    assert {row.status for row in Operation.objects.all()} == {"failed"}


def test_every_parameter_of_every_service_is_in_the_table():
    for service, (_, parameters) in SERVICES.items():
        known = set(signature(getattr(services, service)).parameters) - {"actor"}
        assert set(parameters) == known, service


LIST = "/api/v1/analytics/circuit-breakers"
TEXTS_IN_JSON = (None, 5, 1.5, True, ["x"], {"x": 1})
FLAGS_IN_JSON = (None, 0, 1, "", "false", [], {})
BODY = {"reason": (*TEXTS_IN_JSON, "x" * 501, "a\0b"), "dry_run": FLAGS_IN_JSON, "resaon": ("x",)}
ENDPOINTS: dict[str, tuple[str, str, dict[str, Any], dict[str, tuple[Any, ...]]]] = {
    "reset all": (
        "POST",
        f"{LIST}/reset",
        {},
        {
            **BODY,
            "names": (None, NAME, [], {}, [5], [None], [""], ["x" * 101], ["a\0"], 5, True),
            "only_open": FLAGS_IN_JSON,
        },
    ),
    "reset": ("POST", f"{LIST}/{NAME}/reset", {}, {**BODY, "names": ([NAME],)}),
    "control": (
        "PUT",
        f"{LIST}/{NAME}/control",
        {"control": "disabled"},
        {
            **BODY,
            "control": (*TEXTS_IN_JSON, "", "open", "DISABLED"),
            "for_seconds": (None, "900", "", "EVER", True, [], {}, 0, -1, 1e9, 10**400),
        },
    ),
    "probe": ("POST", f"{LIST}/{NAME}/probe", {}, {**BODY, "names": ([NAME],)}),
    "forget": ("DELETE", f"{LIST}/{NAME}", {}, {**BODY, "names": ([NAME],)}),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_names_the_wrong_field_and_does_nothing(send, settings, endpoint):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": None}}
    method, path, given, parameters = ENDPOINTS[endpoint]
    with nothing_changes():
        for parameter, values in parameters.items():
            for value in values:
                answer = send(method, path, {**given, parameter: value})
                assert_error(answer, 400, "invalid", parameter)


NO_TAGS = [
    *("", " ", ",", "stale", '"open', '"a" b', '"a""b"', '*, "a"', "w/x", 'w/"a"', "%00", "'a'"),
]


@pytest.mark.parametrize("endpoint", ["reset", "control", "probe", "forget"])
def test_an_endpoint_says_so_when_if_match_means_nothing(send, settings, endpoint):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": None}}
    method, path, given, _ = ENDPOINTS[endpoint]
    with nothing_changes():
        for tags in NO_TAGS:
            answer = send(method, path, given, **{"If-Match": tags})
            assert_error(answer, 400, "invalid", "If-Match")


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("state", ("", "ajar", "OPEN", "open,closed", "%00", "%ff")),
        ("search", ("%00", "x" * 101)),
        ("sort", ("", "size", "NAME", "-name", "%00")),
        ("page", ("", "0", "-1", "1.5", "one", "%00", "9" * 30, "0x1")),
        ("page_size", ("", "0", "-1", "101", "1.5", "all", "%00", "9" * 30)),
        ("limit", ("5",)),
    ],
)
def test_the_list_names_the_wrong_option(send, parameter, values):
    with nothing_changes():
        for value in values:
            assert_error(send("GET", f"{LIST}?{parameter}={value}"), 400, "invalid", parameter)


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/reset"), ("PUT", "/control")]
)
def test_a_name_in_a_path_that_nobody_registered_is_404(send, method, suffix):
    body = {"control": "disabled"} if suffix == "/control" else None
    unknown = ("bad.nope", "BAD.ONE", "bad.one%20", "bad.one%0A", "%00", "%ff", "é", "x" * 5000)
    with nothing_changes():
        for name in (*unknown, "*"):
            answer = send(method, f"{LIST}/{name}{suffix}", body)
            assert_error(answer, 404, "unknown_breaker")
