"""The audit trail's pages: every act, newest first; read-only for everybody."""

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.pages import STYLE_SHEET, ReadOnlyAdmin
from analytics_admin.console.wording import INTERRUPTED, status_badge
from analytics_admin.models import INTERRUPTED_AFTER, Operation

REASON_SHOWN = 80  # characters, in the list


class StatusFilter(admin.SimpleListFilter):
    """The stored statuses, and "interrupted", which is read from a row's age."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*Operation.Status.choices, ("interrupted", INTERRUPTED.word)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        status, limit = self.value(), timezone.now() - INTERRUPTED_AFTER
        if status == "interrupted":
            return queryset.filter(status=Operation.Status.STARTED, started_at__lt=limit)
        if status == Operation.Status.STARTED:
            return queryset.filter(status=status, started_at__gte=limit)
        return queryset.filter(status=status) if status in Operation.Status.values else None


class OperationAdmin(ReadOnlyAdmin):
    list_display = (
        "started_at",
        "status_shown",
        "kind",
        "actor_shown",
        "duration_shown",
        "reason_shown",
    )
    list_filter = (StatusFilter, "kind", "channel", "started_at")
    search_fields = ("actor", "reason", "id")
    search_help_text = _("Searches actor, reason and id.")
    list_per_page = 50
    show_full_result_count = False  # counting a long trail twice tells nobody anything
    ordering = ("-started_at", "-id")
    fields = (
        "id",
        "kind",
        "status_shown",
        "actor",
        "user",
        "channel",
        "reason",
        "started_at",
        "finished_at",
        "duration_shown",
        "targets_shown",
        "outcome_shown",
        "error",
    )
    readonly_fields = fields

    class Media:
        css: ClassVar = {"all": [STYLE_SHEET]}

    @admin.display(description=_("status"), ordering="status")
    def status_shown(self, operation: Operation) -> SafeString:
        return status_badge(operation).__html__()

    @admin.display(description=_("actor"), ordering="actor")
    def actor_shown(self, operation: Operation) -> SafeString:
        """Who, and through which door, in one column: the list has to fit beside its filter."""
        return format_html(
            '{}<span class="aa-channel">{}</span>',
            operation.actor,
            operation.get_channel_display(),
        )

    @admin.display(description=_("reason"), ordering="reason")
    def reason_shown(self, operation: Operation) -> str:
        """The beginning of a long one; the row's own page has all of it."""
        return Truncator(operation.reason).chars(REASON_SHOWN)

    @admin.display(description=_("duration"), ordering="duration_ms", empty_value="-")
    def duration_shown(self, operation: Operation) -> str | None:
        if operation.duration_ms is None:
            return None
        if operation.duration_ms < 1000:
            return gettext("%(milliseconds).0f ms") % {"milliseconds": operation.duration_ms}
        return gettext("%(seconds).1f s") % {"seconds": operation.duration_ms / 1000}

    @admin.display(description=_("targets"))
    def targets_shown(self, operation: Operation) -> SafeString:
        return readable_json(operation.targets)

    @admin.display(description=_("outcome"))
    def outcome_shown(self, operation: Operation) -> SafeString:
        return readable_json(operation.outcome)


def readable_json(value: Any) -> SafeString:
    """Return the value indented, as text that the browser takes for text."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="aa-json">{}</pre>', text)
