"""How circuit breakers read on a terminal and in a pipe: the list, and one in detail.

Names, reasons and exceptions' texts come from others: control characters are escaped.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analytics_admin.management.base import printable
from analytics_admin.management.tables import Section, align, format_section, render_section
from analytics_admin.services.breakers.types import BreakerDetail, BreakerStatus
from analytics_admin.services.json import to_json

COLUMNS = ("NAME", "STATE", "FAILURES", "RETRY")
COLORS = {
    "closed": "green",
    "open": "red",
    "half_open": "yellow",
    "unknown": "magenta",
    "forced_open": "red",
    "disabled": "yellow",
    "metrics_only": "yellow",
}
PERIODS_PER_LINE = 6
"""Ten seconds each: history is shown by minutes. ``--json`` has all periods."""


def format_list(breakers: Sequence[BreakerStatus]) -> str:
    """Return aligned columns without frames, for pipes. No cell contains a space."""
    return align([COLUMNS, *map(_cells, breakers)])


def render_list(breakers: Sequence[BreakerStatus], *, note: str = "") -> Table:
    """Return the list as a colored table with the note below it."""
    drawn = Table(caption=Text(note) if note else None, caption_justify="left")
    for column in COLUMNS:
        drawn.add_column(column, justify="right" if column in {"FAILURES", "RETRY"} else "left")
    for status in breakers:
        name, state, *figures = _cells(status)
        word = f"{state} (would open)" if status.would_open else state
        drawn.add_row(Text(name), Text(word, style=COLORS.get(state, "")), *figures)
    return drawn


def format_wait(wait: float | None) -> str:
    """Return the seconds until a probe is allowed; a hyphen where calls pass."""
    return "-" if wait is None else f"{wait:.1f}s"


def _cells(status: BreakerStatus) -> tuple[str, str, str, str]:
    wait = format_wait(status.retry_after)
    return printable(status.name), status.state, str(status.consecutive_failures), wait


def format_detail(detail: BreakerDetail) -> str:
    """Return the breaker in detail as lines without frames, for pipes."""
    plain = to_json(detail)
    return "\n".join([align(_facts(detail, plain)), *map(format_section, _sections(plain))])


def render_detail(detail: BreakerDetail) -> list[RenderableType]:
    """Return the breaker in detail as colored tables."""
    plain = to_json(detail)
    facts = Table(show_header=False)
    for fact, value in _facts(detail, plain):
        style = COLORS.get(value, "") if fact == "state" else ""
        facts.add_row(fact, Text(value, style=style, overflow="fold"))
    return [facts, *map(render_section, _sections(plain))]


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
        "retry": format_wait(status.retry_after),
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
        columns=("at", "move", "cause", "counts before", "by"),
        rows=[_move(move) for move in plain["transitions"]],
    )
    yield Section(
        title="policy",
        columns=("option", "value"),
        rows=[(option, _shown(value)) for option, value in plain["policy"].items()],
    )


def _minutes(history: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for begin in range(0, len(history), PERIODS_PER_LINE):
        periods = history[begin : begin + PERIODS_PER_LINE]
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
    """Return when it opened, by which rule and at which counts."""
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
