"""What our circuit breakers cost, each figure beside its bound, and what the peers' cost.

The peers are not among the site's requirements; without them the bounds that are a share of theirs
are not judged: ``pip install -r tests/benchmarks/requirements.txt``.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.breaker_bench import (
    CLIENT_CORE,
    SERVER_CORE,
    Line,
    RoundTrips,
    cells,
    pin,
    set_up,
    undisturbed,
)
from tests.benchmarks.breaker_calls import (
    PeerLine,
    closed_calls,
    peer_lines,
    rejections,
    steady_calls,
)
from tests.benchmarks.breaker_evidence import views
from tests.benchmarks.breaker_failures import failures, failures_of_tasks
from tests.benchmarks.breaker_memory import idle_breakers
from tests.benchmarks.breaker_obedience import obedience
from tests.benchmarks.breaker_peers import installed
from tests.benchmarks.breaker_reset import resets
from tests.benchmarks.breaker_server import server_costs
from tests.support.servers import StoreServer, free_port


def main() -> None:
    options = _options()
    rounds: int = options.rounds
    peers = installed()
    with StoreServer(port=free_port()) as store:
        assert store.process is not None
        pin(store.process.pid, SERVER_CORE)
        set_up(store.url)
        trips = RoundTrips()
        added: dict[str, Any] = {}

        def closed() -> list[Line]:
            lines, seen = closed_calls(peers, store.url, rounds)
            added.update(seen)
            return [*lines, steady_calls(trips)]

        sections: dict[str, Callable[[], list[Line]]] = {
            "calls": closed,
            "rejections": lambda: rejections(trips, rounds),
            "failures": lambda: failures(peers, store.url, trips, rounds),
            "tasks": lambda: failures_of_tasks(store.socket_path, rounds),
            "obedience": lambda: obedience(store.url, rounds),
            "server": lambda: server_costs(store.url, rounds),
            "resets": lambda: resets(trips, rounds),
            "views": lambda: views(rounds),
            "memory": idle_breakers,
        }
        lines = []
        for name, section in sections.items():
            if not options.only or name in options.only:
                lines += undisturbed(section)
        of_peers = list(peer_lines(peers, store.url, trips, added, rounds)) if added else []
    _report(lines, of_peers, rounds)
    if missed := [line.measure for line in lines if line.holds is False]:
        raise SystemExit("bounds missed: " + "; ".join(missed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--only", nargs="*", metavar="SECTION", help="sections to measure")
    return parser.parse_args()


def _report(lines: list[Line], of_peers: list[PeerLine], rounds: int) -> None:
    console = Console(width=120)
    where = f"server on core {SERVER_CORE}, clients on core {CLIENT_CORE}"
    ours = Table(title=f"Ours: medians of {rounds} interleaved rounds; {where}")
    for column in ("measure", "value", "from", "to", "bound", "verdict"):
        ours.add_column(column, justify="left" if column == "measure" else "right")
    for line in lines:
        ours.add_row(*cells(line))
    console.print(ours)
    if not of_peers:
        return
    theirs = Table(title="The peers: added to a closed call, and round trips for each call")
    for column in (
        "peer",
        "added µs",
        "from",
        "to",
        "rejection µs",
        "success",
        "failure",
        "rejected",
    ):
        theirs.add_column(column, justify="left" if column == "peer" else "right")
    for line in of_peers:
        theirs.add_row(*_peer_cells(line))
    console.print(theirs)


def _peer_cells(line: PeerLine) -> Sequence[str]:
    added = sorted(1e6 * value for value in line.added)
    middle = added[len(added) // 2]
    times = (middle, added[0], added[-1], 1e6 * line.rejection)
    trips = (line.success_trips, line.failure_trips, line.rejection_trips)
    return line.name, *(f"{value:.3g}" for value in (*times, *trips))


if __name__ == "__main__":
    main()
