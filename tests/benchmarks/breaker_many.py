"""A hundred busy breakers in one process: how often, and for how long, it synchronises."""

import time
from collections.abc import Callable
from typing import Any

from analytics_admin.breakers import CircuitBreaker, circuit_breaker, runtime
from analytics_admin.breakers.policy import TIME_BASED
from analytics_admin.breakers.state import Results
from analytics_admin.breakers.stores.base import Report
from tests.benchmarks.breaker_bench import SYNC_INTERVAL, Line, RoundTrips
from tests.benchmarks.breaker_timing import nothing

BREAKERS = 100
COUNT_WINDOW: dict[str, Any] = {"failure_rate_threshold": 50}
TIME_WINDOW = {**COUNT_WINDOW, "sliding_window_type": TIME_BASED, "sliding_window_size": 60}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "count window of 100": COUNT_WINDOW,
    "time window of 60 s, full": TIME_WINDOW,
}
IDLE_AFTER = 2.5


def synchronisations(trips: RoundTrips, rounds: int) -> list[Line]:
    """Keep breakers busy, one kind after the other; the bounds are for plain ones."""
    lines = []
    time.sleep(IDLE_AFTER)  # until what was used before is no longer synchronised
    for number, (kind, policy) in enumerate(KINDS.items()):
        names = [f"busy-{number}-{index}" for index in range(BREAKERS)]
        began = time.perf_counter()
        breakers = [circuit_breaker(name, **policy) for name in names]
        calls = [breaker(nothing) for breaker in breakers]
        for call in calls:
            call()
        first = time.perf_counter() - began
        for breaker in breakers:
            count(breaker, successes_in_last_seconds(60))
        counts = [_trips_per_interval(trips, calls) for _ in range(3)]
        took = [1000 * _synchronising_call(calls) for _ in range(3 * rounds)]
        prefix, bounded = f"{BREAKERS} breakers, {kind}:", not policy
        lines += [
            Line(measure=f"{prefix} first use of all", values=[1000 * first], unit="ms"),
            Line(
                measure=f"{prefix} round trips per SYNC_INTERVAL",
                values=counts,
                bound=1 if bounded else None,
            ),
            Line(
                measure=f"{prefix} a synchronisation",
                values=took,
                unit="ms",
                bound=5 if bounded else None,
            ),
        ]
        time.sleep(IDLE_AFTER)
    return lines


def count(
    breaker: CircuitBreaker, successes: tuple[tuple[int, int], ...], failures: int = 0
) -> None:
    """Have the store count these results."""
    assert breaker.local_state.snapshot is not None
    results = Results(successes=successes, newest_success_at=successes[-1][0], failures=failures)
    report = Report(
        name=breaker.name,
        window=breaker.policy.window,
        generation=breaker.local_state.snapshot.generation,
        results=results,
    )
    runtime.operator_store().add([report])


def successes_in_last_seconds(seconds: int) -> tuple[tuple[int, int], ...]:
    """Return five successes in each of the last seconds of the store's clock."""
    now = int(runtime.operator_store().load_many(["none"]).now)
    return tuple((second, 5) for second in range(now - seconds + 1, now + 1))


def _trips_per_interval(trips: RoundTrips, calls: list[Callable[[], None]]) -> float:
    earlier = trips.count()
    while trips.count() == earlier:  # begin just after a synchronisation, to count no half ones
        _keep_calling(calls, 0.001)
    before, began = trips.count(), time.monotonic()
    _keep_calling(calls, 8 * SYNC_INTERVAL)
    return (trips.count() - before) * SYNC_INTERVAL / (time.monotonic() - began)


def _keep_calling(calls: list[Callable[[], None]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for call in calls:
            call()
        time.sleep(0.001)


def _synchronising_call(calls: list[Callable[[], None]]) -> float:
    """Return the seconds of the one call that has to bring all of them up to date."""
    _keep_calling(calls, 0.01)
    time.sleep(SYNC_INTERVAL)
    began = time.perf_counter()
    calls[0]()
    return time.perf_counter() - began
