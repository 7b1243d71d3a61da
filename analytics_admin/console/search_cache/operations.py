"""What operators do to the search cache: clear, undo."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpResponse
from django.utils import timezone
from django.utils.text import Truncator

from analytics_admin.console.confirmation import CONFIRMED, ConfirmedOperation
from analytics_admin.console.forms import ClearForm, ConfirmClearForm, ConfirmUndoForm
from analytics_admin.console.labels import count
from analytics_admin.console.search_cache.labels import describe_impact
from analytics_admin.models import Operation
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache import operations

if TYPE_CHECKING:
    from analytics_admin.console.search_cache.admin import SearchCacheAdmin

MAX_TAGS_SHOWN = 500  # characters, on the confirm page


class Clear(ConfirmedOperation):
    kind = Operation.Kind.CLEAR_SEARCH_CACHE
    service = staticmethod(operations.clear_search_cache)
    template = "admin/analytics_admin/confirm_clear.html"
    form = ConfirmClearForm
    page: "SearchCacheAdmin"

    def initial_form(self) -> forms.Form:
        """Take over, and check, what the page asked for."""
        return self.form(self.request.POST)

    def go_back(self, complaint: str) -> HttpResponse:
        """Show an invalid form again with its errors."""
        form = ClearForm(self.request.POST)
        if CONFIRMED in self.request.POST or "mode" not in form.data or form.is_valid():
            return super().go_back(complaint)
        return self.page.show_again(self.request, form)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        by_tags = options["mode"] == "tags"
        return {
            "mode": "hard" if by_tags else options["mode"],
            "tags": options["tags"] if by_tags else None,
        }

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        preview = result.preview or {}
        keys = preview.get("keys")
        return {
            "preview": preview,
            "keys": "" if keys is None else count(keys),
            **describe_impact(preview),
        }

    def describe(self) -> dict[str, Any]:
        named = self.request.POST.get("tags", "")
        return {"tags": Truncator(named).chars(MAX_TAGS_SHOWN)}


class Undo(ConfirmedOperation):
    """Undoes the clear that the confirm page is about, and no later one."""

    kind = Operation.Kind.UNDO_CLEAR
    service = staticmethod(operations.undo_clear)
    template = "admin/analytics_admin/confirm_undo.html"
    form = ConfirmUndoForm

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"expected_clear": options.get("clear") or None}

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """Have the form carry which clear it is."""
        preview = result.preview or {}
        self.shown.initial["clear"] = preview["clear"]
        return {"undo_until": timezone.now() + timedelta(seconds=preview["seconds_left"])}
