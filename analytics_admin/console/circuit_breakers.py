"""The circuit breakers' pages: the verdict and every registered breaker; one breaker's own page."""

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.console.breaker_acts import ControlOne, ResetMany, ResetOne
from analytics_admin.console.forms import ControlForm
from analytics_admin.console.pages import DomainAdmin, hindrance
from analytics_admin.console.wording import UNKNOWN, count, state_badge
from analytics_admin.services import Act, BreakerStatus, StoreUnavailable, UnknownBreakers

REFUSING_CALLS = frozenset({"open", "forced_open"})
PER_PAGE = 100
RESET_PATH = "reset"


class CircuitBreakerAdmin(DomainAdmin):
    page_template = "admin/analytics_admin/circuit_breakers.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """The verdict is on all of them; those that need a look are on the first page."""
        context = {
            "act_url": self.url("reset"),
            "hindrance": hindrance(request, Act.RESET_CIRCUIT_BREAKERS),
        }
        try:
            breakers = services.list_breakers()
        except StoreUnavailable as error:
            return {**context, "unavailable": error.reason}
        ordered = sorted(breakers, key=lambda status: (urgency(status.state), status.name))
        page = Paginator(ordered, PER_PAGE).get_page(request.GET.get("page"))
        return {
            **context,
            "rows": [{"status": status, "badge": state_badge(status.state)} for status in page],
            "page": page,
            "page_range": page.paginator.get_elided_page_range(page.number),
            "total": count(len(breakers)),
            "verdict": verdict(breakers),
            "tone": tone(breakers),
        }

    def further_urls(self) -> list[URLPattern]:
        return [
            self.route(f"{RESET_PATH}/", self.reset_view, "reset"),
            self.route("<str:name>/", self.breaker_view, "breaker"),
            self.route("<str:name>/control/", self.control_breaker_view, "control_breaker"),
            self.route("<str:name>/reset/", self.reset_breaker_view, "reset_breaker"),
        ]

    def reset_view(self, request: HttpRequest) -> HttpResponse:
        """Reset many; to look at this address is to look at the breaker of this name, if any."""
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
        context = {
            "title": name,
            "name": name,
            "control_url": self.url("control_breaker", name),
            "control_hindrance": hindrance(request, Act.CONTROL_CIRCUIT_BREAKERS),
            "reset_url": self.url("reset_breaker", name),
            "reset_hindrance": hindrance(request, Act.RESET_CIRCUIT_BREAKERS),
            **describe_breaker(name),
        }
        return self.render(request, "admin/analytics_admin/circuit_breaker.html", context)

    def control_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("control_breaker", name), self.url("breaker", name)
        return ControlOne(self, request, name, url=url, back=back).respond()

    def reset_breaker_view(self, request: HttpRequest, name: str) -> HttpResponse:
        url, back = self.url("reset_breaker", name), self.url("breaker", name)
        return ResetOne(self, request, name, url=url, back=back).respond()


def describe_breaker(name: str) -> dict[str, Any]:
    """Return what is known of a breaker, and the form to hold it as it is now.

    Raises:
        Http404: no breaker of this name is registered.
    """
    try:
        detail = services.describe_breaker(name)
    except StoreUnavailable as error:
        return {"unavailable": error.reason, "badge": UNKNOWN, "form": ControlForm()}
    except UnknownBreakers as error:
        raise Http404(str(error)) from error
    return {
        "detail": detail,
        "status": detail.status,
        "badge": state_badge(detail.status.state),
        "transitions": [
            {
                "transition": transition,
                "from": state_badge(transition.from_state),
                "to": state_badge(transition.to_state),
            }
            for transition in detail.transitions
        ],
        "form": ControlForm(initial={"expected_generation": detail.status.generation}),
    }


def urgency(state: str) -> int:
    """Return a breaker's rank in the list: first what refuses calls, last what is closed."""
    return 0 if state in REFUSING_CALLS else 2 if state == "closed" else 1


def verdict(breakers: Sequence[BreakerStatus]) -> str:
    """Say in one line how many breakers refuse calls now."""
    if not breakers:
        return gettext("No circuit breaker is registered yet")
    refusing = sum(status.state in REFUSING_CALLS for status in breakers)
    figures = {"open": count(refusing), "all": count(len(breakers))}
    return gettext("%(open)s of %(all)s breakers open") % figures


def tone(breakers: Sequence[BreakerStatus]) -> str:
    """Return the verdict's tone: good only when every breaker is closed."""
    states = {status.state for status in breakers}
    if states & REFUSING_CALLS:
        return "bad"
    if not states:
        return "quiet"
    return "good" if states == {"closed"} else "warn"
