"""An operator's reset of every breaker: how long it takes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analytics_admin.breakers import (
    control,
    runtime,
)
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import CONSECUTIVE_FAILURES, new_record
from analytics_admin.breakers.state_machine import reset as closed
from analytics_admin.breakers.stores.base import MAX_NAMES, Move
from tests.benchmarks.breaker_bench import Line, RoundTrips

OTHERS = 3
WATCHED = "watched"  # sorts behind the registered ones, so it is among the last to be reset
HOUR = 3600
SPARE = 20  # names that other sections still register


def resets(trips: RoundTrips, rounds: int) -> list[Line]:
    """Reset 1,000 more, then as many as there may be, a tenth open."""
    return [*_reset_of(1000, trips, rounds, None), *_reset_of(MAX_NAMES, trips, rounds, 0.5)]


def _reset_of(count: int, trips: RoundTrips, rounds: int, bound: float | None) -> Iterator[Line]:
    names = fill_up(count)
    took, counts = [], []
    for _ in range(rounds):
        open_all(names[::10])
        before, began = trips.count(), time.perf_counter()
        done = control.reset(None, only_open=False)
        took.append(time.perf_counter() - began)
        counts.append(trips.count() - before)
    all_of_them = f"reset of all, {len(done):,} registered"
    yield Line(measure=all_of_them, values=took, unit="s", bound=bound)
    yield Line(measure=f"{all_of_them}: round trips", values=counts)


def fill_up(most: int = MAX_NAMES) -> list[str]:
    """Register names until there are so many more, or but a few less than there may be."""
    there = runtime.registered_names()
    missing = min(most, MAX_NAMES - SPARE - len(there))
    names = [f"registered-{len(there)}-{number}" for number in range(missing)]
    runtime.operator_store().compare_and_set(
        [Move(name=name, expected=None, new=new_record()) for name in names]
    )
    return names


def open_all(names: Sequence[str]) -> None:
    """Open the breakers for an hour, in the store."""
    store = runtime.operator_store()
    snapshots = store.load_many(names).snapshots
    moves = [
        Move(
            name=name,
            expected=snapshot,
            new=replace(closed(snapshot), state=State.OPEN, wait=HOUR, attempts=1),
            cause=CONSECUTIVE_FAILURES,
            attempt="benchmark",
        )
        for name, snapshot in snapshots.items()
        if snapshot is not None
    ]
    assert all(outcome.won for outcome in store.compare_and_set(moves))
