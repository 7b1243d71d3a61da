"""What the REST tests share: the endpoints, one way to call, a look at all that could change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches

from analytics_admin.models import Operation
from tests.support.breakers import rest_engines, trip

CLEAR = "/api/v1/analytics/cache/clear"
RESET = "/api/v1/analytics/circuit-breakers/reset"
TOKEN = "/api/v1/auth/token"
REFRESH = "/api/v1/auth/token/refresh"
ACTS = [CLEAR, RESET]


def call(client, path: str, token: str | None, body: Any = None, **extra: Any) -> Any:
    """POST the body, as JSON unless it is bytes already; none means no body and no content type."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers |= extra.pop("headers", {})
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if body is None:
        content = b""
        extra.setdefault("content_type", "")
    extra.setdefault("content_type", "application/json")
    return client.generic("POST", path, content, headers=headers, **extra)


def contents(alias: str) -> dict[bytes, bytes]:
    """Return every key of the alias' database with its serialised value."""
    client = caches[alias].client.get_client(write=True)
    return {key: client.dump(key) for key in client.scan_iter(count=1000)}


@contextmanager
def nothing_changes(*, rows: int = 0) -> Iterator[None]:
    """Fail when the block changes search cache or breakers, or writes other than so many rows."""
    caches["search"].set("kept", "value")
    trip("kept")
    rest_engines()
    before = contents("search"), contents("breakers"), Operation.objects.count()
    yield
    assert contents("search") == before[0]
    assert contents("breakers") == before[1]
    assert Operation.objects.count() == before[2] + rows


def assert_error(answer: Any, status: int, code: str, *words: str) -> None:
    """Check an error's status, its exact shape, and that its detail has the words."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    body = answer.json()
    assert set(body) == {"detail", "code"}
    assert body["code"] == code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    for word in words:
        assert word in body["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
