"""The search cache's page: what it holds, when it was last cleared, and its acts: clear, undo."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.text import Truncator

from analytics_admin import services
from analytics_admin.console.acts import ConfirmedAct
from analytics_admin.console.forms import ClearForm, ConfirmClearForm
from analytics_admin.console.pages import DomainAdmin, hindrance
from analytics_admin.console.search_cache_facts import describe_facts, describe_radius
from analytics_admin.console.wording import count
from analytics_admin.services import Act, ActResult

TAGS_SHOWN = 500  # characters, on the confirm page


class SearchCacheAdmin(DomainAdmin):
    page_template = "admin/analytics_admin/search_cache.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        status = services.describe_search_cache()
        return {
            "seen": status,
            "act_url": self.url("clear"),
            "form": ClearForm(),
            "hindrance": hindrance(request, Act.CLEAR_SEARCH_CACHE),
            "undo_url": self.url("undo"),
            # A store that has just kept the page waiting is not asked again.
            "undoable": None if status.keys is None else services.find_undoable_clear(),
            "status": status,
            **describe_facts(status),
        }

    def further_urls(self) -> list[URLPattern]:
        return [
            self.route("clear/", self.clear_view, "clear"),
            self.route("undo/", self.undo_view, "undo"),
        ]

    def clear_view(self, request: HttpRequest) -> HttpResponse:
        return Clear(self, request, url=self.url("clear"), back=self.url()).respond()

    def undo_view(self, request: HttpRequest) -> HttpResponse:
        return Undo(self, request, url=self.url("undo"), back=self.url()).respond()


class Clear(ConfirmedAct):
    act = Act.CLEAR_SEARCH_CACHE
    template = "admin/analytics_admin/confirm_clear.html"
    form = ConfirmClearForm

    def first_form(self) -> forms.Form:
        """What the page asked for is taken over, and checked like the rest."""
        return self.form(self.request.POST)

    def service(self, **arguments: Any) -> ActResult:
        return services.clear_search_cache(**arguments)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"mode": options["mode"], "tags": options["tags"] or None}

    def describe_preview(self, result: ActResult) -> dict[str, Any]:
        preview = result.preview or {}
        keys = preview.get("keys")
        return {
            "preview": preview,
            "keys": "" if keys is None else count(keys),
            **describe_radius(preview),
        }

    def describe(self) -> dict[str, Any]:
        named = self.request.POST.get("tags", "")
        return {"tags": Truncator(named).chars(TAGS_SHOWN)}


class Undo(ConfirmedAct):
    act = Act.UNDO_CLEAR
    template = "admin/analytics_admin/confirm_undo.html"

    def service(self, **arguments: Any) -> ActResult:
        return services.undo_clear(**arguments)
