"""Middleware that turns an unhandled CircuitOpenError into a 503."""

import math
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _

from analytics_admin.breakers import CircuitOpenError

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class CircuitOpenMiddleware:
    """Responds to an uncaught CircuitOpenError with 503 and ``Retry-After`` (whole seconds).

    The response names no breaker, so that visitors learn nothing about a site's backends.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the response for an open circuit, and None for any other exception."""
        if not isinstance(error, CircuitOpenError):
            return None
        response = HttpResponse(
            _("Temporarily unavailable; please try again later.\n"),
            status=503,
            content_type="text/plain; charset=utf-8",
        )
        response["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        response["Cache-Control"] = "no-store"
        return response
