"""The search cache's page: what it holds, its last hours, its clears and operations."""

from dataclasses import asdict, replace
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import URLPattern
from django.utils.translation import gettext

from analytics_admin.console.base import DomainAdmin, disabled_reason
from analytics_admin.console.forms import ClearForm
from analytics_admin.console.search_cache.charts import DEFAULT_HOURS, SCALES, describe_charts
from analytics_admin.console.search_cache.labels import (
    describe_clears,
    describe_facts,
    describe_load,
    describe_tags,
    format_period,
)
from analytics_admin.console.search_cache.operations import Clear, Undo
from analytics_admin.models import Operation
from analytics_admin.services.search_cache import queries
from analytics_admin.services.search_cache.operations import MAX_TAG_CHARS
from analytics_admin.services.search_cache.queries import MAX_HISTORY_MINUTES, SearchCacheStatus

MAX_STATUS_AGE = 30.0
"""Seconds for which a sample of a large database and the counts of past hours are reused."""
MAX_CLEARS_SHOWN = 5


class SearchCacheAdmin(DomainAdmin):
    page_template = "admin/analytics_admin/search_cache.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        hours, complaint = parse_hours(request.GET)
        minutes = min(60 * hours + 1, MAX_HISTORY_MINUTES)
        status = queries.describe_search_cache(minutes=minutes, max_age=MAX_STATUS_AGE)
        disabled = disabled_reason(request, Operation.Kind.CLEAR_SEARCH_CACHE)
        facts = {
            **describe_facts(status),
            "charts": describe_history(status, hours),
            "clears": describe_clears(queries.list_recent_clears(MAX_CLEARS_SHOWN)),
            "tags": describe_tags(status, self.url() + hours_query(hours)),
            "complaint": complaint,
            "disabled_reason": disabled,
        }
        return {
            # The load falls as a minute passes; it is recomputed whenever the counts change.
            "etag_source": (
                facts,
                replace(status, load=None, history=None, server_bytes=None, bytes=None),
            ),
            "status": status,
            "load": describe_load(asdict(status.load)) if status.load else {},
            "periods": [(choice, format_period(choice), choice == hours) for choice in SCALES],
            "period": format_period(hours),
            "form": initial_form(request.GET),
            "action_url": self.url("clear") + hours_query(hours),
            "undo_url": self.url("undo") + hours_query(hours),
            **facts,
        }

    def further_urls(self) -> list[URLPattern]:
        return [
            self.route("clear/", self.clear_view, "clear"),
            self.route("undo/", self.undo_view, "undo"),
        ]

    def clear_view(self, request: HttpRequest) -> HttpResponse:
        return Clear(self, request, **self._addresses(request, "clear")).respond()

    def undo_view(self, request: HttpRequest) -> HttpResponse:
        return Undo(self, request, **self._addresses(request, "undo")).respond()

    def show_again(self, request: HttpRequest, form: forms.Form) -> HttpResponse:
        """Show the page with an invalid form and its errors.

        It does not refresh itself: its address is that of the operation.
        """
        wrong = next(name for name in form.fields if form.errors.get(name))
        form.fields[wrong].widget.attrs["autofocus"] = True
        context = {**self.describe(request), "form": form}
        del context["etag_source"]
        return self.render(request, self.page_template, context)

    def _addresses(self, request: HttpRequest, name: str) -> dict[str, str]:
        """Lead back to the hours from which the operation was requested."""
        hours, _complaint = parse_hours(request.GET)
        return {"url": self.url(name) + hours_query(hours), "back": self.url() + hours_query(hours)}


def parse_hours(sent: QueryDict) -> tuple[int, str]:
    """Return the hours that an address asks for, and a complaint if it is wrong."""
    choices = {str(hours): hours for hours in SCALES}
    hours = choices.get(sent.get("hours", str(DEFAULT_HOURS)))
    if hours is not None:
        return hours, ""
    complaint = gettext("Unknown period. Showing %(period)s.")
    return DEFAULT_HOURS, complaint % {"period": format_period(DEFAULT_HOURS)}


def hours_query(hours: int) -> str:
    """Return the query that keeps the hours."""
    return "" if hours == DEFAULT_HOURS else f"?hours={hours}"


def initial_form(sent: QueryDict) -> ClearForm:
    """Return the form for a clear; a link to a tag fills it in."""
    tag = sent.get("tag", "")[:MAX_TAG_CHARS]
    return ClearForm(initial={"mode": "tags", "tags": tag} if tag else None)


def describe_history(status: SearchCacheStatus, hours: int) -> dict[str, Any] | None:
    """Return the charts of the last hours; None while their counts are unknown."""
    if not status.history:
        return None
    clears = queries.list_clears_since(status.history[0].at)
    return describe_charts(status.history, clears, hours=hours)
