"""Tables for terminals and pipes, which several commands print."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows below a title. All cells are printable."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def render_text(*drawn: RenderableType, color: bool) -> str:
    """Return what a terminal of this width shows."""
    console = Console(no_color=not color)
    with console.capture() as captured:
        for part in drawn:
            console.print(part)
    return captured.get()


def align(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines
    )


def format_section(section: Section) -> str:
    """Return the section as aligned lines."""
    if not section.rows:
        return f"{section.title}\n  none"
    rows = [[column.upper() for column in section.columns], *section.rows]
    return f"{section.title}\n{align(rows, indent='  ')}"


def render_section(section: Section) -> RenderableType:
    """Return the section as a table with a frame."""
    if not section.rows:
        return Text(f"{section.title}: none")
    drawn = Table(title=Text(section.title), title_justify="left")
    for column in section.columns:
        drawn.add_column(column.upper())
    for row in section.rows:
        drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
    return drawn
