"""The circuit breakers' page: the verdict, every registered breaker, the buttons to reset them."""

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.console.forms import ConfirmResetForm
from analytics_admin.console.pages import ActPage
from analytics_admin.console.wording import count, state_badge
from analytics_admin.services import Act, Actor, ActResult, BreakerStatus, StoreUnavailable

REFUSING_CALLS = frozenset({"open", "forced_open"})
PER_PAGE = 100
LISTED_IN_PREVIEW = 100


class CircuitBreakerAdmin(ActPage):
    act = Act.RESET_CIRCUIT_BREAKERS
    act_path = "reset"
    page_template = "admin/analytics_admin/circuit_breakers.html"
    confirm_template = "admin/analytics_admin/confirm_reset.html"
    confirm_form = ConfirmResetForm

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """The verdict is on all of them; those that need a look are on the first page."""
        try:
            breakers = services.list_breakers()
        except StoreUnavailable as error:
            return {"unavailable": error.reason}
        ordered = sorted(breakers, key=lambda status: (urgency(status.state), status.name))
        page = Paginator(ordered, PER_PAGE).get_page(request.GET.get("page"))
        return {
            "rows": [{"status": status, "badge": state_badge(status.state)} for status in page],
            "page": page,
            "page_range": page.paginator.get_elided_page_range(page.number),
            "total": count(len(breakers)),
            "verdict": verdict(breakers),
            "tone": tone(breakers),
        }

    def initial(self, post: QueryDict) -> dict[str, Any]:
        return {"only_open": "only_open" in post}

    def carry_out(self, actor: Actor, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        return services.reset_circuit_breakers(
            actor=actor, only_open=options["only_open"], reason=options["reason"], dry_run=dry_run
        )

    def describe_preview(self, result: ActResult) -> dict[str, Any]:
        """Breakers that will move come first; the rest of a long list is only counted."""
        preview = result.preview or {}
        breakers = sorted(preview["breakers"], key=lambda row: row["from"] == row["to"])
        shown = [
            {**row, "from": state_badge(row["from"]), "to": state_badge(row["to"])}
            for row in breakers[:LISTED_IN_PREVIEW]
        ]
        return {
            "preview": preview,
            "shown": shown,
            "unshown": len(breakers) - len(shown),
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
