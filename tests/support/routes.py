"""Which addresses the app has, read from the URLs themselves, so that a test forgets none."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, get_resolver

SECTION = "/admin/analytics_admin/"
API = "/api/v1/"
EXAMPLES = {"<str:name>": "guarded", "<uuid:operation_id>": "{operation}"}


def console_routes() -> list[str]:
    """Return the routes of our section of the admin, in the order of their matching."""
    return [route.removeprefix(SECTION) for route in _routes() if route.startswith(SECTION)]


def api_routes() -> list[str]:
    """Return the routes of the REST API; what answers all other paths is "…"."""
    ours = [route for route in _routes("analytics_admin") if route.startswith(API)]
    return [route.removeprefix(API) or "…" for route in ours]


def example(route: str, operation: Any = "") -> str:
    """Return an address that a route answers."""
    for part, value in EXAMPLES.items():
        route = route.replace(part, value)
    return route.replace("{operation}", str(operation)).replace("…", "no/such")


def _routes(namespace: str | None = None) -> Iterator[str]:
    def walk(patterns: Any, before: str, within: bool) -> Iterator[str]:
        for pattern in patterns:
            route = before + str(pattern.pattern).removeprefix("^")
            if isinstance(pattern, URLPattern):
                if within:
                    yield route
            else:
                inside = within or pattern.app_name == namespace
                yield from walk(pattern.url_patterns, route, inside)

    return walk(get_resolver().url_patterns, "/", namespace is None)
