"""``GET /api/v1/search``: the demo search endpoint.

CircuitOpenMiddleware responds while the circuit is open.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from project.demo.faults import BackendDown
from project.demo.index import PAGE_SIZE
from project.demo.search import search

MAX_QUERY_LENGTH = 200
MAX_PAGE = 1000
Headers = Mapping[str, str]
PARAMETERS = ("q", "page")


class BadSearch(ValueError):
    """The request's parameters are invalid; the message says why."""


@csrf_exempt  # read only; other methods get a 405 instead of a CSRF error
def search_view(request: HttpRequest) -> JsonResponse:
    """Respond to a search with one page of results; docs/tutorial.md shows one."""
    if request.method not in ("GET", "HEAD"):
        detail = f'Method "{request.method}" not allowed.'
        return _error(405, "method_not_allowed", detail, {"Allow": "GET, HEAD"})
    try:
        query, page = _read(request)
    except BadSearch as error:
        return _error(400, "invalid", str(error))
    try:
        lookup = search(query, page)
    except BackendDown:
        detail = "The search does not answer now."
        return _error(503, "search_unavailable", detail, {"Retry-After": "1"})
    headers = {"X-Cache": lookup.state, "Age": str(int(lookup.age))}
    pages = max(1, math.ceil(lookup.value["count"] / PAGE_SIZE))
    if page > pages:
        detail = f"There is no page {page}; the last one is {pages}."
        return _error(404, "not_found", detail, headers)
    return _json({"query": query, "page": page, "pages": pages, **lookup.value}, 200, headers)


def _read(request: HttpRequest) -> tuple[str, int]:
    """Return the query and the page number; raise BadSearch if they are invalid."""
    try:
        parameters = request.GET
    except SuspiciousOperation:  # more parameters than Django reads
        raise BadSearch("Too many parameters.") from None
    for name in parameters:
        if name not in PARAMETERS:
            raise BadSearch(f"Unknown parameter: {name[:50]}; there are q and page.")
        if len(parameters.getlist(name)) > 1:
            raise BadSearch(f"{name}: Give it once.")
    return _read_query(parameters.get("q", "")), _read_page(parameters.get("page", "1"))


def _read_query(query: str) -> str:
    query = query.strip()
    if not query:
        raise BadSearch("q: Say what to search for.")
    if len(query) > MAX_QUERY_LENGTH:
        raise BadSearch(f"q: At most {MAX_QUERY_LENGTH} characters.")
    if "\0" in query:
        raise BadSearch("q: A NUL character cannot be searched for.")
    return query


def _read_page(digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", digits) or not 1 <= int(digits) <= MAX_PAGE:
        raise BadSearch(f"page: A whole number from 1 to {MAX_PAGE}.")
    return int(digits)


def _error(status: int, code: str, detail: str, headers: Headers | None = None) -> JsonResponse:
    return _json({"detail": detail, "code": code}, status, headers or {})


def _json(body: dict[str, Any], status: int, headers: Headers) -> JsonResponse:
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    headers = {"Cache-Control": "no-store", **headers}
    return JsonResponse(body, status=status, headers=headers, json_dumps_params=compact)
