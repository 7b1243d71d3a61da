"""``manage.py sweep_search_cache``: remove the search results that count no more, from a shell."""

from typing import Any

from django.core.management.base import CommandError

from analytics_admin.management.base import EXIT_FAILED, OperationCommand, operator, progress
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache import operations

CUT_OFF = "Interrupted: the next sweep within an hour goes on from here"


class Command(OperationCommand):
    help = "Remove the search results that soft clears have left, without haste. Can be cut off."
    question = "Sweep the search cache?"

    def act(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        if dry_run:
            return self._sweep(options, dry_run=True)
        try:
            with progress("Results looked at:") as on_progress:
                return self._sweep(options, on_progress=on_progress)
        except KeyboardInterrupt:
            if options["json"]:
                self.say_json({"detail": CUT_OFF, "code": "interrupted"})
            raise CommandError(CUT_OFF, returncode=EXIT_FAILED) from None

    def _sweep(self, options: dict[str, Any], **details: Any) -> OperationResult:
        return operations.sweep_search_cache(actor=operator(), reason=options["reason"], **details)
