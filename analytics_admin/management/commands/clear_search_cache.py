"""``manage.py clear_search_cache``: the search cache's clear, from a shell."""

from collections.abc import Mapping
from typing import Any

from analytics_admin import services
from analytics_admin.management.base import ActCommand, operator, progress
from analytics_admin.services import ActResult


class Command(ActCommand):
    help = "Remove every cached search result."
    question = "Clear the search cache?"

    def act(self, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        if dry_run:
            return self._clear(options, dry_run=True)
        with progress("Keys removed:") as on_progress:
            return self._clear(options, on_progress=on_progress)

    def preview_lines(self, preview: Mapping[str, Any]) -> list[str]:
        from analytics_admin.management.search_cache_tables import preview_lines

        return list(preview_lines(preview))

    def _clear(self, options: dict[str, Any], **details: Any) -> ActResult:
        return services.clear_search_cache(actor=operator(), reason=options["reason"], **details)
