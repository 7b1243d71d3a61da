"""``manage.py clear_search_cache``: clear the search cache."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from analytics_admin.management.base import OperationCommand, operator, progress
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache import operations


class Command(OperationCommand):
    help = "Clear the search cache: all of it, or the results with some tags."
    question = "Clear the search cache?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--soft",
            action="store_const",
            dest="mode",
            const="soft",
            default="hard",
            help="keep results as stale for a while; undo_clear restores them",
        )
        parser.add_argument(
            "--tag",
            action="append",
            dest="tags",
            metavar="TAG",
            help="only results with this tag (repeatable)",
        )
        parser.add_argument(
            "--function",
            action="append",
            dest="functions",
            metavar="NAME",
            help="only results of this cached function, like shop.search.find (repeatable)",
        )
        parser.add_argument(
            "--key",
            action="append",
            dest="keys",
            type=_key,
            metavar="JSON",
            help='only the result of this key, like \'["search", "lamp", 1]\' (repeatable)',
        )

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        if dry_run:
            return self._clear(options, dry_run=True)
        with progress("Keys removed:") as on_progress:
            return self._clear(options, on_progress=on_progress)

    def preview_lines(self, preview: Mapping[str, Any]) -> list[str]:
        from analytics_admin.management.search_cache import preview_lines

        return list(preview_lines(preview))

    def _clear(self, options: dict[str, Any], **details: Any) -> OperationResult:
        return operations.clear_search_cache(
            actor=operator(),
            mode=options["mode"],
            tags=options["tags"],
            functions=options["functions"],
            keys=options["keys"],
            reason=options["reason"],
            **details,
        )


def _key(argument: str) -> Any:
    try:
        return json.loads(argument)
    except ValueError:
        raise ArgumentTypeError("not JSON") from None
