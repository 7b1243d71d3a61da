"""Middleware: of Django, for probes and for an unhandled CircuitOpenError; of ASGI servers."""

import asyncio
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.translation import gettext as _

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.stores.process_hooks import flush_all

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[..., Awaitable[None]]
GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
View = Callable[[HttpRequest], HttpResponse]


class MonitoringMiddleware:
    """Serves the URLs of ``analytics_admin.monitoring`` by itself; put it first.

    A load balancer asks by address, over plain HTTP. Behind this, neither ALLOWED_HOSTS nor a
    redirect to HTTPS nor a site's login gets in its way.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        from analytics_admin.monitoring import urls  # asgi.py imports this before there are models

        self._get_response = get_response
        self._app_name = urls.app_name
        self._last_parts = frozenset(pattern.name for pattern in urls.urlpatterns)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        view = self._find_view(request.path_info)
        if view is None:
            return self._get_response(request)
        return sync_to_async(view)(request) if self._is_async else view(request)

    def _find_view(self, path: str) -> View | None:
        """Return the view of monitoring that the site's URLs have at this path, if it is one."""
        if path.rpartition("/")[2] not in self._last_parts:  # resolving costs others more
            return None
        try:
            found = resolve(path)
        except Resolver404:
            return None
        return found.func if self._app_name in found.app_names else None


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


class ReportAtShutdown:
    """An ASGI application that sends the store what is pending before its server shuts down.

    uvicorn ends its processes by a signal, after which no hook of Python's runs. The wrapped
    application need not know the lifespan protocol; one that does gets its events, too.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _live(self, scope: Event, receive: Receive, send: Send) -> None:
        is_known = False

        async def receive_as_known() -> Event:
            nonlocal is_known
            is_known = True
            return await receive()

        async def send_after_report(event: Event) -> None:
            if event["type"].startswith("lifespan.shutdown."):
                await asyncio.to_thread(flush_all)
            await send(event)

        try:
            await self._application(scope, receive_as_known, send_after_report)
        except Exception:  # how an application says that it does not know the protocol
            if is_known:
                raise
        if not is_known:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send_after_report({"type": "lifespan.shutdown.complete"})
