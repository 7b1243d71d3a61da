"""``manage.py circuit_breakers``: every registered breaker and its state."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analytics_admin import services
from analytics_admin.management.base import OperatorCommand
from analytics_admin.services import BreakerStatus

COLUMNS = ("NAME", "STATE", "FAILURES", "RETRY")
COLOURS = {"closed": "green", "open": "red", "half_open": "yellow", "unknown": "magenta"}


class Command(OperatorCommand):
    help = "List the circuit breakers of the whole fleet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--state", choices=COLOURS, help="only those in this state")
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        breakers = services.list_breakers(state=options["state"])
        if options["json"]:
            rows = [asdict(status) for status in breakers]
            self.say_json({"count": len(rows), "breakers": rows})
        elif not self.stdout.isatty():
            self.say(_plain(breakers))
        elif breakers:
            self.say(_table(breakers, colour=not options["no_color"]))
        else:
            self.say("No circuit breakers")


def _cells(status: BreakerStatus) -> tuple[str, str, str, str]:
    wait = "-" if status.retry_after is None else f"{status.retry_after:.1f}s"
    return status.name, status.state, str(status.consecutive_failures), wait


def _plain(breakers: Sequence[BreakerStatus]) -> str:
    """Aligned columns without frames, for pipes: no cell holds a space."""
    rows = [COLUMNS, *map(_cells, breakers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines
    )


def _table(breakers: Sequence[BreakerStatus], *, colour: bool) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in {"FAILURES", "RETRY"} else "left")
    for status in breakers:
        name, state, *figures = _cells(status)
        table.add_row(name, Text(state, style=COLOURS.get(state, "")), *figures)
    console = Console(no_color=not colour)
    with console.capture() as drawn:
        console.print(table)
    return drawn.get()
