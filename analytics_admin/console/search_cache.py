"""The search cache's page: what it holds, when it was last cleared, and the button to clear it."""

from typing import Any

from django.http import HttpRequest

from analytics_admin import services
from analytics_admin.console.pages import ActPage
from analytics_admin.console.wording import REACHABLE, UNKNOWN, count
from analytics_admin.services import Act, Actor, ActResult


class SearchCacheAdmin(ActPage):
    act = Act.CLEAR_SEARCH_CACHE
    act_path = "clear"
    page_template = "admin/analytics_admin/search_cache.html"
    confirm_template = "admin/analytics_admin/confirm_clear.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        status = services.describe_search_cache()
        return {
            "status": status,
            "store": REACHABLE if status.keys is not None else UNKNOWN,
            "keys": "" if status.keys is None else count(status.keys),
        }

    def carry_out(self, actor: Actor, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        return services.clear_search_cache(actor=actor, reason=options["reason"], dry_run=dry_run)

    def describe_preview(self, result: ActResult) -> dict[str, Any]:
        preview = result.preview or {}
        return {"preview": preview, "keys": count(preview["keys"])}
