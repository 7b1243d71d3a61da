"""The OpenAPI document, and whether an answer of the API is as it says."""

import json
from copy import deepcopy
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.tools.openapi.generator import PATH

DOCUMENT = json.loads(PATH.read_text())
ENDPOINTS = [
    (method.upper(), route) for route, item in DOCUMENT["paths"].items() for method in item
]
PROTECTED = {it for it in ENDPOINTS if "security" in DOCUMENT["paths"][it[1]][it[0].lower()]}

formats = FormatChecker(["uuid"])


@formats.checks("date-time", ValueError)
def has_zone(value: Any) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def documented(method: str, route: str) -> dict[str, Any]:
    return DOCUMENT["paths"][route][method.lower()]


def response_of(method: str, route: str, status: int) -> dict[str, Any]:
    """Return what the document says of an answer, which may be said for several endpoints."""
    said = documented(method, route)["responses"][str(status)]
    named = said.get("$ref", "").rpartition("/")[2]
    return DOCUMENT["components"]["responses"][named] if named else said


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Return what finds faults, also fields that the document does not know."""
    closed = deepcopy(schema)
    close(closed)
    whole = {**closed, "components": closed_components()}
    return Draft202012Validator(whole, format_checker=formats)


@cache
def closed_components() -> dict[str, Any]:
    components: dict[str, Any] = deepcopy(DOCUMENT["components"])
    close(components)
    return components


def close(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for inner in schema.values():
            close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            close(inner)


def assert_as_documented(answer: Any, said: dict[str, Any]) -> None:
    """Check an answer's body and headers against what is said of it."""
    ((media_type, content),) = said["content"].items()
    assert answer.headers["Content-Type"].split(";")[0] == media_type
    body = answer.json() if media_type == "application/json" else answer.text
    faults = [
        f"{it.json_path}: {it.message}" for it in validator(content["schema"]).iter_errors(body)
    ]
    assert faults == [], body
    assert answer.headers["Cache-Control"] == "no-store"
    headers = said.get("headers", {})
    for name, header in headers.items():
        assert name in answer.headers or not header.get("required"), name
        if name in answer.headers:
            value = answer.headers[name]
            is_number = header["schema"].get("type") == "integer"
            validator(header["schema"]).validate(int(value) if is_number else value)
    ours = {"X-Operation-Id", "ETag", "Retry-After", "WWW-Authenticate"}
    assert ours & set(answer.headers) <= set(headers)
