"""Every endpoint responds as the OpenAPI document says, with each of its statuses."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as site
from django.core.cache import caches
from django.db import DatabaseError
from django.test import Client

from analytics_admin.models import Operation
from analytics_admin.services import Actor, clear_search_cache, set_breaker_control
from analytics_admin.tokens import issue_refresh_token
from tests.support.breakers import another
from tests.support.openapi_document import (
    DOCUMENT,
    ENDPOINTS,
    PROTECTED,
    assert_as_documented,
    documented,
    response_of,
    validator,
)
from tests.support.operations import stage
from tests.support.routes import API
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db

BODIES = {
    "/analytics/circuit-breakers/{name}/control": {"control": "disabled"},
    "/analytics/circuit-breakers/control": {"control": "disabled", "names": ["guarded"]},
    "/analytics/circuit-breakers/probe": {"names": ["guarded"]},
    "/analytics/circuit-breakers/forget": {"names": ["guarded"]},
    "/auth/token": {"username": "admin", "password": "pw-admin"},
}
PASSWORD = "hunter2-of-the-store"


@pytest.fixture
def send(mint, superuser, plain_user):
    """Send a request as the document describes it; ``prepare`` it otherwise by keywords."""
    prepared = SimpleNamespace(operation=stage())

    def send(
        method: str,
        route: str,
        *,
        sub: str | None = "admin",
        body: Any = None,
        content_type: str = "application/json",
        name: str = "guarded",
        operation: Any = None,
        query: str = "",
        **headers: str,
    ) -> Any:
        body = BODIES.get(route) if body is None else body
        if body is None and route == "/auth/token/refresh":
            body = {"refresh": issue_refresh_token(superuser)}
        content = body if isinstance(body, bytes) else json.dumps(body) if body else ""
        url = route.format(name=name, operation_id=operation or prepared.operation) + query
        if sub is not None and (method, route) in PROTECTED:
            headers["Authorization"] = f"Bearer {mint(sub)}"
        return Client().generic(
            method,
            API.rstrip("/") + url,
            content,
            content_type=content_type,
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )

    return send


# How to come by each answer; `world` can change settings and break things.


def done(send, world, method, route):
    return send(method, route)


def nonsense(send, world, method, route):
    if method == "GET":
        return send(method, route, query="?nonsense=1")
    return send(method, route, body={"nonsense": True})


def unknown_caller(send, world, method, route):
    if route == "/auth/token":
        return send(method, route, body={"username": "admin", "password": "wrong"})
    if route == "/auth/token/refresh":
        return send(method, route, body={"refresh": "wrong"})
    return send(method, route, sub=None)


def no_operator(send, world, method, route):
    return send(method, route, sub="una")


def not_there(send, world, method, route):
    if method in {"POST", "PUT"} and "{name}" not in route:
        return send(method, route, body={**(BODIES.get(route) or {}), "names": ["nope"]})
    unknown = "00000000-0000-4000-8000-000000000000"
    return send(
        method, route, name="nope", operation=unknown, query="?page=99" if page_of(route) else ""
    )


def page_of(route: str) -> bool:
    return route in {"/analytics/circuit-breakers", "/analytics/operations"}


def in_the_way(send, world, method, route):
    if route.endswith("/undo"):
        clear_search_cache(actor=Actor.system("before"))
    elif route.endswith("/probe"):
        another("guarded.closed").acquire().succeed()
        body = {"names": ["guarded.closed"]} if route in BODIES else None
        return send(method, route, name="guarded.closed", body=body)
    elif method != "DELETE" and not route.endswith("/forget"):
        assert send(method, route, Idempotency_Key="once").status_code == 200
        Operation.objects.update(status="started")
        return send(method, route, Idempotency_Key="once")
    else:
        set_breaker_control(name="guarded", control="disabled", actor=Actor.system("before"))
    return send(method, route)


def another_body(send, world, method, route):
    assert send(method, route, Idempotency_Key="once").status_code == 200
    body = {**(BODIES.get(route) or {}), "reason": "another"}
    return send(method, route, body=body, Idempotency_Key="once")


def chunked(send, world, method, route):
    return send(method, route, Transfer_Encoding="chunked")


def stale(send, world, method, route):
    return send(method, route, If_Match='"stale"')


def large(send, world, method, route):
    return send(method, route, body=b" " * (64 * 1024 + 1))


def not_json(send, world, method, route):
    return send(method, route, body=b"reason: none", content_type="text/plain")


def often(send, world, method, route):
    world.setting("THROTTLE_RATES", {"write": "1/min", "login": "1/min"})
    send(method, route)
    return send(method, route)


def database_down(send, world, method, route):
    world.lose_database()
    return send(method, route)


def store_down(send, world, method, route):
    world.lose_stores()
    return send(method, route)


PROVOKED = {
    200: done,
    400: nonsense,
    401: unknown_caller,
    403: no_operator,
    404: not_there,
    409: in_the_way,
    411: chunked,
    412: stale,
    413: large,
    415: not_json,
    422: another_body,
    429: often,
    500: database_down,
    503: store_down,
}
ANSWERS = [
    (method, route, int(status))
    for method, route in ENDPOINTS
    for status in documented(method, route)["responses"]
]


@pytest.fixture
def world(settings, monkeypatch, counted_together):
    def setting(key, value):
        settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, key: value}

    def fail(*_, **__):
        raise DatabaseError("connection to db.internal, user hunter2, was lost")

    def lose_database():
        for place in (
            "authentication.user_of",
            "login.exchange_refresh_token",
            "login.authenticate",
        ):
            monkeypatch.setattr(f"analytics_admin.api.{place}", fail)

    def lose_stores():
        address = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/2"
        lost = {name: {**site.CACHES[name], "LOCATION": address} for name in ("search", "breakers")}
        settings.CACHES = {**settings.CACHES, **lost}

    setting("THROTTLE_RATES", {"write": None, "login": None})
    return SimpleNamespace(setting=setting, lose_database=lose_database, lose_stores=lose_stores)


@pytest.mark.parametrize(("method", "route", "status"), ANSWERS)
def test_every_answer_that_is_in_it_is_given_and_is_as_it_says(send, world, method, route, status):
    answer = PROVOKED[status](send, world, method, route)
    assert answer.status_code == status, answer.text
    assert_as_documented(answer, response_of(method, route, status))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_that_is_not_in_it_is_answered_with_its_405(send, world, method):
    spec = DOCUMENT["components"]["responses"]["MethodNotAllowed"]
    for route, item in DOCUMENT["paths"].items():
        if method.lower() not in item:
            answer = send(method, route)
            assert answer.status_code == 405, route
            assert_as_documented(answer, spec)


ACTS = [
    ("POST", "/analytics/cache/clear"),
    ("POST", "/analytics/cache/undo"),
    ("POST", "/analytics/circuit-breakers/reset"),
    ("PUT", "/analytics/circuit-breakers/{name}/control"),
]
WAYS = [
    {"dry_run": True},
    {"mode": "soft"},
    {"mode": "soft", "dry_run": True},
    {"tags": ["products"]},
    {"tags": ["products"], "dry_run": True},
    {"only_open": True},
    {"names": ["guarded"], "reason": "x" * 500},
    {"names": ["guarded"], "dry_run": True},
    {"control": "forced_open", "for_seconds": 900},
    {"control": "metrics_only", "for_seconds": "ever", "dry_run": True},
    {"control": "automatic"},
    {"reason": ""},
    {},
    {"dry_run": "true"},
    {"dry_run": None},
    {"reason": 5},
    {"reason": "x" * 501},
    {"mode": "hardly"},
    {"tags": []},
    {"tags": "products"},
    {"names": []},
    {"names": [5]},
    {"names": ["x" * 101]},
    {"control": "open"},
    {"control": "disabled", "for_seconds": 0},
    {"control": "disabled", "for_seconds": "900"},
    {"control": "disabled", "for_seconds": 1e9},
    {"dry-run": True},
]


@pytest.mark.parametrize(("method", "route"), ACTS)
def test_a_body_is_taken_exactly_if_the_document_takes_it(send, world, method, route):
    schema = documented(method, route)["requestBody"]["content"]["application/json"]["schema"]
    for body in WAYS:
        answer = send(method, route, body=body or b"{}")
        is_valid = validator(schema).is_valid(body)
        assert (answer.status_code != 400) is is_valid, (body, answer.text)
        assert_as_documented(answer, response_of(method, route, answer.status_code))
        if is_valid:
            stage()


QUERIES = [
    "page=1",
    "page=0",
    "page_size=101",
    "state=open",
    "state=ajar",
    "sort=urgency",
    "sort=size",
    "search=x",
    f"search={'x' * 255}",
    "minutes=1440",
    "minutes=1441",
    "kind=undo_clear",
    "kind=x",
    "status=interrupted",
    "status=x",
    "channel=api",
    "channel=x",
    "actor=ada",
    "actor=",
    "since=2026-07-01T22:30:00Z",
    "since=x",
    "until=2026-07-01T22:30:00%2B02:00",
    "until=2026-07-01",
]


@pytest.mark.parametrize("route", [route for method, route in ENDPOINTS if method == "GET"])
def test_an_option_is_taken_exactly_if_the_document_takes_it(send, world, route):
    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in documented("GET", route).get("parameters", ())
    }
    for query in QUERIES:
        name, _, value = query.partition("=")
        is_number = parameters.get(name, {}).get("type") == "integer"
        value = int(value) if is_number else value.replace("%2B", "+")
        taken = name in parameters and validator(parameters[name]).is_valid(value)
        answer = send("GET", route, query=f"?{query}")
        assert (answer.status_code == 200) is taken, (query, answer.text)
        assert_as_documented(answer, response_of("GET", route, answer.status_code))


def test_questions_are_answered_as_it_says_whatever_there_is_to_tell(send, world):
    guarded = "/analytics/circuit-breakers/{name}"
    send("PUT", f"{guarded}/control", body={"control": "metrics_only", "reason": "drill"})
    breaker = another("rated", failure_rate_threshold=50, minimum_number_of_calls=1)
    breaker.acquire().fail(ConnectionError("away"))
    send("POST", "/analytics/cache/clear", body={"tags": ["a"]})
    send("POST", "/analytics/cache/clear", body={"mode": "soft"})
    caches["search"].set("foreign:1", 1)
    for route, options in (
        (guarded, {}),
        (guarded, {"name": "rated"}),
        ("/analytics/circuit-breakers", {"query": "?sort=urgency"}),
        ("/analytics/cache", {"query": "?minutes=3"}),
        ("/analytics/operations", {}),
    ):
        answer = send("GET", route, **options)
        assert answer.status_code == 200
        assert_as_documented(answer, response_of("GET", route, 200))


@pytest.mark.parametrize("method_and_route", sorted(PROTECTED))
def test_with_the_stores_down_every_endpoint_still_answers_as_it_says(
    send, world, method_and_route
):
    world.lose_stores()
    answer = send(*method_and_route)
    assert answer.status_code in {200, 500, 503}
    assert_as_documented(answer, response_of(*method_and_route, answer.status_code))
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    ("key", "value", "status", "code"),
    [("READ_ONLY", True, 403, "read_only"), ("REQUIRE_REASON", True, 400, "reason_required")],
)
def test_what_a_site_forbids_is_in_it_too(send, world, key, value, status, code):
    world.setting(key, value)
    answer = send("POST", "/analytics/cache/clear")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert_as_documented(answer, response_of("POST", "/analytics/cache/clear", status))
