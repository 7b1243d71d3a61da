"""The OpenAPI document: generated from the endpoints, complete and public."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import include, path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings

from tests.support.api import assert_error
from tests.support.openapi_document import DOCUMENT, ENDPOINTS, documented, validator
from tests.support.routes import api_routes
from tests.tools.openapi.errors import ERRORS
from tests.tools.openapi.generator import PATH, as_text, build_document

API = "/api/v1"


def test_the_document_is_the_one_that_the_endpoints_make():
    assert PATH.read_text() == as_text(build_document()), "run: python -m tests.tools.openapi"


def test_every_url_is_in_it_and_nothing_else():
    routes = {re.sub(r"<\w+:(\w+)>", r"{\1}", f"/{route}") for route in api_routes()} - {"/…"}
    assert set(DOCUMENT["paths"]) == routes


EXAMPLES = [
    (method, route, side, example["value"])
    for method, route in ENDPOINTS
    for side, content in (
        ("asked", documented(method, route).get("requestBody", {}).get("content", {})),
        ("answered", documented(method, route)["responses"]["200"]["content"]),
    )
    for media_type in content.values()
    for example in media_type.get("examples", {}).values()
]


@pytest.mark.parametrize(("method", "route", "side", "value"), EXAMPLES)
def test_its_examples_are_valid(method, route, side, value):
    spec = documented(method, route)
    content = (spec["requestBody"] if side == "asked" else spec["responses"]["200"])["content"]
    validator(content["application/json"]["schema"]).validate(value)


def test_the_bodies_of_the_two_buttons_are_exact():
    for route, body in (
        ("/analytics/cache/clear", {"message": "Search cache cleared"}),
        (
            "/analytics/circuit-breakers/reset",
            {"message": "All circuit breakers reset successfully"},
        ),
    ):
        spec = documented("POST", route)["responses"]["200"]["content"]["application/json"]
        assert body in [example["value"] for example in spec["examples"].values()]
        exact = validator(spec["schema"])
        assert exact.is_valid(body)
        assert not exact.is_valid({**body, "count": 1})
        assert not exact.is_valid({"message": body["message"] + "!"})


def test_no_error_is_described_that_nothing_gives():
    used = {
        answer["$ref"].rpartition("/")[2]
        for method, route in ENDPOINTS
        for answer in documented(method, route)["responses"].values()
        if "$ref" in answer
    }
    assert used | {"MethodNotAllowed"} == set(ERRORS) == set(DOCUMENT["components"]["responses"])


def test_every_part_of_it_is_used():
    text = json.dumps(DOCUMENT)
    unused = [
        name
        for name in DOCUMENT["components"]["schemas"]
        if f'"#/components/schemas/{name}"' not in text
    ]
    assert unused == []


@pytest.mark.django_db
def test_anybody_may_read_it_and_nobody_change_it(client):
    answer = client.get(f"{API}/schema")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {**DOCUMENT, "servers": [{"url": API}]}
    assert client.head(f"{API}/schema").content == b""
    assert_error(client.get(f"{API}/schema?format=yaml"), 400, "invalid", "format")
    for method in ("post", "put", "patch", "delete", "options"):
        assert_error(getattr(client, method)(f"{API}/schema"), 405, "method_not_allowed")


def test_it_asks_neither_database_nor_store(client, settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert client.get(f"{API}/schema").status_code == 200  # and pytest lets none ask the database


urlpatterns = [path("shop/operators/", include("analytics_admin.urls"))]


@pytest.mark.urls(__name__)
def test_it_says_where_the_site_has_the_api(client):
    answer = client.get("/shop/operators/schema")
    assert answer.json()["servers"] == [{"url": "/shop/operators"}]
    behind = client.get("/shop/operators/schema", SCRIPT_NAME="/mounted")
    assert behind.json()["servers"] == [{"url": "/mounted/shop/operators"}]


def test_a_sites_own_schema_is_left_alone():
    before = {
        key: getattr(spectacular_settings, key) for key in ("TITLE", "VERSION", "OAS_VERSION")
    }
    build_document()
    own = SchemaGenerator().get_schema(public=True)
    assert (own["paths"], own["openapi"], own["info"]["title"]) == ({}, "3.0.3", "")
    assert not GENERATOR_STATS
    assert {key: getattr(spectacular_settings, key) for key in before} == before


def test_the_app_does_without_the_library_that_writes_the_document():
    code = (
        "import sys; sys.modules['drf_spectacular'] = sys.modules['jsonschema'] = None\n"
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "print(len(Client().get('/api/v1/schema').json()['paths']))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.stdout.strip() == str(len(DOCUMENT["paths"])), process.stderr
