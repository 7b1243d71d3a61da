"""How one circuit breaker reads in full, with its evidence, on a terminal and in a pipe.

Names, reasons and exceptions' texts are other people's words: they are shown as text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analytics_admin.management.breakers import COLOURS, aligned, seconds
from analytics_admin.management.foreign_text import printable
from analytics_admin.services.breakers.types import BreakerDetail
from analytics_admin.services.json import to_json

PERIODS_IN_A_LINE = 6
"""Ten seconds each: the history is shown by minutes, ``--json`` has it in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows below a title; all cells are fit for a terminal."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def plain_detail(detail: BreakerDetail) -> str:
    """Return all that is known of the breaker as lines without frames, for pipes."""
    plain = to_json(detail)
    return "\n".join([aligned(_facts(detail, plain)), *map(plain_section, _sections(plain))])


def drawn_detail(detail: BreakerDetail) -> list[RenderableType]:
    """Return the same as tables with frames and colours."""
    plain = to_json(detail)
    facts = Table(show_header=False)
    for fact, value in _facts(detail, plain):
        style = COLOURS.get(value, "") if fact == "state" else ""
        facts.add_row(fact, Text(value, style=style, overflow="fold"))
    return [facts, *map(drawn_section, _sections(plain))]


def plain_section(section: Section) -> str:
    """Return the section as aligned lines."""
    if not section.rows:
        return f"{section.title}\n  none"
    rows = [[column.upper() for column in section.columns], *section.rows]
    return f"{section.title}\n{aligned(rows, indent='  ')}"


def drawn_section(section: Section) -> RenderableType:
    """Return the section as a table with a frame."""
    if not section.rows:
        return Text(f"{section.title}: none")
    drawn = Table(title=Text(section.title), title_justify="left")
    for column in section.columns:
        drawn.add_column(column.upper())
    for row in section.rows:
        drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
    return drawn


def _facts(detail: BreakerDetail, plain: dict[str, Any]) -> list[tuple[str, str]]:
    status = detail.status
    facts = {
        "name": status.name,
        "state": status.state,
        "control": status.control,
        **(_hold(plain) if status.control != "automatic" else {}),
        "since": plain["since"],
        "opened": _reason(plain["opened"]) if plain["opened"] else None,
        "generation": status.generation,
        "retry": seconds(status.retry_after),
        "consecutive failures": status.consecutive_failures,
        "calls": _counted(plain["counts"]),
        **({"in the window": _counted(plain["window"])} if plain["window"] else {}),
        "failure rate": _percent(detail.failure_rate),
        "slow call rate": _percent(detail.slow_call_rate),
        "last used": plain["last_used"],
    }
    return [(fact, _shown(value)) for fact, value in facts.items()]


def _hold(plain: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "held until": plain["held_until"] or "its release",
        "held by": plain["held_by"],
        "hold reason": plain["hold_reason"],
    }
    if plain["control"] == "metrics_only":
        facts["would open"] = "yes" if plain["would_open"] else "no"
    return facts


def _sections(plain: dict[str, Any]) -> Iterator[Section]:
    yield Section(
        title="last failures",
        columns=("at", "host", "pid", "error", "message"),
        rows=[
            [_shown(failure[key]) for key in ("at", "host", "pid", "error", "message")]
            for failure in plain["failures"]
        ],
    )
    yield Section(
        title="last five minutes",
        columns=("from", "calls", "failed", "slow", "rejected"),
        rows=list(_minutes(plain["history"])),
    )
    yield Section(
        title="transitions",
        columns=("at", "move", "cause", "counted until then", "by"),
        rows=[_move(move) for move in plain["transitions"]],
    )
    yield Section(
        title="policy",
        columns=("option", "value"),
        rows=[(option, _shown(value)) for option, value in plain["policy"].items()],
    )


def _minutes(history: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for begin in range(0, len(history), PERIODS_IN_A_LINE):
        periods = history[begin : begin + PERIODS_IN_A_LINE]
        figures = [
            sum(period["counts"][figure] for period in periods)
            for figure in ("calls", "failures", "slow")
        ]
        rejected = sum(period["rejected"] for period in periods)
        yield [periods[0]["at"], *map(str, figures), str(rejected)]


def _move(move: dict[str, Any]) -> list[str]:
    states = f"{move['from_state']} -> {move['to_state']}"
    return [move["at"], *map(_shown, (states, move["cause"], _counted(move), move["actor"]))]


def _reason(opened: dict[str, Any]) -> str:
    """Say why it opened: when, by which rule, and what had been counted until then."""
    return f"{opened['at']} by {opened['cause']}: {_counted(opened)}"


def _counted(about: dict[str, Any]) -> str:
    counts = about.get("counts", about)
    run = f", {about['consecutive_failures']} in a row" if "consecutive_failures" in about else ""
    return f"{counts['calls']} ({counts['failures']} failed{run}, {counts['slow']} slow)"


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.1f}%"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    return "-" if value is None or value == "" else printable(str(value))
