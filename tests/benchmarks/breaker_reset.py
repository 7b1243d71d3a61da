"""An operator's reset of every breaker: how long it takes, and when the other processes see it."""

import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

from analytics_admin.breakers import (
    CircuitBreaker,
    CircuitOpenError,
    circuit_breaker,
    control,
    runtime,
)
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import CONSECUTIVE_FAILURES, new_record
from analytics_admin.breakers.state_machine import reset as closed
from analytics_admin.breakers.stores.base import MAX_NAMES, Move
from tests.benchmarks.breaker_bench import SYNC_INTERVAL, Line, RoundTrips, set_up
from tests.benchmarks.breaker_timing import nothing

OTHERS = 3
WATCHED = "watched"  # sorts behind the registered ones, so it is among the last to be reset
HOUR = 3600
SPARE = 20  # names that other sections still register


def resets(trips: RoundTrips, url: str, rounds: int) -> list[Line]:
    """Reset 1,000 more, then as many as there may be, a tenth open; then time who sees it."""
    lines = [*_reset_of(1000, trips, rounds, None), *_reset_of(MAX_NAMES, trips, rounds, 0.5)]
    with _other_processes(url) as others:
        after_all = [delay for _ in range(rounds) for delay in _seen(others, None)]
        after_one = [delay for _ in range(rounds) for delay in _seen(others, [WATCHED])]
    return [
        *lines,
        _seen_line("seen after the reset of all returned", after_all),
        _seen_line("seen after the reset of one began", after_one),
    ]


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


def _seen_line(measure: str, delays: list[float]) -> Line:
    """Judge by the slowest process of the slowest round."""
    return Line(
        measure=f"{measure}, slowest of {OTHERS} processes",
        values=[max(delays)],
        spread=delays,
        unit="s",
        bound=SYNC_INTERVAL + 0.05,
    )


@contextmanager
def _other_processes(url: str) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    processes, connections = [], []
    for _ in range(OTHERS):
        ours, theirs = context.Pipe()
        process = context.Process(target=_call_all_the_time, args=(url, theirs), daemon=True)
        process.start()
        processes.append(process)
        connections.append(ours)
    try:
        yield connections
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _seen(others: list[Connection], names: list[str] | None) -> list[float]:
    """Return after how many seconds each process let a call pass again."""
    _watched().acquire().fail()
    for other in others:
        other.send("watch")
    for other in others:
        assert other.recv() == "rejected"
    time.sleep(random.uniform(0, SYNC_INTERVAL))  # so that any phase of their interval is hit
    began = time.monotonic()
    control.reset(names, only_open=False)
    since = time.monotonic() if names is None else began
    return [other.recv() - since for other in others]


def _watched() -> CircuitBreaker:
    return circuit_breaker(WATCHED, failure_threshold=1, wait_duration_in_open_state=HOUR)


def _call_all_the_time(url: str, caller: Connection) -> None:
    set_up(url)
    protected = _watched()(nothing)
    while True:
        caller.recv()
        _wait_for(protected, passes=False)
        caller.send("rejected")
        _wait_for(protected, passes=True)
        caller.send(time.monotonic())


def _wait_for(protected: object, *, passes: bool) -> None:
    while _passes(protected) is not passes:
        time.sleep(0.001)


def _passes(protected: object) -> bool:
    try:
        protected()
    except CircuitOpenError:
        return False
    return True
