"""What the search cache costs and spares, each figure beside its bound, and its peers'."""

import argparse
import os
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tests.benchmarks import search_cache_bench as bench
from tests.benchmarks.breaker_bench import Line, cells
from tests.support.servers import StoreServer, free_port

SECTIONS = ("calls", "herd", "million", "stream", "clears")


def main() -> None:
    options = _options()
    lines: list[Line] = []
    console = Console(width=120)
    with StoreServer(port=free_port()) as store:
        assert store.process is not None
        bench.set_up(store.url)
        from tests.benchmarks import search_cache_sections as sections

        for name in options.only:
            print(f"{name}: load average {os.getloadavg()[0]:.1f}", flush=True)
            found, tables = sections.SECTIONS[name](store.url, store.process.pid, options.rounds)
            lines += found
            for table in tables:
                console.print(table)
    console.print(_ours(lines))
    if missed := [line.measure for line in lines if line.holds is False]:
        raise SystemExit("bounds missed: " + "; ".join(missed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    return parser.parse_args()


def _ours(lines: Iterable[Line]) -> Table:
    table = Table(title="Ours: medians")
    for column in ("measure", "value", "from", "to", "bound", "verdict"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for line in lines:
        table.add_row(*cells(line))
    return table


if __name__ == "__main__":
    main()
