"""What the pages with a button share: who may see them, the confirm page, the act, its message.

Knows no act: each page says which one it offers and calls its service.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import Error, transaction
from django.db.models import Model
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    QueryDict,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.conf import app_settings
from analytics_admin.console.forms import ConfirmForm
from analytics_admin.models import Operation
from analytics_admin.services import Act, ActDenied, ActFailed, Actor, ActRefused, ActResult

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    _ModelAdmin = admin.ModelAdmin

logger = logging.getLogger("analytics_admin.console")

STYLE_SHEET = "analytics_admin/console.css"
CONFIRMED = "confirmed"


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


class ActPage(ReadOnlyAdmin):
    """A page about one of the app's domains, with the buttons of one act."""

    act: ClassVar[Act]
    act_path: ClassVar[str]
    page_template: ClassVar[str]
    confirm_template: ClassVar[str]
    confirm_form: ClassVar[type[ConfirmForm]] = ConfirmForm

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """Return the page's own context; never fails because a store is down."""
        raise NotImplementedError

    def carry_out(self, actor: Actor, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        """Call the service of the act; ``options`` are the confirm form's fields."""
        raise NotImplementedError

    def initial(self, post: QueryDict) -> dict[str, Any]:
        """Return what the pressed button says about the act, for the confirm form."""
        return {}

    def describe_preview(self, result: ActResult) -> dict[str, Any]:
        """Return the confirm page's words about a dry run."""
        return {"preview": result.preview}

    def get_urls(self) -> list[URLPattern]:
        """Only these two: the admin answers 404 to add, change, delete and history."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", self._guarded(self.changelist_view), name=f"{name}_changelist"),
            path(f"{self.act_path}/", self._guarded(self.act_view), name=f"{name}_{self.act_path}"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        context = {
            "act_url": self._url(self.act_path),
            "hindrance": self.hindrance(request),
            **self.describe(request),
            **(extra_context or {}),
        }
        return self._render(request, self.page_template, context)

    def act_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for confirmation; once confirmed, act and go back to the page with a message."""
        if request.method != "POST":
            return self._answer_harmlessly(request)
        self._require_permission(request)
        if hindrance := self.hindrance(request):
            messages.error(request, hindrance)
            return self._back()
        try:
            return self._confirm_or_act(request)
        except ActDenied as error:  # the permission went in this very moment
            raise PermissionDenied from error

    def hindrance(self, request: HttpRequest) -> str:
        """Return why the user can't act now, for display beside the button; empty if they can."""
        if not services.may(request.user, self.act):
            return gettext("Needs the permission %(permission)s.") % {
                "permission": self.act.permission
            }
        if app_settings().read_only:
            return gettext("This site is read-only: acts are switched off.")
        return ""

    def _guarded(self, view: Any) -> Any:
        """Let admin users in; outside ATOMIC_REQUESTS, whose rollback would take the audit row."""
        return transaction.non_atomic_requests(self.admin_site.admin_view(view))

    def _answer_harmlessly(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method in {"GET", "HEAD"}:  # a reload, or the way back from a login in between
            return self._back()
        return HttpResponseNotAllowed(["POST"])

    def _require_permission(self, request: HttpRequest) -> None:
        if self.has_view_permission(request) and services.may(request.user, self.act):
            return
        with suppress(ActFailed):  # logged there; refused all the same
            services.deny(self.act, actor=self._actor(request))
        raise PermissionDenied

    def _confirm_or_act(self, request: HttpRequest) -> HttpResponse:
        if CONFIRMED not in request.POST:
            return self._confirm(request, self.confirm_form(initial=self.initial(request.POST)))
        form = self.confirm_form(request.POST)
        if not form.is_valid():
            return self._confirm(request, form)
        return self._act(request, form.cleaned_data)

    def _confirm(self, request: HttpRequest, form: forms.Form) -> HttpResponse:
        """A preview that fails is told and stops nobody: the act itself may well succeed."""
        options = form.cleaned_data if form.is_bound else form.initial
        context: dict[str, Any] = {
            "form": form,
            "actor": request.user.get_username(),
            "act_url": self._url(self.act_path),
            "options": options,
        }
        try:
            result = self.carry_out(self._actor(request), {**options, "reason": ""}, dry_run=True)
            context |= self.describe_preview(result)
        except ActFailed as error:
            context["preview_failure"] = error.reason
        return self._render(request, self.confirm_template, context)

    def _act(self, request: HttpRequest, options: dict[str, Any]) -> HttpResponse:
        try:
            result = self.carry_out(self._actor(request), options, dry_run=False)
        except (ActRefused, ActFailed) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, result.message)
            self._mirror(request, result)
        return self._back()

    def _mirror(self, request: HttpRequest, result: ActResult) -> None:
        """Put the act among the admin's recent actions; it is done, whatever becomes of this."""
        user_id: Any = request.user.pk
        operation_id: Any = result.operation_id
        try:
            with transaction.atomic():
                LogEntry.objects.log_actions(
                    user_id,
                    Operation.objects.filter(pk=operation_id),
                    CHANGE,
                    change_message=result.message,
                )
        except Error as error:
            logger.warning(
                "operation %s is missing among the admin's recent actions: %s",
                operation_id,
                type(error).__name__,
            )

    def _actor(self, request: HttpRequest) -> Actor:
        return Actor.from_user(request.user, channel=Operation.Channel.ADMIN)

    def _url(self, page: str = "changelist") -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, current_app=self.admin_site.name)

    def _back(self) -> HttpResponse:
        return HttpResponseRedirect(self._url())

    def _render(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": capfirst(str(self.opts.verbose_name_plural)),
            "media": forms.Media(css={"all": [STYLE_SHEET]}),
            **context,
        }
        return TemplateResponse(request, template, context)
