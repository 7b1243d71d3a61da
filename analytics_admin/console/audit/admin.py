"""The audit trail in the admin: every operation, newest first; read-only for everybody."""

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.audit.detail import describe_operation
from analytics_admin.console.audit.export import answer_export
from analytics_admin.console.audit.filters import (
    ActorFilter,
    OlderThanFilter,
    StatusFilter,
    selection_query,
    validate_query,
)
from analytics_admin.console.audit.followup import describe_follow_up
from analytics_admin.console.audit.labels import format_duration, format_target
from analytics_admin.console.audit.list import ExportedOperations, OperationList
from analytics_admin.console.base import (
    REFRESH_HEADER,
    STYLE_SHEET,
    DomainAdmin,
    ReadOnlyAdmin,
    common_context,
)
from analytics_admin.console.labels import count, status_badge
from analytics_admin.console.obedience import describe_obedience
from analytics_admin.console.times import moment
from analytics_admin.models import Operation
from analytics_admin.services.audit_pages import MAX_PAGED, PageOutOfReach
from analytics_admin.services.audit_search import SEARCHED_FIELDS

MAX_REASON_SHOWN = 80  # characters, in the list
# A model's own get_..._display() makes its table again for each row.
_KINDS = dict(Operation.Kind.choices)
_CHANNELS = dict(Operation.Channel.choices)


class OperationAdmin(DomainAdmin):
    """The list is the admin's own changelist; an operation has a page of its own."""

    change_list_template = "admin/analytics_admin/operations.html"
    list_display = (
        "started_column",
        "status_column",
        "kind_column",
        "actor_column",
        "duration_column",
        "reason_column",
    )
    list_filter = (OlderThanFilter, StatusFilter, "kind", "channel", "started_at", ActorFilter)
    show_facets = admin.ShowFacets.NEVER  # each choice of each filter would be counted
    search_fields = SEARCHED_FIELDS
    search_help_text = _("Searches actor, reason, error, circuit breakers, tags and id.")
    list_per_page = 50
    show_full_result_count = False  # it would count a long trail a second time
    ordering = ("-started_at", "-id")

    class Media:
        css: ClassVar = {"all": [STYLE_SHEET]}

    def further_urls(self) -> list[URLPattern]:
        """Return the permalink as "change", to which the admin's lists link."""
        return [
            self.route("export/", self.export_view, "export"),
            self.route("<uuid:operation_id>/", self.operation_view, "change"),
            self.route("<uuid:operation_id>/change/", self.stock_address_view, "stock_change"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the admin's own list, with a link to export it."""
        selection = selection_query(request.GET)
        export_url = self.url("export") + (f"?{selection}" if selection else "")
        title = capfirst(str(self.opts.verbose_name_plural))
        own = {**common_context(), "title": title, "export_url": export_url}
        context = {**own, **(extra_context or {})}
        del context["media"]  # the list has more to load
        response = ReadOnlyAdmin.changelist_view(self, request, context)
        if not isinstance(response, TemplateResponse):  # an unknown filter redirects
            return response
        page: dict[str, Any] = response.context_data or {}
        if REFRESH_HEADER in request.headers:
            page["messages"] = ()  # they belong to the next page that the reader loads

        def respond(live: dict[str, Any]) -> HttpResponse:
            page.update(live)
            return response

        listed: OperationList = page["cl"]
        rows = [as_etag_source(operation) for operation in listed.result_list]
        facts = (listed.total, listed.limit, listed.older, listed.paginator.num_pages)
        return self.answer_live(request, (facts, rows), respond)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list as its address asks for it.

        Raises:
            IncorrectLookupParameters: unknown filter; a message says so.
        """
        try:
            validate_query(request.GET)
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            messages.error(request, gettext("Unknown filter. Showing all operations."))
            raise IncorrectLookupParameters from error
        except PageOutOfReach as error:
            text = gettext(
                "Pages reach the newest %(number)s operations. Filter by date to see older ones."
            )
            messages.error(request, text % {"number": count(MAX_PAGED)})
            raise IncorrectLookupParameters from error

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[OperationList]:
        """Return a list of bounded cost; for an export, one that reads nothing."""
        is_export = request.path == self.url("export")
        return ExportedOperations if is_export else OperationList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Leave the search to the list, which bounds it."""
        return queryset, False

    def operation_view(self, request: HttpRequest, operation_id: UUID) -> HttpResponse:
        """Show one operation."""
        if refusal := self.refuse_to_show(request):
            return refusal
        rows: QuerySet[Any] = self.get_queryset(request)
        operation: Operation = get_object_or_404(rows, pk=operation_id)
        follow_up = describe_follow_up(operation)
        is_store_away = follow_up.pop("is_store_away", False)
        obedience = describe_obedience(operation, is_store_away=is_store_away)
        context = {
            "title": operation.get_kind_display(),
            "preserved_filters": self.get_preserved_filters(request),
            **describe_operation(operation),
            **follow_up,
            **obedience,
            "etag_source": (as_etag_source(operation), follow_up["etag_source"], obedience),
        }
        return self.render_live(request, "admin/analytics_admin/operation.html", context)

    def stock_address_view(self, request: HttpRequest, operation_id: UUID) -> HttpResponse:
        """Redirect from the admin's usual address of a row to the permalink."""
        if refusal := self.refuse_to_show(request):
            return refusal
        query = request.GET.urlencode()
        url = self.url("change", str(operation_id))
        return HttpResponseRedirect(f"{url}?{query}" if query else url)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the rows of all the list's pages as JSON; redirect a wrong address to the list."""
        if refusal := self.refuse_to_show(request):
            return refusal
        try:
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self.url())
        return answer_export(request, changelist.queryset, search=changelist.query)

    @admin.display(description=_("started"), ordering="started_at")
    def started_column(self, operation: Operation) -> SafeString:
        return moment(operation.started_at)

    @admin.display(description=_("status"), ordering="status")
    def status_column(self, operation: Operation) -> SafeString:
        return status_badge(operation).__html__()

    @admin.display(description=_("kind"), ordering="kind")
    def kind_column(self, operation: Operation) -> SafeString:
        """Show kind and target in one column: the list has to fit beside its filter."""
        return _two_lines(_KINDS.get(operation.kind, operation.kind), format_target(operation))

    @admin.display(description=_("actor"), ordering="actor")
    def actor_column(self, operation: Operation) -> SafeString:
        """Show actor and channel in one column."""
        channel = _CHANNELS.get(operation.channel, operation.channel)
        return _two_lines(operation.actor, channel)

    @admin.display(description=_("reason"), ordering="reason")
    def reason_column(self, operation: Operation) -> str:
        """Show the beginning; the operation's page has all of it."""
        if not operation.reason:
            return format_html('<span class="aa-empty">{}</span>', "-")
        return Truncator(operation.reason).chars(MAX_REASON_SHOWN)

    @admin.display(description=_("duration"), ordering="duration_ms", empty_value="-")
    def duration_column(self, operation: Operation) -> str | None:
        return format_duration(operation.duration_ms)


def as_etag_source(operation: Operation) -> tuple[Any, ...]:
    """Return what may change of an operation: its end, or none in time, and its account."""
    ended = (operation.status, operation.error, operation.is_interrupted)
    return (operation.pk, *ended, operation.user_id)


def _two_lines(first: Any, second: Any) -> SafeString:
    if not second:
        return format_html("<bdi>{}</bdi>", first)
    html = '<bdi>{}</bdi><span class="aa-channel"><bdi>{}</bdi></span>'
    return format_html(html, first, second)
