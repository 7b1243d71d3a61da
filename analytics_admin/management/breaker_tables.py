"""How circuit breakers read on a terminal and in a pipe. Whatever people wrote is shown as text."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics_admin.services import BreakerDetail, BreakerStatus, as_plain

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
    return _aligned([COLUMNS, *map(_cells, breakers)])


def table(breakers: Sequence[BreakerStatus], *, note: str = "") -> Table:
    """Return the list as a frame with colours, the note below it."""
    drawn = Table(caption=Text(note) if note else None, caption_justify="left")
    for column in COLUMNS:
        drawn.add_column(column, justify="right" if column in {"FAILURES", "RETRY"} else "left")
    for status in breakers:
        name, state, *figures = _cells(status)
        drawn.add_row(Text(name), Text(state, style=COLOURS.get(state, "")), *figures)
    return drawn


def as_text(drawn: Table, *, colour: bool) -> str:
    """Return what the table looks like on a terminal of this width."""
    console = Console(no_color=not colour)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get()


def describe(detail: BreakerDetail) -> str:
    """Return all that is known of one breaker, a line for each fact."""
    plain = as_plain(detail)
    policy = {f"  {key}": value for key, value in plain["policy"].items()}
    facts = [*_facts(detail, plain).items(), ("policy", ""), *policy.items(), ("transitions", "")]
    lines = _aligned([(key, _shown(value)) for key, value in facts])
    moves = _aligned([_move(move) for move in plain["transitions"]])
    return f"{lines}\n{moves}" if moves else f"{lines}\n  none yet"


def printable(text: str) -> str:
    """Return the text with whatever would steer a terminal, or break the line, spelt out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _facts(detail: BreakerDetail, plain: dict[str, Any]) -> dict[str, Any]:
    status, counts = detail.status, detail.counts
    facts = {key: plain[key] for key in ("name", "state", "control")}
    if status.control != "automatic":
        facts |= {
            "held until": plain["held_until"] or "its release",
            "held by": status.held_by or None,
            "hold reason": status.hold_reason or None,
        }
    facts |= {
        "since": plain["since"],
        "generation": status.generation or None,
        "retry": None if status.retry_after is None else f"{status.retry_after:.1f}s",
        "consecutive failures": status.consecutive_failures,
        "calls": f"{counts.calls} ({counts.failures} failed, {counts.slow} slow)",
    }
    if window := detail.window:
        facts["in the window"] = f"{window.calls} ({window.failures} failed, {window.slow} slow)"
    facts["failure rate"] = _percent(detail.failure_rate)
    facts["slow call rate"] = _percent(detail.slow_call_rate)
    return facts


def _move(move: dict[str, Any]) -> tuple[str, ...]:
    by = f"by {printable(move['actor'])}" if move["actor"] else ""
    return f"  {move['at']}", f"{move['from_state']} -> {move['to_state']}", move["cause"], by


def _cells(status: BreakerStatus) -> tuple[str, str, str, str]:
    wait = "-" if status.retry_after is None else f"{status.retry_after:.1f}s"
    return printable(status.name), status.state, str(status.consecutive_failures), wait


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines
    )


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.1f}%"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    return "-" if value is None else printable(str(value))
