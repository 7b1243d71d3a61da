"""``manage.py operations``: list the audit trail, or show one operation."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.utils import timezone

from analytics_admin.management.base import EXIT_USAGE, OperatorCommand, duration
from analytics_admin.models import Operation
from analytics_admin.services.audit_queries import (
    MAX_OPERATIONS_PER_PAGE,
    OPERATION_KINDS,
    OperationFilter,
    describe_operation,
    page_operations,
)
from analytics_admin.services.json import to_json

DEFAULT_LIMIT = 100
FILTERS = ("since", "actor", "kind", "search", "csv")
"""Options of the list, which one operation does not take."""


class Command(OperatorCommand):
    help = "List the operations on record, newest first, or show one of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", nargs="?", type=_id, metavar="ID", help="show this one in full")
        parser.add_argument(
            "--since",
            type=_since,
            metavar="TIME",
            help="only those that began then or later: 1h (ago), or 2026-07-01T22:30:00Z",
        )
        parser.add_argument("--actor", metavar="NAME", help="only this actor; the exact name")
        parser.add_argument("--kind", choices=OPERATION_KINDS, help="only this kind")
        parser.add_argument(
            "--search", default="", metavar="WORDS", help="only those with all of these words"
        )
        parser.add_argument(
            "--limit",
            type=_limit,
            default=DEFAULT_LIMIT,
            metavar="N",
            help=f"how many at most (default {DEFAULT_LIMIT})",
        )
        form = parser.add_mutually_exclusive_group()
        form.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )
        form.add_argument("--csv", action="store_true", help="print CSV on stdout, nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        from analytics_admin.management.audit import format_csv, format_operation, format_operations

        if options["id"] is not None:
            self._reject_filters(options)
            operation = describe_operation(options["id"])
            if options["json"]:
                self.write_json(to_json(operation))
            else:
                self.write(format_operation(operation))
            return
        operations = self._find(options)
        if options["json"]:
            rows = [to_json(operation) for operation in operations]
            self.write_json({"count": len(rows), "results": rows})
        elif options["csv"]:
            self.write(format_csv(operations))
        elif operations:
            self.write(format_operations(operations))
        else:
            self.write("No operations")

    def _reject_filters(self, options: dict[str, Any]) -> None:
        for name in FILTERS:
            if options[name]:
                raise CommandError(f"ID and --{name} exclude each other", returncode=EXIT_USAGE)

    def _find(self, options: dict[str, Any]) -> list[Operation]:
        names = ("since", "actor", "kind", "search")
        chosen = OperationFilter(**{name: options[name] for name in names})
        found: list[Operation] = []
        cursor = None
        while len(found) < options["limit"]:
            size = min(MAX_OPERATIONS_PER_PAGE, options["limit"] - len(found))
            try:
                page = page_operations(chosen=chosen, page_size=size, cursor=cursor)
            except ValueError as error:
                raise CommandError(str(error), returncode=EXIT_USAGE) from None
            found += page.operations
            cursor = page.next_cursor
            if cursor is None:
                break
        return found


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"not the id of an operation: {text!r}") from None


def _since(text: str) -> datetime:
    try:
        return timezone.now() - timedelta(seconds=duration(text))
    except (ArgumentTypeError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
        at.astimezone()
        timezone.make_naive(at)  # rejects a time without a zone
    except (ValueError, OverflowError):
        text = f"not like 1h, or a time with its zone: {text!r}"
        raise ArgumentTypeError(text) from None
    return at


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000:
        return int(text)
    raise ArgumentTypeError("not a whole number from 1 to 1000000")
