"""What a failed call costs: its caller's time, the work it makes, and the round trips.

The protected function does nothing but raise. Between spaced calls the process sleeps.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import redis

from analytics_admin.breakers import circuit_breaker, runtime
from tests.benchmarks.breaker_bench import SERVER_CORE, Line, RoundTrips, pin_this_process, set_up
from tests.benchmarks.breaker_peers import NEVER, Peer
from tests.benchmarks.breaker_timing import enduring, fail, measure_work
from tests.support.proxy import Proxy

PER_SECOND = 500
SPACED = 500
BURST = 10_000
TASKS = 1000
ANSWER_SECONDS = 0.0015


def failures(peers: dict[str, Peer], url: str, trips: RoundTrips, rounds: int) -> list[Line]:
    """Let calls fail, too few to trip: now and then, many at once; then one more."""
    failing = circuit_breaker("failing", failure_threshold=NEVER)(fail)
    enduring(failing)(1)
    return [
        *_spaced(failing, peers, url, rounds),
        *_work(failing, url, rounds),
        *_bursts(failing, trips, rounds),
        Line(
            measure="round trips of the failure that trips",
            values=[_trips_of_a_trip(trips, f"tripping-{turn}") for turn in range(10)],
            bound=2,
        ),
    ]


def _spaced(
    failing: Callable[[], None], peers: dict[str, Peer], url: str, rounds: int
) -> list[Line]:
    client = redis.Redis.from_url(url)
    contestants: dict[str, Callable[[], object]] = {
        "bare": lambda: enduring(fail)(1),
        "ours": lambda: enduring(failing)(1),
        "GET": lambda: client.get("nothing"),
    }
    if "pybreaker" in peers:
        pybreaker = peers["pybreaker"].protect(fail, NEVER, url)
        contestants["pybreaker"] = lambda: enduring(pybreaker)(1)
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            seen[name].append(statistics.median(_seconds_spaced(call)))
    added = [ours - bare for ours, bare in zip(seen["ours"], seen["bare"], strict=True)]
    lines = [
        Line(
            measure=f"failed call, {PER_SECOND}/s: added",
            values=[1e6 * each for each in added],
            unit="µs",
            bound=25,
        ),
        Line(
            measure="… of a GET",
            values=[ours / get for ours, get in zip(added, seen["GET"], strict=True)],
            bound=0.3,
        ),
        Line(measure="a GET, as often", values=[1e6 * each for each in seen["GET"]], unit="µs"),
    ]
    if "pybreaker" in seen:
        theirs = [1e6 * each for each in seen["pybreaker"]]
        lines.append(Line(measure="pybreaker's failed call, as often", values=theirs, unit="µs"))
    return lines


def _work(failing: Callable[[], None], url: str, rounds: int) -> list[Line]:
    """Compare the processor time of client and server with that of one EVALSHA."""
    client = redis.Redis.from_url(url)
    script = client.script_load("return 1")
    used: dict[str, list[float]] = {"sleep": [], "ours": [], "EVALSHA": []}
    contestants: dict[str, Callable[[], object]] = {
        "sleep": lambda: None,
        "ours": lambda: enduring(failing)(1),
        "EVALSHA": lambda: client.evalsha(script, 0),
    }
    for _ in range(rounds):
        for name, call in contestants.items():
            before = _work_done(client)
            _seconds_spaced(call)
            time.sleep(0.02)
            used[name].append((_work_done(client) - before) / SPACED)
    ratios = [
        (ours - sleep) / (plain - sleep)
        for ours, plain, sleep in zip(used["ours"], used["EVALSHA"], used["sleep"], strict=True)
    ]
    return [
        Line(
            measure=f"failed call, {PER_SECOND}/s: work of client and server",
            values=[1e6 * each for each in used["ours"]],
            unit="µs",
        ),
        Line(measure="… of that of a plain EVALSHA", values=ratios, bound=2),
    ]


def _bursts(failing: Callable[[], None], trips: RoundTrips, rounds: int) -> list[Line]:
    seen = measure_work({"bare": enduring(fail), "ours": enduring(failing)}, rounds)
    added = [ours - bare for ours, bare in zip(seen["ours"], seen["bare"], strict=True)]
    counts, lost, took = [], [], []
    for _ in range(rounds):
        runtime.engine.report_all(10)
        before, failed_before = trips.count(), _counted()
        began = time.perf_counter()
        enduring(failing)(BURST)
        took.append(1000 * (time.perf_counter() - began))
        runtime.engine.report_all(10)
        counts.append(trips.count() - before)
        lost.append(BURST - (_counted() - failed_before))
    burst = f"{BURST:,} failures at once"
    return [
        Line(
            measure="failed call, one after the other: added",
            values=[1e6 * each for each in added],
            unit="µs",
            bound=5,
        ),
        Line(measure=f"{burst}: time", values=took, unit="ms"),
        Line(measure=f"{burst}: round trips", values=counts, bound=100),
        Line(measure=f"{burst}: not counted", values=lost, bound=0, exact=True),
    ]


def failures_of_tasks(socket_path: str, rounds: int) -> list[Line]:
    """Have the calls of many tasks fail together, in a process far from its store."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    proxy = context.Process(target=_delay, args=(socket_path, theirs), daemon=True)
    proxy.start()
    url = ours.recv()
    process = context.Process(target=_fail_together, args=(url, rounds, theirs), daemon=True)
    process.start()
    waits, longest, unprotected = ours.recv()
    process.join()
    proxy.terminate()
    proxy.join()
    measure = f"{TASKS:,} tasks fail, the store {1000 * ANSWER_SECONDS} ms away"
    return [
        Line(measure=f"{measure}: median", values=waits, unit="ms", bound=10),
        Line(measure=f"{measure}: longest", values=longest, unit="ms"),
        Line(measure=f"{measure}: median of unprotected ones", values=unprotected, unit="ms"),
    ]


def _delay(socket_path: str, caller: Connection) -> None:
    pin_this_process(SERVER_CORE)
    with Proxy(socket_path) as proxy:
        proxy.delay = ANSWER_SECONDS
        caller.send(proxy.url)
        time.sleep(3600)


def _fail_together(url: str, rounds: int, caller: Connection) -> None:
    set_up(url)
    circuit_breaker("of-tasks", failure_threshold=NEVER).call(int)
    seen, unprotected = [], []
    for _ in range(rounds):
        unprotected.append(asyncio.run(_waits(lambda function: function)))
        seen.append(asyncio.run(_waits(circuit_breaker("of-tasks", failure_threshold=NEVER))))
    medians, controls = (
        [1000 * statistics.median(waits) for waits in each] for each in (seen, unprotected)
    )
    caller.send((medians, [1000 * max(waits) for waits in seen], controls))


async def _waits(protect: Callable[[Any], Any]) -> Sequence[float]:
    """Return how long after the backend's death each task has gone on."""
    dead = asyncio.Event()

    async def call() -> None:
        await dead.wait()
        raise OSError

    protected = protect(call)

    async def task() -> float:
        with suppress(OSError):
            await protected()
        return time.perf_counter()

    tasks = [asyncio.create_task(task()) for _ in range(TASKS)]
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    dead.set()
    return [ended - began for ended in await asyncio.gather(*tasks)]


def _seconds_spaced(call: Callable[[], object]) -> list[float]:
    """Call that often a second; return what each call took."""
    took = []
    due = time.perf_counter()
    for _ in range(SPACED):
        due += 1 / PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return took


def _work_done(client: "redis.Redis") -> float:
    server = client.info("cpu")
    return float(time.process_time() + server["used_cpu_user"] + server["used_cpu_sys"])


def _counted() -> int:
    snapshot = runtime.operator_store().load_many(["failing"]).snapshots["failing"]
    assert snapshot is not None
    return snapshot.counts.failures


def _trips_of_a_trip(trips: RoundTrips, name: str) -> int:
    breaker = circuit_breaker(name, failure_threshold=1)
    breaker.call(int)
    runtime.engine.report_all(10)
    before = trips.count()
    enduring(breaker(fail))(1)
    runtime.engine.report_all(10)
    count = trips.count() - before
    assert breaker.state == "open"
    return count
