"""The circuit breakers' URLs in the admin: the list, one breaker's page, and their operations."""

from functools import partial
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
    SingleBreakerOperation,
)
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.errors import StoreUnavailable

RESET_PATH = "reset"
SELECTED_PATH = "-"  # the name of no breaker
SINGLE: dict[str, type[SingleBreakerOperation]] = {
    "control": ControlOne,
    "reset": ResetOne,
    "probe": ProbeOne,
    "forget": ForgetOne,
}
SELECTED: dict[str, type[SelectedBreakersOperation]] = {
    "reset": ResetSelected,
    "control": ControlSelected,
}


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
            "controls": [
                (key, labels.choice) for key, labels in BULK_LABELS.items() if key != "reset"
            ],
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
            *(
                self.route(
                    f"{SELECTED_PATH}/{verb}/",
                    partial(self.selected_view, verb),
                    f"{verb}_selected",
                )
                for verb in SELECTED
            ),
            self.route("<str:name>/", self.breaker_view, "breaker"),
            *(
                self.route(
                    f"<str:name>/{verb}/", partial(self.single_view, verb), f"{verb}_breaker"
                )
                for verb in SINGLE
            ),
        ]

    def reset_view(self, request: HttpRequest) -> HttpResponse:
        """Reset many; GET shows the breaker named like this address, if there is one."""
        if request.method in {"GET", "HEAD"} and self.has_view_permission(request):
            try:
                return self.breaker_view(request, RESET_PATH)
            except Http404:
                pass  # no such breaker: a reload of the confirm page
        return ResetMany(self, request, url=self.url("reset"), back=self.url()).respond()

    def breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show one breaker."""
        if refusal := self.refuse_to_show(request):
            return refusal
        context = {"title": name, "name": name, **describe_breaker(name)}
        for verb, operation in SINGLE.items():
            context[f"{verb}_url"] = self.url(f"{verb}_breaker", name)
            context[f"{verb}_disabled_reason"] = disabled_reason(request, operation.kind)
        return self.render_live(request, "admin/analytics_admin/circuit_breaker.html", context)

    def single_view(self, verb: str, request: HttpRequest, name: str) -> HttpResponse:
        """Do one of SINGLE to a breaker, and lead back to its page."""
        url, back = self.url(f"{verb}_breaker", name), self.url("breaker", name)
        return SINGLE[verb](self, request, name, url=url, back=back).respond()

    def selected_view(self, verb: str, request: HttpRequest) -> HttpResponse:
        """Do one of SELECTED to the breakers selected in the list, and lead back to the list."""
        listed = list_query(request.GET)
        url, back = self.url(f"{verb}_selected"), self.url()
        operation = SELECTED[verb]
        return operation(
            self, request, url=with_query(url, listed), back=with_query(back, listed)
        ).respond()


def with_query(url: str, query: str) -> str:
    return f"{url}?{query}" if query else url
