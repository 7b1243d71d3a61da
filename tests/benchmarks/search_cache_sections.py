"""The parts of the search cache's benchmark, each as the lines and tables that it comes to."""

import statistics
from collections.abc import Callable

from rich.table import Table

from tests.benchmarks.breaker_bench import Line
from tests.benchmarks.search_cache_bench import cores_apart
from tests.benchmarks.search_cache_calls import calls
from tests.benchmarks.search_cache_clears import (
    AFTER,
    BEHIND,
    BOUND,
    HARD,
    QUERIES,
    RATE,
    SECONDS,
    SLOTS,
    SOFT,
    Aftermath,
    clears,
    percentile,
)
from tests.benchmarks.search_cache_herd import Herd, herd_lines, herds
from tests.benchmarks.search_cache_million import million
from tests.benchmarks.search_cache_stream import stream, stream_lines

Section = Callable[[str, int, int], tuple[list[Line], list[Table]]]


def _calls(url: str, server: int, rounds: int) -> tuple[list[Line], list[Table]]:
    with cores_apart(server):
        return calls(rounds), []


def _herd(url: str, server: int, rounds: int) -> tuple[list[Line], list[Table]]:
    seen = herds(url, rounds)
    return herd_lines(seen), [_herd_table(seen)]


def _herd_table(seen: list[Herd]) -> Table:
    table = Table(title="200 callers in 4 processes, one cold key, 200 ms to compute")
    for column in ("way", "computations", "at most", "slowest caller ms", "at most ms"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for herd in seen:
        slowest = [1000 * each for each in herd.slowest]
        table.add_row(
            herd.way,
            f"{statistics.median(herd.computes):.0f}",
            f"{max(herd.computes)}",
            f"{statistics.median(slowest):.0f}",
            f"{max(slowest):.0f}",
        )
    return table


def _million(url: str, server: int, rounds: int) -> tuple[list[Line], list[Table]]:
    with cores_apart(server):
        return million(url, rounds), []


def _stream(url: str, server: int, rounds: int) -> tuple[list[Line], list[Table]]:
    return stream_lines(stream(url)), []


def _clears(url: str, server: int, rounds: int) -> tuple[list[Line], list[Table]]:
    seen = clears(url)
    ours = {each.way.name: each for each in seen}
    return [*_hard_lines(ours[HARD]), *_soft_lines(ours[SOFT]), *_soft_lines(ours[BEHIND])], [
        _clears_table(seen)
    ]


def _hard_lines(seen: Aftermath) -> list[Line]:
    return [
        Line(measure=f"{HARD}: queries computed", values=[len(seen.computed)]),
        Line(measure=f"{HARD}: most for one", values=[_most(seen)], bound=1, exact=True),
        Line(measure=f"{HARD}: outdated answers", values=[len(seen.stale)], bound=0, exact=True),
    ]


def _soft_lines(seen: Aftermath) -> list[Line]:
    """The bound of the requests is for refreshes behind them: else a caller waits for each."""
    name, p99 = seen.way.name, 1000 * percentile(seen.after, 0.99)
    bound = 5.0 if seen.way.in_background else None
    latest = max(seen.stale, default=0.0)
    return [
        Line(measure=f"{name}: request's p99 after it", values=[p99], unit="ms", bound=bound),
        Line(measure=f"{name}: queries computed", values=[len(seen.computed)]),
        Line(measure=f"{name}: most for one", values=[_most(seen)], bound=1, exact=True),
        Line(measure=f"{name}: last outdated answer", values=[latest], unit="s", bound=BOUND),
    ]


def _most(seen: Aftermath) -> int:
    return max(seen.computed.values(), default=0)


def _clears_table(seen: list[Aftermath]) -> Table:
    title = (
        f"A clear at {RATE:.0f} requests/s, {QUERIES} hot queries, {SLOTS} slots of "
        f"{1000 * SECONDS:.0f} ms; ms of requests in the {AFTER:.0f} s after it"
    )
    table = Table(title=title)
    columns = ("calls", "most", "p99 before", "p50", "p99", "p99.9", "max", "stale s", "sent late")
    for column in ("way", *columns):
        table.add_column(column, justify="left" if column == "way" else "right")
    for each in seen:
        shares = [percentile(each.before, 0.99)]
        shares += [percentile(each.after, share) for share in (0.5, 0.99, 0.999, 1.0)]
        table.add_row(
            each.way.name,
            f"{each.computed.total():,}",
            f"{_most(each)}",
            *(f"{1000 * share:,.1f}" for share in shares),
            f"{max(each.stale, default=0.0):.2f}",
            f"{1000 * each.lateness:.1f}",
        )
    return table


SECTIONS: dict[str, Section] = {
    "calls": _calls,
    "herd": _herd,
    "million": _million,
    "stream": _stream,
    "clears": _clears,
}
