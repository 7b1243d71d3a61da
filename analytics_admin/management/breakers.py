"""How the list of circuit breakers reads on a terminal and in a pipe."""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from analytics_admin.management.foreign_text import printable
from analytics_admin.services.breakers.types import BreakerStatus

COLUMNS = ("NAME", "STATE", "FAILURES", "RETRY")
COLOURS = {
    "closed": "green",
    "open": "red",
    "half_open": "yellow",
    "unknown": "magenta",
    "forced_open": "red",
    "disabled": "yellow",
    "metrics_only": "yellow",
}


def plain_list(breakers: Sequence[BreakerStatus]) -> str:
    """Return aligned columns without frames, for pipes: no cell holds a space."""
    return aligned([COLUMNS, *map(_cells, breakers)])


def table(breakers: Sequence[BreakerStatus], *, note: str = "") -> Table:
    """Return the list as a frame with colours, the note below it."""
    drawn = Table(caption=Text(note) if note else None, caption_justify="left")
    for column in COLUMNS:
        drawn.add_column(column, justify="right" if column in {"FAILURES", "RETRY"} else "left")
    for status in breakers:
        name, state, *figures = _cells(status)
        word = f"{state} (would open)" if status.would_open else state
        drawn.add_row(Text(name), Text(word, style=COLOURS.get(state, "")), *figures)
    return drawn


def as_text(*drawn: RenderableType, colour: bool) -> str:
    """Return what this looks like on a terminal of this width."""
    console = Console(no_color=not colour)
    with console.capture() as captured:
        for part in drawn:
            console.print(part)
    return captured.get()


def aligned(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return the rows as lines, their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines
    )


def seconds(wait: float | None) -> str:
    """Return a wait in words that sort by eye; a hyphen where calls pass."""
    return "-" if wait is None else f"{wait:.1f}s"


def _cells(status: BreakerStatus) -> tuple[str, str, str, str]:
    wait = seconds(status.retry_after)
    return printable(status.name), status.state, str(status.consecutive_failures), wait
