"""What the pages of one domain share: who may see them, their addresses, how they are drawn.

Knows no act and no domain: each page says what it shows and which acts it offers.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.conf import app_settings
from analytics_admin.services import Act

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    _ModelAdmin = admin.ModelAdmin

STYLE_SHEET = "analytics_admin/console.css"


class ReadOnlyAdmin(_ModelAdmin):
    """Shown to whoever may see the console; nothing in it is added, changed or deleted."""

    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return services.may(request.user, Act.VIEW_CONSOLE)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DomainAdmin(ReadOnlyAdmin):
    """The pages about one of the app's domains: the first one, and what its acts need."""

    page_template: ClassVar[str]

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """Return the first page's own context; never fails because a store is down."""
        raise NotImplementedError

    def further_urls(self) -> list[URLPattern]:
        """Return the addresses below the first page, made by ``route``."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Only these: the admin answers 404 to add, change, delete and history."""
        return [self.route("", self.changelist_view, "changelist"), *self.further_urls()]

    def route(self, pattern: str, view: Any, name: str) -> URLPattern:
        """Let admin users in; outside ATOMIC_REQUESTS, whose rollback would take the audit row."""
        guarded = transaction.non_atomic_requests(self.admin_site.admin_view(view))
        url: URLPattern = path(pattern, guarded, name=self._url_name(name))
        return url

    def url(self, name: str = "changelist", *arguments: str) -> str:
        """Return the address of one of this domain's pages."""
        site = self.admin_site.name
        return reverse(f"admin:{self._url_name(name)}", args=arguments, current_app=site)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the first page."""
        if refusal := self.refuse_to_show(request):
            return refusal
        return self.render(
            request, self.page_template, {**self.describe(request), **(extra_context or {})}
        )

    def refuse_to_show(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a method that a page does not take.

        Raises:
            PermissionDenied: the user may not see the console.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return None

    def render(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """Return a page in the admin's frame."""
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": capfirst(str(self.opts.verbose_name_plural)),
            "media": forms.Media(css={"all": [STYLE_SHEET]}),
            **context,
        }
        return TemplateResponse(request, template, context)

    def _url_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"


def hindrance(request: HttpRequest, act: Act) -> str:
    """Return why the user can't do this now, for display beside the button; empty if they can."""
    if not services.may(request.user, act):
        return gettext("Needs the permission %(permission)s.") % {"permission": act.permission}
    if app_settings().read_only:
        return gettext("This site is read-only: acts are switched off.")
    return ""
