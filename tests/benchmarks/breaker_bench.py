"""What the breakers' benchmarks share: the site, its cores, round trips, verdicts.

The server has a core of its own; the client, and every process that a benchmark starts, another.
"""

import itertools
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import django
from django.conf import settings
from django.dispatch import receiver
from redis.connection import AbstractConnection

from analytics_admin.breakers import control, runtime
from analytics_admin.signals import breaker_store_changed

T = TypeVar("T")

# A process that a benchmark starts inherits the client's core as its only one.
SERVER_CORE, *_, CLIENT_CORE = sorted(os.sched_getaffinity(0)) * 2
VERDICTS = {None: "", True: "holds", False: "MISSED"}
SYNC_INTERVAL = runtime.engine.interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure; without a bound it is there for information."""

    measure: str
    values: Sequence[float]
    unit: str = ""
    bound: float | None = None
    exact: bool = False
    spread: Sequence[float] = ()

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        if self.bound is None or not self.values:
            return None
        return self.value == self.bound if self.exact else self.value <= self.bound


def cells(line: Line) -> Sequence[str]:
    """Return a row of the table: measure, value, from, to, bound, verdict."""
    if not line.values:
        return line.measure, "not measured", "", "", _bound(line), ""
    spread = line.spread or line.values
    return (
        line.measure,
        f"{_figure(line.value)} {line.unit}".strip(),
        _figure(min(spread)),
        _figure(max(spread)),
        _bound(line),
        VERDICTS[line.holds],
    )


def _bound(line: Line) -> str:
    if line.bound is None:
        return ""
    return f"{'=' if line.exact else '≤'} {line.bound:,} {line.unit}".strip()


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process on one core."""
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        os.sched_setaffinity(thread, {core})


def pin_this_process(core: int) -> None:
    """Keep this process, and the threads that it starts from now on, on one core."""
    pin(os.getpid(), core)


def set_up(url: str) -> None:
    """Make this process one of the site's, on the client's core."""
    pin_this_process(CLIENT_CORE)
    alias = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "KEY_PREFIX": "breakers"}
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "analytics_admin"]
    settings.configure(CACHES={"breakers": alias}, INSTALLED_APPS=apps, LOGGING_CONFIG=None)
    django.setup()
    logging.getLogger("analytics_admin.breakers").setLevel(logging.CRITICAL)


class RoundTrips:
    """Counts what this process sends to any server and then waits for."""

    def __init__(self) -> None:
        self._sent = itertools.count()
        self._read = 0
        send, sent = AbstractConnection.send_packed_command, self._sent

        def counting(connection: Any, *args: Any, **kwargs: Any) -> Any:
            next(sent)
            return send(connection, *args, **kwargs)

        AbstractConnection.send_packed_command = counting  # type: ignore[method-assign]

    def count(self) -> int:
        """Return how many there were since this began."""
        self._read += 1  # reading is a step of the counter, too
        return next(self._sent) - self._read + 1


_losses: list[str] = []


@receiver(breaker_store_changed)
def _note_loss(*, reason: str | None, **_: object) -> None:
    if reason is not None:
        _losses.append(reason)


def undisturbed(section: Callable[[], T], attempts: int = 5) -> T:
    """Return what the section measures; measure again if it went on in memory meanwhile.

    A machine busy with other work can keep the store from answering in time.
    """
    for _ in range(attempts):
        _losses.clear()
        measured = section()
        if not _losses:
            return measured
        print("the store did not answer in time; measuring this part again", flush=True)
        while runtime.engine.outage.stand_in is not None:
            time.sleep(0.1)
        control.reset(None, only_open=True)
    raise SystemExit("this machine is too busy to measure now")
