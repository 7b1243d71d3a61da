"""A site of two URLs, for real servers: a protected call, and a cached search.

``wsgi`` and ``asgi`` are its applications. They answer with the process id and what was seen.
"""

import os
from contextlib import suppress

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.middleware import ReportAtShutdown
from tests.support.crew import set_up_site


def call(request: HttpRequest) -> JsonResponse:
    """Call a backend that is up or down, as the client says."""

    def backend() -> None:
        if "down" in request.GET:
            raise ConnectionError

    breaker = circuit_breaker("served", failure_threshold=5, wait_duration_in_open_state=3600)
    with suppress(ConnectionError, CircuitOpenError):
        breaker.call(backend)
    return JsonResponse({"pid": os.getpid(), "seen": breaker.state})


def search(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid(), "seen": counted_search()})


def counted_search() -> str:
    """Search in the cache, and under a breaker that counts it."""
    breaker = circuit_breaker("search")
    assert breaker.state == "closed"  # it has been read: what passes earlier is not counted
    with breaker:
        found: str = search_cache.get_or_compute("q", lambda: "found", timeout=300)
    return found


urlpatterns = [path("call", call), path("search", search)]


def _set_up() -> None:
    from django.conf import settings

    set_up_site()
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.ALLOWED_HOSTS = ["*"]


_set_up()
wsgi = get_wsgi_application()
asgi = ReportAtShutdown(get_asgi_application())
