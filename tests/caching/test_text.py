"""Answers as the JSON text that is stored, and names of keys that are remembered."""

import asyncio
import gzip
import json
from typing import Any

import pytest
from django.http import HttpRequest, JsonResponse
from django.middleware.common import CommonMiddleware
from django.middleware.gzip import GZipMiddleware
from django.middleware.http import ConditionalGetMiddleware
from django.test import RequestFactory
from rest_framework.views import APIView

from analytics_admin.caching import SearchCache, TextLookup
from analytics_admin.caching.clear import soft
from analytics_admin.caching.keys import MAX_REMEMBERED
from analytics_admin.http import CachedJsonResponse
from tests.support.backend import BackendDown
from tests.support.search_caches import STORES, Backend

pytestmark = STORES
VALUE = {"title": "Kö\n", "numbers": [1, 1.5, None, True]}
TEXT = '{"title":"Kö\\n","numbers":[1,1.5,null,true]}'


def ways(cache: SearchCache, **options: Any) -> list[tuple[str, str]]:
    """Return text and state of a call by each way."""
    found = [cache.lookup_text("q", Backend(VALUE), **options)]
    found.append(asyncio.run(cache.alookup_text("r", Backend(VALUE).later, **options)))
    return [(answer.text, answer.state) for answer in found]


def test_the_text_is_what_is_stored(cache):
    assert ways(cache) == [(TEXT, "miss")] * 2
    assert ways(cache) == [(TEXT, "hit")] * 2
    assert cache.get("q") == cache.get("r") == VALUE
    assert cache.counter.take().hits == 4


def test_a_stale_text_stands_in(cache):
    ways(cache)
    soft.clear_softly()
    down = Backend()
    down.error = BackendDown()
    assert cache.lookup_text("q", down)[:2] == (TEXT, "stale")


def test_a_decorated_function_has_its_text(cache):
    calls = []

    @cache.cached(timeout=60)
    def find(query: str, page: int = 1) -> dict[str, Any]:
        calls.append((query, page))
        return {"query": query, "page": page}

    @cache.cached(timeout=60)
    async def afind(query: str) -> list[str]:
        return [query]

    assert find.text("lamp") == find.text(query="lamp", page=1) == '{"query":"lamp","page":1}'
    assert find.lookup_text("lamp").state == "hit"
    assert find("lamp") == {"query": "lamp", "page": 1}
    assert calls == [("lamp", 1)]
    assert asyncio.run(afind.text("lamp")) == '["lamp"]'


def test_names_of_calls_are_remembered_by_value_and_type(cache):
    @cache.cached(timeout=60)
    def find(query: Any, *more: Any, **options: Any) -> str:
        return repr((query, more, options))

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}),
        ((True,), {}),
        ((1.0,), {}),
        (("1",), {}),
        ((None,), {}),
        ((1, 2), {}),
        ((1,), {"a": 2}),
        ((1,), {"b": 2}),
        ((1,), {"a": True}),
        (([1],), {}),
        (((1,), (True,)), {}),
    ]
    for _ in range(3):
        for args, kwargs in calls:
            assert find(*args, **kwargs) == repr((args[0], args[1:], kwargs))
    assert cache.counter.take().misses == len(calls)


def test_names_of_keys_are_remembered_by_value_and_type(cache):
    keys = ["1", 1, True, 1.0, (1,), (True,), (1.0,), ("1",), ((1,),), ((True,),), "k:1", ("k:1",)]
    for _ in range(3):
        for key in keys:
            assert cache.get_or_compute(key, lambda key=key: repr(key)) == repr(key)
    assert cache.counter.take().misses == len(keys)


def test_names_that_are_remembered_are_bounded(cache):
    client = cache._connect()
    for number in range(MAX_REMEMBERED + 10):
        client.entry_keys(("q", number), client.tag_keys((f"t{number}",)))
    client.entry_keys("x" * 10_000)
    assert len(client._names) <= MAX_REMEMBERED
    assert len(client._tag_keys) <= MAX_REMEMBERED
    assert not any("x" * 1000 in str(key) for key in client._names)


def test_a_response_sends_it_as_it_is(cache):
    answer = cache.lookup_text("q", Backend(VALUE))
    response = CachedJsonResponse(answer)
    assert json.loads(response.content) == json.loads(JsonResponse(VALUE).content) == VALUE
    assert response.content == TEXT.encode()
    assert response["Content-Type"] == "application/json"
    assert (response["X-Cache"], response["Age"]) == ("miss", "0")
    plain = CachedJsonResponse("[1]", status=203, headers={"X-Cache": "own"})
    assert (plain.content, plain.status_code, plain["X-Cache"]) == (b"[1]", 203, "own")
    aged = CachedJsonResponse(TextLookup("1", "stale", 61.9), headers={"Age": "5"})
    assert (aged["X-Cache"], aged["Age"]) == ("stale", "5")


def test_a_response_passes_djangos_middleware(cache):
    """Of a conditional request, HEAD and gzip each is as of any other response."""

    def view(request: HttpRequest) -> CachedJsonResponse:
        return CachedJsonResponse(cache.lookup_text("q", Backend(["Kö" * 500])))

    site: Any = CommonMiddleware(GZipMiddleware(ConditionalGetMiddleware(view)))
    ask = RequestFactory()
    first = site(ask.get("/", headers={"accept-encoding": "gzip"}))
    assert json.loads(gzip.decompress(first.content)) == ["Kö" * 500]
    assert first["Content-Length"] == str(len(first.content))
    match = {"accept-encoding": "gzip", "if-none-match": first["ETag"]}
    assert site(ask.get("/", headers=match)).status_code == 304
    head = site(ask.head("/"))
    assert int(head["Content-Length"]) == len(json.dumps(["Kö" * 500], ensure_ascii=False).encode())
    cache.set("q", ["new"])
    changed = site(ask.get("/", headers=match))
    assert (changed.status_code, json.loads(changed.content)) == (200, ["new"])


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_view_of_rest_framework_sends_it_too(cache, accept):
    class Search(APIView):
        authentication_classes = ()
        permission_classes = ()

        def get(self, request: Any) -> CachedJsonResponse:
            return CachedJsonResponse(cache.lookup_text("q", Backend(VALUE)))

    response = Search.as_view()(RequestFactory().get("/", headers={"accept": accept}))
    assert response.content == TEXT.encode()
