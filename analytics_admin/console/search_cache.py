"""The search cache's page: what it holds, when it was last cleared, and the button to clear it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern

from analytics_admin import services
from analytics_admin.console.acts import ConfirmedAct
from analytics_admin.console.pages import DomainAdmin, hindrance
from analytics_admin.console.search_cache_facts import describe_facts, describe_radius
from analytics_admin.console.wording import count
from analytics_admin.services import Act, ActResult


class SearchCacheAdmin(DomainAdmin):
    page_template = "admin/analytics_admin/search_cache.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        status = services.describe_search_cache()
        return {
            "act_url": self.url("clear"),
            "hindrance": hindrance(request, Act.CLEAR_SEARCH_CACHE),
            "status": status,
            **describe_facts(status),
        }

    def further_urls(self) -> list[URLPattern]:
        return [self.route("clear/", self.clear_view, "clear")]

    def clear_view(self, request: HttpRequest) -> HttpResponse:
        return Clear(self, request, url=self.url("clear"), back=self.url()).respond()


class Clear(ConfirmedAct):
    act = Act.CLEAR_SEARCH_CACHE
    template = "admin/analytics_admin/confirm_clear.html"

    def carry_out(self, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        return services.clear_search_cache(
            actor=self.actor, reason=options["reason"], dry_run=dry_run
        )

    def describe_preview(self, result: ActResult) -> dict[str, Any]:
        preview = result.preview or {}
        return {
            "preview": preview,
            "keys": count(preview["keys"]),
            **describe_radius(preview),
        }
