"""For host projects: an open circuit that no view handled becomes an answer, not an error page."""

import math
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _

from analytics_admin.breakers import CircuitOpenError

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class CircuitOpenMiddleware:
    """Answer an uncaught CircuitOpenError with 503 and ``Retry-After`` (whole seconds).

    The answer names no breaker: which backends a site has is not its visitors' business.
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
        """Return the answer for an open circuit, and leave every other exception alone."""
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
