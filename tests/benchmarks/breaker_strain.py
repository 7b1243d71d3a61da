"""Ten minutes under strain: a slow store, lost replies, little processor time, a busy process.

Each row is a process of its own, all at the same time. Every few milliseconds it makes a protected
call, and beside it as many unprotected ones as take about as long, the control. An operator holds a
breaker open and resets it, in turns, every ten seconds. ``lost``: how often the process took its
store for lost.
Milliseconds: p99 and maximum of the call and of the control, without the waits for a processor;
then by how much calls obeyed the operator later than they may: the time of an answer, SYNC_INTERVAL
and the longest gap between two calls of the process. Below zero: that much earlier.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

SYNC_INTERVAL = 0.25
ALLOWED = 0.001
"""Seconds by which calls may take longer than the control."""
PAUSE = 0.005
BREAKERS = 20
CONTROL_CALLS = 1000
"""They take about as long as a protected call that is measured so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strain:
    """What a process suffers."""

    name: str
    delay: float = 0.0
    """Seconds by which each answer of the store is late."""
    loses: bool = False
    """Whether a reply is lost every five seconds."""
    processor: float = 1.0
    """Share of the time in which the process may run."""
    busy_threads: int = 0
    in_gevent: bool = False


STRAINS = (
    Strain(name="a store at 70 ms", delay=0.07),
    Strain(name="a store at 500 ms", delay=0.5),
    Strain(name="lost replies", loses=True),
    Strain(name="a fifth of a processor", processor=0.2),
    Strain(name="eight busy threads", busy_threads=8),
    Strain(name="a saturated hub of gevent", in_gevent=True),
)


def main() -> None:
    options = _options()
    if options.child is not None:
        _suffer(STRAINS[options.child], options.url, options.seconds)
    numbers = options.only or range(1, len(STRAINS) + 1)
    print(
        f"{'':28}{'lost':>5}{'calls':>9}{'p99':>8}{'control':>9}{'max':>8}{'control':>9}"
        f"{'gap':>9}{'obeyed, beyond':>16}"
    )
    strains = [STRAINS[number - 1] for number in numbers]
    seen = []
    for figures in measure(strains, seconds=options.seconds):
        print(figures, flush=True)
        seen.append(figures)
    if missed := [figures.strain.name for figures in seen if not figures.are_within_bounds]:
        raise SystemExit("bounds missed: " + "; ".join(missed))


def measure(
    strains: Sequence[Strain], *, seconds: float, between: float = 10.0
) -> Iterator["Figures"]:
    """Have a process suffer from each, all at the same time; ``between`` operations, seconds."""
    with ExitStack() as stack:
        runs = [stack.enter_context(_running(strain, seconds, between)) for strain in strains]
        for finish in runs:
            yield finish()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of rows")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _running(strain: Strain, seconds: float, between: float) -> Iterator[Callable[[], "Figures"]]:
    """Have a process suffer; yield what waits for its end and returns its figures."""
    from tests.support.proxy import Proxy
    from tests.support.servers import StoreServer

    place = str(STRAINS.index(strain))
    with StoreServer() as store, Proxy(store.socket_path) as proxy:
        proxy.delay = strain.delay
        command = [sys.executable, "-m", "tests.benchmarks.breaker_strain"]
        child = subprocess.Popen(
            [*command, "--child", place, "--url", proxy.url, "--seconds", str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        operator = subprocess.Popen(
            [sys.executable, "-c", OPERATOR, store.url, str(seconds), str(between)],
            stdout=subprocess.PIPE,
            text=True,
        )
        hindrance = threading.Thread(target=_hinder, args=(strain, child, proxy), daemon=True)
        hindrance.start()
        try:
            yield lambda: _collect(strain, child, operator)
        finally:
            for process in (child, operator):
                process.kill()
                process.wait()


def _hinder(strain: Strain, child: "subprocess.Popen[str]", proxy: Any) -> None:
    from tests.support.proxy import Fault

    time.sleep(3)
    while child.poll() is None:
        if strain.loses:
            proxy.fault = Fault(word=b"EVALSHA")
            time.sleep(5)
        elif strain.processor < 1:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGSTOP)
                time.sleep(0.1 * (1 - strain.processor))
                os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.1 * strain.processor)
        else:
            time.sleep(1)


OPERATOR = """
import sys, time
from tests.benchmarks.breaker_bench import set_up
set_up(sys.argv[1])
from analytics_admin.breakers import control, runtime
from analytics_admin.breakers.state import Control
HOLD = {"for_seconds": None, "actor": "sam", "reason": ""}
while "held" not in runtime.registered_names():  # until the other process begins
    time.sleep(0.05)
between = float(sys.argv[3])
ends_at = time.monotonic() + float(sys.argv[2]) - min(8, 2 + 2 * between)
time.sleep(5)
turn = 0
while time.monotonic() < ends_at:
    is_hold = turn % 2 == 0
    if is_hold:
        control.set_control(["held"], Control.FORCED_OPEN, **HOLD)
    else:
        control.reset(["held"], only_open=False)
    print(time.monotonic(), is_hold, flush=True)
    turn += 1
    time.sleep(between)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a process noticed; times in seconds, each pair of a call and of the control."""

    strain: Strain
    lost: Sequence[str]
    calls: int
    p99: tuple[float, float]
    most: tuple[float, float]
    gap: float
    beyond: Sequence[float]
    """For each operation, by how much it was obeyed later than it may be."""

    @property
    def are_within_bounds(self) -> bool:
        is_quick = all(call - control <= ALLOWED for call, control in (self.p99, self.most))
        return not self.lost and is_quick and len(self.beyond) > 1 and max(self.beyond) <= 0

    def __str__(self) -> str:
        p99, p99_control, most, most_control, gap, beyond = (
            1000 * it
            for it in (*self.p99, *self.most, self.gap, max(self.beyond, default=float("inf")))
        )
        reasons = "".join(f" {reason}" for reason in sorted(set(self.lost)))
        return (
            f"{self.strain.name:28}{len(self.lost):>5}{self.calls:>9,}{p99:>8.3f}"
            f"{p99_control:>9.3f}{most:>8.2f}{most_control:>9.2f}{gap:>9.0f}{beyond:>16.0f}{reasons}"
        )


def _collect(
    strain: Strain, child: "subprocess.Popen[str]", operator: "subprocess.Popen[str]"
) -> Figures:
    operations = [line.split() for line in operator.communicate()[0].splitlines()]
    seen = json.loads(child.communicate()[0])
    changes = [(at, rejects) for at, rejects in seen["changes"]]
    beyond = []
    for at, rejects in ((float(at), rejects == "True") for at, rejects in operations):
        obeyed_at = next(
            (when for when, now in changes if now is rejects and when >= at - SYNC_INTERVAL), None
        )
        late = float("inf") if obeyed_at is None else max(0.0, obeyed_at - at)
        beyond.append(late - strain.delay - SYNC_INTERVAL - seen["gap"])
    calls, control = sorted(seen["calls"]), sorted(seen["control"])
    return Figures(
        strain=strain,
        lost=seen["lost"],
        calls=len(calls),
        p99=(calls[int(0.99 * len(calls))], control[int(0.99 * len(control))]),
        most=(calls[-1], control[-1]),
        gap=seen["gap"],
        beyond=beyond,
    )


def _suffer(strain: Strain, url: str, seconds: float) -> NoReturn:
    if strain.in_gevent:
        from gevent import monkey

        monkey.patch_all()
    import logging

    import django
    from django.conf import settings

    alias = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "KEY_PREFIX": "breakers"}
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "analytics_admin"]
    settings.configure(CACHES={"breakers": alias}, INSTALLED_APPS=apps, LOGGING_CONFIG=None)
    django.setup()
    logging.getLogger("analytics_admin.breakers").setLevel(logging.CRITICAL)
    print(json.dumps(_Sufferer(strain, seconds).run()), flush=True)
    os._exit(0)


class _Sufferer:
    """The process' calls, and what it measures of them."""

    def __init__(self, strain: Strain, seconds: float) -> None:
        from analytics_admin.signals import breaker_store_changed

        self.strain = strain
        self.ends_at = time.monotonic() + seconds
        self.lost: list[str] = []
        self.calls: list[float] = []
        self.control: list[float] = []
        self.changes: list[tuple[float, bool]] = []
        self.gap = 0.0
        breaker_store_changed.connect(self._note)

    def _note(self, *, reason: str | None, **_: object) -> None:
        if reason is not None:
            self.lost.append(reason)

    def run(self) -> dict[str, Any]:
        others: Sequence[Any] = ()
        if self.strain.in_gevent:
            import gevent

            others = [gevent.spawn(self._compute, gevent.sleep) for _ in range(8)]
        for _ in range(self.strain.busy_threads):
            threading.Thread(target=self._spin, daemon=True).start()
        self._call()
        del others
        return {
            "lost": self.lost,
            "calls": self.calls,
            "control": self.control,
            "changes": self.changes,
            "gap": self.gap,
        }

    def _call(self) -> None:
        from analytics_admin.breakers import circuit_breaker

        breakers = [circuit_breaker(f"b{n}", failure_threshold=10**6) for n in range(BREAKERS)]
        held = circuit_breaker("held")
        begins_at = time.monotonic() + 4
        while time.monotonic() < begins_at:  # first looks, and until it gets pushes
            for breaker in (*breakers, held):
                breaker.call(int)
            time.sleep(PAUSE)
        last, turn, was_rejected = time.monotonic(), 0, False
        while (now := time.monotonic()) < self.ends_at:
            self.gap, last = max(self.gap, now - last), now
            turn += 1
            breaker = breakers[turn % BREAKERS]
            backend = _fail if turn % 10 == 0 else _succeed
            self.control.append(_seconds(_call_unprotected))
            self.calls.append(_seconds(partial(breaker.call, backend)))
            is_rejected = held.call(int, fallback=None) is None
            if is_rejected is not was_rejected:
                self.changes.append((time.monotonic(), is_rejected))
                was_rejected = is_rejected
            time.sleep(PAUSE)

    def _spin(self) -> None:
        while time.monotonic() < self.ends_at:
            sum(range(1000))

    def _compute(self, sleep: Callable[[float], None]) -> None:
        while time.monotonic() < self.ends_at:
            until = time.perf_counter() + 0.06
            while time.perf_counter() < until:
                pass
            sleep(0.002)


def _call_unprotected() -> None:
    for _ in range(CONTROL_CALLS):
        _succeed()


def _succeed() -> None:
    """What is called."""


def _fail() -> None:
    raise ValueError


def _seconds(call: Callable[[], Any]) -> float:
    """Return what the call took, without this thread's waits for a processor."""
    waited, began = _waited(), time.perf_counter()
    with suppress(ValueError):
        call()
    took = time.perf_counter() - began
    return max(0.0, took - (_waited() - waited))


def _waited() -> float:
    own = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return int(own.read_text().split()[1]) / 1e9


if __name__ == "__main__":
    main()
