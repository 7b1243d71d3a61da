"""How the search cache reads on a terminal and in a pipe.

Names, reasons and keys come from others: control characters are escaped.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analytics_admin.management.base import printable
from analytics_admin.management.tables import Section, align, format_section, render_section
from analytics_admin.services.json import to_json
from analytics_admin.services.search_cache.queries import HotFunction, SearchCacheStatus

UNKNOWN = "unknown"
WAYS = {
    "flush": "the whole database is flushed",
    "unlink": "key by key",
    "memory": "in this process' memory",
}
PERIODS = ("last_5_minutes", "last_hour", "last_day")
FIGURES = {
    "calls": "calls",
    "hits": "hits",
    "hit_ratio": "hit ratio",
    "misses": "misses",
    "stale_served": "stale served",
    "stale_on_error": "  own search failed",
    "bypassed": "bypassed",
    "fills": "fills",
    "refused_fills": "refused fills",
    "too_large": "too large",
    "compute_errors": "compute errors",
    "compute_seconds": "seconds computed",
    "saved_seconds": "seconds saved",
}
LEAST_SHOWN = 0.05
"""As a tenth, by rounding."""
BY_MINUTE = ("calls", "hits", "hit_ratio", "misses", "stale_served", "fills", "compute_errors")


def format_status(status: SearchCacheStatus) -> str:
    """Return the status as lines without frames, for pipes."""
    plain = to_json(status)
    return "\n".join([align(list(_facts(plain))), *map(format_section, _sections(plain))])


def render_status(status: SearchCacheStatus) -> list[RenderableType]:
    """Return the status as colored tables."""
    plain = to_json(status)
    facts = Table(show_header=False)
    for fact, value in _facts(plain):
        facts.add_row(fact, Text(value, style=_color(fact, value), overflow="fold"))
    return [facts, *map(render_section, _sections(plain))]


def preview_lines(preview: Mapping[str, Any]) -> Iterator[str]:
    """Yield a clear's impact on the backend, and on other keys in the database.

    Not every preview has them: that of a clear by tags has neither.
    """
    if preview.get("bytes") is not None:
        yield f"  memory: about {preview['bytes']:,} bytes"
    if load := preview.get("load"):
        now = load["calls"], load["computations"], load["compute_seconds"]
        yield f"  load now: {_load(*now)}"
        after = load["calls"], load["computations_after"], load["compute_seconds_after"]
        yield f"  load after the clear, until the cache has filled: up to {_load(*after)}"
    elif preview.get("load_unknown"):
        yield f"  load: {UNKNOWN}: {preview['load_unknown']}"
    if way := preview.get("way"):
        why = f", as {preview['not_flushed']}" if preview["not_flushed"] else ""
        yield f"  removal: {WAYS[way]}{why}"
    fate = "removed too" if preview.get("way") == "flush" else "left alone"
    for kind in preview.get("foreign") or ():
        which = f"with {kind['prefix']} in front" if kind["prefix"] else "without a colon"
        yield f"  {fate}: {kind['keys']:,} other keys {which} ({kind['share']:.1%} of all)"


def functions_section(functions: Sequence[HotFunction]) -> Section:
    """Return the table of the cached functions."""
    columns = ("calls", "hits", "misses", "stale_served", "bypassed", "bytes", "compute_seconds")
    return Section(
        title="functions, last 24 hours",
        columns=("function", *(FIGURES.get(column, column) for column in columns)),
        rows=[
            [printable(each.name), *(_shown(column, getattr(each, column)) for column in columns)]
            for each in functions
        ],
    )


def _color(fact: str, value: str) -> str:
    if value.startswith(UNKNOWN):
        return "magenta"
    return "green" if fact == "store" else ""


def _facts(plain: dict[str, Any]) -> Iterator[tuple[str, str]]:
    away = f"{UNKNOWN}: {plain['unavailable']}"
    yield "alias", printable(plain["alias"])
    yield "database", "dedicated" if plain["dedicated"] else "shared"
    yield "store", "reachable" if plain["reachable"] else away
    about = "" if plain["exact"] else "about "
    yield "keys", UNKNOWN if plain["keys"] is None else f"{about}{plain['keys']:,}"
    yield "bytes", UNKNOWN if plain["bytes"] is None else f"about {plain['bytes']:,}"
    if plain["server_bytes"] is not None:
        limit = plain["server_bytes_limit"]
        of = f" of {limit:,}" if limit else ""
        yield "server's memory", f"{plain['server_bytes']:,}{of} bytes"
    if plain["may_evict"]:
        yield "eviction", "the server may drop the epoch record, and with it all results"
    yield "last clear", _last_clear(plain["last_clear"])
    if plain["undo_until"]:
        yield "undo until", plain["undo_until"]
    if plain["statistics_unavailable"]:
        yield "statistics", f"{UNKNOWN}: {plain['statistics_unavailable']}"
    elif load := plain["load"]:
        yield "load now", _load(load["calls"], load["computations"], load["compute_seconds"])
        yield (
            "load after a clear",
            _load(load["calls"], load["computations_after"], load["compute_seconds_after"]),
        )


def _last_clear(clear: dict[str, Any] | None) -> str:
    if clear is None:
        return "never"
    reason = f": {clear['reason']}" if clear["reason"] else ""
    return printable(f"{clear['at']} by {clear['actor']} ({clear['mode']}){reason}")


def _load(calls: float, computations: float, seconds: float) -> str:
    at_once = "less than 0.1" if 0 < seconds < LEAST_SHOWN else f"{seconds:.1f}"
    return f"{calls:.1f} calls/s, {computations:.1f} searches/s, {at_once} at once"


def _sections(plain: dict[str, Any]) -> Iterator[Section]:
    if not plain["statistics_unavailable"]:
        yield Section(
            title="calls",
            columns=("figure", *(name.replace("_", " ") for name in PERIODS)),
            rows=[
                [label, *(_shown(figure, plain[period][figure]) for period in PERIODS)]
                for figure, label in FIGURES.items()
            ],
        )
    if plain["foreign"]:
        yield Section(
            title="other keys in the database"
            + (", which a clear removes too" if plain["dedicated"] else ""),
            columns=("prefix", "keys", "share"),
            rows=[
                [printable(kind["prefix"]) or "-", f"{kind['keys']:,}", f"{kind['share']:.1%}"]
                for kind in plain["foreign"]
            ],
        )
    if plain["history"]:
        yield Section(
            title="last minutes",
            columns=("from", *(FIGURES[figure] for figure in BY_MINUTE)),
            rows=list(_minutes(plain["history"])),
        )


def _minutes(history: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for minute in history:
        yield [minute["at"], *(_shown(figure, minute["counts"][figure]) for figure in BY_MINUTE)]


def _shown(figure: str, value: float | None) -> str:
    if value is None:
        return "-"
    if figure == "hit_ratio":
        return f"{value:.1%}"
    return f"{value:,.1f}" if figure.endswith("seconds") else f"{value:,}"
