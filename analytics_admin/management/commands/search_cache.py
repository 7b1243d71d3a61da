"""``manage.py search_cache``: the search cache's content and statistics."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from analytics_admin.management.base import OperatorCommand
from analytics_admin.services import json
from analytics_admin.services.search_cache import queries
from analytics_admin.services.search_cache.queries import MAX_HISTORY_MINUTES


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

    def handle(self, *args: Any, **options: Any) -> None:
        from analytics_admin.management.search_cache import format_status, render_status
        from analytics_admin.management.tables import render_text

        status = queries.describe_search_cache(minutes=options["minutes"])
        if options["json"]:
            self.write_json(json.to_json(status))
        elif self.stdout.isatty():
            self.write(render_text(*render_status(status), color=not options["no_color"]))
        else:
            self.write(format_status(status))


def _minutes(argument: str) -> int:
    if argument.isascii() and argument.isdigit() and int(argument) <= MAX_HISTORY_MINUTES:
        return int(argument)
    raise ArgumentTypeError(f"not a whole number from 0 to {MAX_HISTORY_MINUTES}")
