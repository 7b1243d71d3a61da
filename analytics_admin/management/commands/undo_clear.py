"""``manage.py undo_clear``: undo the last soft clear of the search cache."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import OperationCommand, operator
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache import operations


class Command(OperationCommand):
    help = "Undo the last soft clear of the search cache, while its results are still kept."
    question = "Undo the soft clear?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--tag",
            action="append",
            dest="tags",
            metavar="TAG",
            help="the last soft clear of this tag instead (repeatable)",
        )
        parser.add_argument(
            "--function",
            action="append",
            dest="functions",
            metavar="NAME",
            help="the last soft clear of this cached function instead (repeatable)",
        )

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.undo_clear(
            actor=operator(),
            reason=options["reason"],
            dry_run=dry_run,
            tags=options["tags"],
            functions=options["functions"],
        )
