"""What one protected call costs, ours and the peers': its time, and the round trips it waits for.

The protected function does nothing, so that all above the bare function is the breaker's.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analytics_admin.breakers import CircuitOpenError, circuit_breaker, runtime
from tests.benchmarks.breaker_bench import SYNC_INTERVAL, Line, RoundTrips
from tests.benchmarks.breaker_peers import NEVER, Peer, circuitbreaker_block
from tests.benchmarks.breaker_timing import (
    Calls,
    awaiting,
    calling,
    calling_through,
    enduring,
    entering,
    fail,
    looping,
    measure,
    measure_work,
    nothing,
    nothing_async,
    watching,
    watching_async,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLine:
    """A peer's figures: seconds added to a call, and round trips for each."""

    name: str
    added: Sequence[float]
    success_trips: float
    failure_trips: float
    rejection_trips: float
    rejection: float


def closed_calls(
    peers: dict[str, Peer], url: str, rounds: int
) -> tuple[list[Line], dict[str, Any]]:
    """Compare the ways to call through a closed breaker; return ours, and the peers' seconds."""
    breaker = circuit_breaker("closed")
    contestants = {
        "bare": calling(nothing),
        "decorator": calling(breaker(nothing)),
        "bare async": awaiting(nothing_async),
        "async decorator": awaiting(breaker(nothing_async)),
        "watching": calling(watching(nothing)),
        "async watching": awaiting(watching_async(nothing_async)),
        "loop": looping,
        "with": entering(breaker),
        "call": calling_through(breaker),
    }
    if "circuitbreaker" in peers:
        contestants["circuitbreaker, with"] = entering(circuitbreaker_block())
    for name, peer in peers.items():
        contestants[f"{name}, memory"] = calling(peer.protect(nothing, NEVER, None))
        if peer.shared:
            contestants[f"{name}, Redis"] = calling(peer.protect(nothing, NEVER, url))
    waiting = {name: contestants.pop(name) for name in list(contestants) if "Redis" in name}
    seen = measure_work(contestants, rounds)
    bases = {
        "async decorator": "bare async",
        "async watching": "bare async",
        "with": "loop",
        "circuitbreaker, with": "loop",
    }
    added = {
        name: _minus(seen[name], seen[bases.get(name, "bare")])
        for name in contestants
        if name not in ("bare", "bare async", "loop")
    }
    with_waits = measure({"bare": calling(nothing), **waiting}, rounds)
    added |= {name: _minus(with_waits[name], with_waits["bare"]) for name in waiting}
    ours = added["decorator"]
    lines = [
        Line(measure="closed call, decorator: added", values=_scaled(ours, 1e9), unit="ns"),
        _ratio("… of circuitbreaker's, in memory", ours, added, "circuitbreaker, memory", 0.5),
        _ratio("… of pybreaker's, in Redis", ours, added, "pybreaker, Redis", 0.01),
        Line(
            measure="async def: added, of the sync one's",
            values=_over(added["async decorator"], ours),
            bound=1.3,
        ),
        Line(
            measure="… the same of a bare decorator that reads the clock",
            values=_over(added["async watching"], added["watching"]),
        ),
        Line(measure="async def: added", values=_scaled(added["async decorator"], 1e9), unit="ns"),
        Line(measure="with block: added", values=_scaled(added["with"], 1e9), unit="ns"),
        _ratio("… of circuitbreaker's", added["with"], added, "circuitbreaker, with", 4),
        Line(measure="call(): added", values=_scaled(added["call"], 1e9), unit="ns"),
        _ratio("… of the decorator's", added["call"], added, "decorator", 1.2),
    ]
    return lines, added


def steady_calls(trips: RoundTrips, *, per_second: int = 10_000, seconds: float = 5.0) -> Line:
    """Call steadily; return the round trips per success."""
    protected = circuit_breaker("steady")(nothing)
    protected()
    before, began, made = trips.count(), time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * per_second)
        for _ in range(made, due):
            protected()
        made = due
        time.sleep(0.001)
    return Line(
        measure=f"round trips per success, {made / passed:,.0f} calls/s",
        values=[(trips.count() - before) / made],
        bound=0.001,
    )


def rejections(trips: RoundTrips, rounds: int) -> list[Line]:
    """Open a breaker and call on."""
    rejected = _opened("rejecting")
    seen = measure_work({"rejected": enduring(rejected)}, rounds)["rejected"]
    counts = [_trips_of_rejections(trips, rejected, 1000) for _ in range(rounds)]
    return [
        Line(measure="rejection", values=_scaled(seen, 1e6), unit="µs", bound=2),
        Line(
            measure="round trips of 1,000 rejections, view fresh",
            values=counts,
            bound=0,
            exact=True,
        ),
    ]


def peer_lines(
    peers: dict[str, Peer], url: str, trips: RoundTrips, added: dict[str, Any], rounds: int
) -> Iterator[PeerLine]:
    """Measure what else the peers' calls cost."""
    for name, peer in peers.items():
        for where, store in (("memory", None), ("Redis", url))[: 1 + peer.shared]:
            success = peer.protect(nothing, NEVER, store)
            failure = peer.protect(fail, NEVER, store)
            rejected = peer.protect(fail, 1, store)
            for function in (success, failure, rejected):
                enduring(function)(2)
            yield PeerLine(
                name=f"{name}, {where}",
                added=added[f"{name}, {where}"],
                success_trips=_trips(trips, enduring(success)),
                failure_trips=_trips(trips, enduring(failure)),
                rejection_trips=_trips(trips, enduring(rejected)),
                rejection=min(measure({"": enduring(rejected)}, rounds)[""]),
            )


def _opened(name: str) -> Callable[[], None]:
    protected = circuit_breaker(name, failure_threshold=1, wait_duration_in_open_state=3600)(fail)
    enduring(protected)(2)
    runtime.engine.report_all(10)  # the first calls did not wait for the reading
    try:
        protected()
    except CircuitOpenError:
        return protected
    raise AssertionError("the breaker did not open")


def _trips_of_rejections(trips: RoundTrips, rejected: Callable[[], None], calls: int) -> int:
    """Count within one interval: the call before has just brought the view up to date."""
    time.sleep(SYNC_INTERVAL)
    enduring(rejected)(1)
    before = trips.count()
    enduring(rejected)(calls)
    return trips.count() - before


def _trips(trips: RoundTrips, calls: Calls, number: int = 200) -> float:
    before = trips.count()
    calls(number)
    return (trips.count() - before) / number


def _ratio(
    measure: str, ours: Sequence[float], added: dict[str, Any], peer: str, bound: float
) -> Line:
    return Line(measure=measure, values=_over(ours, added.get(peer, ())), bound=bound)


def _minus(values: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - less for value, less in zip(values, base, strict=True)]


def _over(values: Sequence[float], by: Sequence[float]) -> list[float]:
    """Divide round by round; nothing by what was not measured."""
    return [value / its for value, its in zip(values, by, strict=False)]


def _scaled(values: Sequence[float], factor: float) -> list[float]:
    return [value * factor for value in values]
