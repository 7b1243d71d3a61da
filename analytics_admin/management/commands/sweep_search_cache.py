"""``manage.py sweep_search_cache``: remove the search results that no longer count."""

from typing import Any

from django.core.management.base import CommandError

from analytics_admin.management.base import EXIT_FAILED, OperationCommand, operator, progress
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache import operations

INTERRUPTED = "Interrupted: what was removed stays removed. Run it again for the rest."


class Command(OperationCommand):
    help = "Remove the search results that no longer count, in small steps."
    question = "Sweep the search cache?"

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        if dry_run:
            return self._sweep(options, dry_run=True)
        try:
            with progress("Results examined:") as on_progress:
                return self._sweep(options, on_progress=on_progress)
        except KeyboardInterrupt:
            if options["json"]:
                self.write_json({"detail": INTERRUPTED, "code": "interrupted"})
            raise CommandError(INTERRUPTED, returncode=EXIT_FAILED) from None

    def _sweep(self, options: dict[str, Any], **details: Any) -> OperationResult:
        return operations.sweep_search_cache(actor=operator(), reason=options["reason"], **details)
