"""``manage.py search_cache``: the search cache's content and statistics."""

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from typing import Any

from analytics_admin.management.base import OperatorCommand
from analytics_admin.services import json
from analytics_admin.services.search_cache import queries
from analytics_admin.services.search_cache.queries import MAX_HISTORY_MINUTES, MAX_HOT_FUNCTIONS


class Command(OperatorCommand):
    help = "Show the search cache's content, statistics and last clear."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )
        parser.add_argument(
            "--minutes",
            type=_minutes,
            default=0,
            metavar="N",
            help=f"show the last N minutes (at most {MAX_HISTORY_MINUTES}) minute by minute",
        )

        parser.add_argument(
            "--functions",
            action="store_true",
            help=f"show the {MAX_HOT_FUNCTIONS} cached functions that took most time to compute",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from analytics_admin.management.search_cache import (
            format_status,
            functions_section,
            render_status,
        )
        from analytics_admin.management.tables import format_section, render_section, render_text

        status = queries.describe_search_cache(minutes=options["minutes"])
        functions = queries.list_hot_functions() if options["functions"] else None
        if options["json"]:
            more = {} if functions is None else {"functions": [asdict(each) for each in functions]}
            self.write_json(json.to_json(status) | more)
            return
        section = None if functions is None else functions_section(functions)
        if self.stdout.isatty():
            tables = render_status(status) + ([] if section is None else [render_section(section)])
            self.write(render_text(*tables, color=not options["no_color"]))
        else:
            texts = [format_status(status)] + ([] if section is None else [format_section(section)])
            self.write("\n".join(texts))


def _minutes(argument: str) -> int:
    if argument.isascii() and argument.isdigit() and int(argument) <= MAX_HISTORY_MINUTES:
        return int(argument)
    raise ArgumentTypeError(f"not a whole number from 0 to {MAX_HISTORY_MINUTES}")
