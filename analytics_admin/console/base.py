"""What all pages of the console share: permissions, addresses, rendering and refresh."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseNotModified,
)
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import get_language, gettext

from analytics_admin import permissions
from analytics_admin.conf import app_settings
from analytics_admin.models import Operation
from analytics_admin.permissions import VIEW_CONSOLE, permission_of
from analytics_admin.services import audit

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    _ModelAdmin = admin.ModelAdmin

STYLE_SHEET = "analytics_admin/console.css"
WHOLE_PAGE = "admin/base_site.html"
CONTENT_ALONE = "admin/analytics_admin/content.html"
REFRESH_HEADER = "X-Console-Refresh"
"""Sent by an open page that refreshes itself: it wants the content only, or a 304."""
MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""In the ``repr`` of a function among the settings; it differs from process to process."""


class ReadOnlyAdmin(_ModelAdmin):
    """Shown to users who may view the console; adds, changes and deletes nothing."""

    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return permissions.is_allowed(request.user, VIEW_CONSOLE)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DomainAdmin(ReadOnlyAdmin):
    """The first page about a domain, and what the operations on it need."""

    page_template: ClassVar[str]

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """Return the first page's context, with its ``etag_source`` for ``render_live``.

        Does not fail when a store is down.
        """
        raise NotImplementedError

    def further_urls(self) -> list[URLPattern]:
        """Return the URLs below the first page, made by ``route``."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Return these only: the admin answers 404 to add, change, delete and history."""
        return [self.route("", self.changelist_view, "changelist"), *self.further_urls()]

    def route(self, pattern: str, view: Any, name: str) -> URLPattern:
        """Admit admin users, outside ATOMIC_REQUESTS: its rollback would take the audit row."""
        guarded = audit.non_atomic(self.admin_site.admin_view(view))
        url: URLPattern = path(pattern, guarded, name=self._url_name(name))
        return url

    def url(self, name: str = "changelist", *arguments: str) -> str:
        """Return the URL of one of these pages."""
        site = self.admin_site.name
        return reverse(f"admin:{self._url_name(name)}", args=arguments, current_app=site)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the first page."""
        if refusal := self.refuse_to_show(request):
            return refusal
        context = {**self.describe(request), **(extra_context or {})}
        return self.render_live(request, self.page_template, context)

    def refuse_to_show(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a method that a page does not allow, if any.

        Raises:
            PermissionDenied: the user may not view the console.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return None

    def render_live(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> HttpResponse:
        """Return a page that refreshes itself; to a refresh, its content or a 304.

        ``etag_source`` in the context is plain data whose ``repr`` changes whenever the page does.
        It leaves out what only time changes, such as an age: pages count on by themselves.
        """
        etag_source = context.pop("etag_source")
        frame = CONTENT_ALONE if REFRESH_HEADER in request.headers else WHOLE_PAGE
        return self.answer_live(
            request,
            etag_source,
            lambda live: self.render(request, template, {**context, **live, "frame": frame}),
        )

    def answer_live(
        self,
        request: HttpRequest,
        etag_source: object,
        respond: Callable[[dict[str, Any]], HttpResponse],
    ) -> HttpResponse:
        """Return what ``respond`` makes of a live page's context; or a 304."""
        tag = make_etag(request, etag_source)
        if REFRESH_HEADER in request.headers and request.headers.get("If-None-Match") == tag:
            response: HttpResponse = HttpResponseNotModified()
            # The reader has this cookie; one that replaced it meanwhile has to stay.
            request.META["CSRF_COOKIE_NEEDS_UPDATE"] = False
        else:
            settings = app_settings()
            response = respond({"tag": tag, "refresh_seconds": settings.console_refresh_seconds})
        response["ETag"] = tag
        response["Vary"] = REFRESH_HEADER
        return response

    def render(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """Return a page in the admin's frame."""
        request.current_app = self.admin_site.name
        whole = context.get("frame", WHOLE_PAGE) == WHOLE_PAGE
        context = {
            **(self.admin_site.each_context(request) if whole else {}),
            **common_context(),
            "opts": self.opts,
            "title": capfirst(str(self.opts.verbose_name_plural)),
            **context,
        }
        return TemplateResponse(request, template, context)

    def _url_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"


def common_context() -> dict[str, Any]:
    """Return the context that every page of the console needs."""
    settings = app_settings()
    return {
        "frame": WHOLE_PAGE,
        "media": forms.Media(css={"all": [STYLE_SHEET]}),
        "environment": settings.environment_name,
        "environment_color": settings.environment_color,
        "now": datetime.now(UTC),
    }


def make_etag(request: HttpRequest, etag_source: object) -> str:
    """Return the ETag of a page, which depends on its facts, its reader and the settings.

    The reader's permissions count, as they enable buttons; so does the sign-in, as the page's
    forms carry its token.
    """
    user = request.user
    allowed = [permissions.is_allowed(user, right) for right in [VIEW_CONSOLE, *Operation.Kind]]
    get_token(request)  # every page has a form; without this its first ETag would lack the token
    signed_in = request.META["CSRF_COOKIE"]
    reader = (user.pk, allowed, signed_in, get_language(), timezone.get_current_timezone_name())
    source = repr((reader, MEMORY_ADDRESS.sub("", repr(app_settings())), etag_source))
    return f'"{hashlib.sha256(source.encode()).hexdigest()[:32]}"'


def disabled_reason(request: HttpRequest, kind: Operation.Kind) -> str:
    """Return why the user can't do this now, to show beside the button; "" if they can."""
    if not permissions.is_allowed(request.user, kind):
        return gettext("Requires the permission %(permission)s.") % {
            "permission": permission_of(kind)
        }
    if app_settings().read_only:
        return gettext("This site is read-only: operations are switched off.")
    return ""
