"""``manage.py circuit_breakers``: list the breakers and their states, or show one in detail."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from analytics_admin.management.base import (
    EXIT_OPEN,
    EXIT_USAGE,
    MAX_LINES,
    OperatorCommand,
    printable,
)
from analytics_admin.services.breakers import queries
from analytics_admin.services.breakers.queries import BREAKER_STATES, REJECTING_STATES
from analytics_admin.services.breakers.types import BreakerStatus
from analytics_admin.services.json import to_json

# Options that exclude each other.
CONFLICTS = (
    ("name", "state"),
    ("name", "search"),
    ("name", "watch"),
    ("watch", "json"),
    ("watch", "fail_on_open"),
)


class Command(OperatorCommand):
    help = "List the circuit breakers of the whole fleet, or show one in detail."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", metavar="NAME", help="show this one in detail")
        parser.add_argument("--state", choices=BREAKER_STATES, help="only breakers in this state")
        parser.add_argument(
            "--search", default="", metavar="TEXT", help="only breakers whose names contain this"
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )
        parser.add_argument(
            "--watch", action="store_true", help="update the list every second until Ctrl-C"
        )
        parser.add_argument(
            "--fail-on-open",
            action="store_true",
            help="exit with 3 while a breaker is open and waits",
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="with --fail-on-open: also while a breaker probes or is ready to",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._reject_conflicts(options)
        if options["watch"]:
            self._watch(options)
            return
        # An empty name, from an unset shell variable say, is an unknown breaker.
        is_list = options["name"] is None
        breakers = self._show_list(options) if is_list else self._show_one(options)
        if options["fail_on_open"]:
            _fail_on_open(breakers, strict=options["strict"])

    def _reject_conflicts(self, options: dict[str, Any]) -> None:
        for one, other in CONFLICTS:
            if options[one] and options[other]:
                names = " and ".join(
                    "NAME" if key == "name" else f"--{key.replace('_', '-')}"
                    for key in (one, other)
                )
                raise CommandError(f"{names} exclude each other", returncode=EXIT_USAGE)
        if options["strict"] and not options["fail_on_open"]:
            raise CommandError("--strict requires --fail-on-open", returncode=EXIT_USAGE)
        if options["watch"] and not self.stdout.isatty():
            raise CommandError("--watch requires a terminal", returncode=EXIT_USAGE)

    def _watch(self, options: dict[str, Any]) -> None:
        from analytics_admin.management.watch import watch

        self.stdout.ending = ""  # rich controls the screen
        watch(
            lambda lines: queries.page_breakers(
                **_filters(options), sort="urgency", page_size=lines
            ),
            self.stdout,
            color=not options["no_color"],
        )

    def _show_one(self, options: dict[str, Any]) -> Sequence[BreakerStatus]:
        from analytics_admin.management.breakers import format_detail, render_detail
        from analytics_admin.management.tables import render_text

        detail = queries.describe_breaker(options["name"])
        if options["json"]:
            self.write_json(to_json(detail))
        elif self.stdout.isatty():
            self.write(render_text(*render_detail(detail), color=not options["no_color"]))
        else:
            self.write(format_detail(detail))
        return [detail.status]

    def _show_list(self, options: dict[str, Any]) -> Sequence[BreakerStatus]:
        from analytics_admin.management.breakers import format_list, render_list
        from analytics_admin.management.tables import render_text

        breakers = queries.list_breakers(**_filters(options))
        if options["json"]:
            rows = [to_json(status) for status in breakers]
            self.write_json({"count": len(rows), "breakers": rows})
        elif not self.stdout.isatty():
            self.write(format_list(breakers))
        elif breakers:
            self.write(render_text(render_list(breakers), color=not options["no_color"]))
        else:
            self.write("No circuit breakers")
        return breakers


def _filters(options: dict[str, Any]) -> dict[str, Any]:
    return {"state": options["state"], "search": options["search"]}


def _fail_on_open(breakers: Sequence[BreakerStatus], *, strict: bool) -> None:
    """A breaker with 0 seconds to wait is ready to probe; one with None lets calls pass."""
    names = [
        status.name
        for status in breakers
        if (strict and status.retry_after is not None)
        or (status.state in REJECTING_STATES and status.retry_after)
    ]
    if not names:
        return
    more = f" and {len(names) - MAX_LINES} more" if len(names) > MAX_LINES else ""
    listed = ", ".join(map(printable, names[:MAX_LINES]))
    raise CommandError(f"Not closed: {listed}{more}", returncode=EXIT_OPEN)
