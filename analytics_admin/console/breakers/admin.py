"""The circuit breakers' URLs in the admin: the list, one breaker's page, and their operations."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern
from django.utils.translation import gettext

from analytics_admin.console.base import DomainAdmin, disabled_reason
from analytics_admin.console.breakers.detail import describe_breaker
from analytics_admin.console.breakers.labels import BULK_LABELS
from analytics_admin.console.breakers.list import describe_list, list_query
from analytics_admin.console.breakers.operations import (
    ControlOne,
    ControlSelected,
    ForgetOne,
    ProbeOne,
    ResetMany,
    ResetOne,
    ResetSelected,
    SelectedBreakersOperation,
)
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.errors import StoreUnavailable

RESET_PATH = "reset"
SELECTED_PATH = "-"  # the name of no breaker


class CircuitBreakerAdmin(DomainAdmin):
    page_template = "admin/analytics_admin/circuit_breakers.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """Return a verdict on all breakers, and the page of the list that the address asks for."""
        reset = disabled_reason(request, Operation.Kind.RESET_CIRCUIT_BREAKERS)
        control = disabled_reason(request, Operation.Kind.CONTROL_CIRCUIT_BREAKERS)
        listed, selectable = list_query(request.GET), not (reset and control)
        context = {
            "action_url": self.url("reset"),
            "list_url": self.url(),
            "disabled_reason": reset,
            "control_disabled_reason": control,
            "unselectable": not selectable,
            "reset_selected_url": with_query(self.url("reset_selected"), listed),
            "control_selected_url": with_query(self.url("control_selected"), listed),
            "reset_selected": BULK_LABELS["reset"].choice,
            "controls": [(key, it.choice) for key, it in BULK_LABELS.items() if key != "reset"],
        }
        try:
            return {**context, **describe_list(request, self._url_of)}
        except StoreUnavailable as error:
            reason = localized(error.reason)
            return {
                **context,
                "verdict": gettext("Unknown: %(reason)s") % {"reason": reason},
                "tone": "quiet",
                "unavailable": reason,
                "etag_source": error.reason,
            }

    def _url_of(self, name: str) -> str:
        """Return "" for a name that fits into no URL; no release of this app registers one."""
        try:
            return self.url("breaker", name)
        except NoReverseMatch:
            return ""

    def further_urls(self) -> list[URLPattern]:
        return [
            self.route(f"{RESET_PATH}/", self.reset_view, "reset"),
            self.route(f"{SELECTED_PATH}/reset/", self.reset_selected_view, "reset_selected"),
            self.route(f"{SELECTED_PATH}/control/", self.control_selected_view, "control_selected"),
            self.route("<str:name>/", self.breaker_view, "breaker"),
            self.route("<str:name>/control/", self.control_breaker_view, "control_breaker"),
            self.route("<str:name>/reset/", self.reset_breaker_view, "reset_breaker"),
            self.route("<str:name>/probe/", self.probe_breaker_view, "probe_breaker"),
            self.route("<str:name>/forget/", self.forget_breaker_view, "forget_breaker"),
        ]

    def reset_view(self, request: HttpRequest) -> HttpResponse:
        """Reset many; GET shows the breaker named like this address, if there is one."""
        if request.method in {"GET", "HEAD"} and self.has_view_permission(request):
            try:
                return self.breaker_view(request, RESET_PATH)
            except Http404:
                pass  # no such breaker: a reload of the confirm page
        return ResetMany(self, request, url=self.url("reset"), back=self.url()).respond()

    def reset_selected_view(self, request: HttpRequest) -> HttpResponse:
        return self._operate_on_selected(ResetSelected, request, "reset_selected")

    def control_selected_view(self, request: HttpRequest) -> HttpResponse:
        return self._operate_on_selected(ControlSelected, request, "control_selected")

    def breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show one breaker."""
        if refusal := self.refuse_to_show(request):
            return refusal
        context = {
            "title": name,
            "name": name,
            "control_url": self.url("control_breaker", name),
            "control_disabled_reason": disabled_reason(
                request, Operation.Kind.CONTROL_CIRCUIT_BREAKERS
            ),
            "reset_url": self.url("reset_breaker", name),
            "reset_disabled_reason": disabled_reason(
                request, Operation.Kind.RESET_CIRCUIT_BREAKERS
            ),
            "probe_url": self.url("probe_breaker", name),
            "probe_disabled_reason": disabled_reason(request, Operation.Kind.ALLOW_PROBE),
            "forget_url": self.url("forget_breaker", name),
            "forget_disabled_reason": disabled_reason(
                request, Operation.Kind.FORGET_CIRCUIT_BREAKER
            ),
            **describe_breaker(name),
        }
        return self.render_live(request, "admin/analytics_admin/circuit_breaker.html", context)

    def control_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("control_breaker", name), self.url("breaker", name)
        return ControlOne(self, request, name, url=url, back=back).respond()

    def reset_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("reset_breaker", name), self.url("breaker", name)
        return ResetOne(self, request, name, url=url, back=back).respond()

    def probe_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("probe_breaker", name), self.url("breaker", name)
        return ProbeOne(self, request, name, url=url, back=back).respond()

    def forget_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("forget_breaker", name), self.url("breaker", name)
        return ForgetOne(self, request, name, url=url, back=back).respond()

    def _operate_on_selected(
        self, operation: type[SelectedBreakersOperation], request: HttpRequest, name: str
    ) -> HttpResponse:
        """Lead back to the list, as the address says, in which the breakers were selected."""
        listed = list_query(request.GET)
        url, back = with_query(self.url(name), listed), with_query(self.url(), listed)
        return operation(self, request, url=url, back=back).respond()


def with_query(url: str, query: str) -> str:
    return f"{url}?{query}" if query else url
