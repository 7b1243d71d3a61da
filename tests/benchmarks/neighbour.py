"""Somebody else on the same store: one GET or SET per millisecond, and how long each took.

A process of its own. A request's time counts from when it was due, so a stall shows in every
request that had to wait for it, not in one alone.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import redis

INTERVAL = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the watched call took, and what the neighbour saw from its start on (seconds)."""

    wall: float
    latencies: list[float]


class Neighbour:
    """Watch the store at ``url`` from the given core for as long as the block lasts."""

    def __init__(self, url: str, *, core: int) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_knock, args=(url, core, theirs), daemon=True)

    def __enter__(self) -> "Neighbour":
        self._process.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._process.terminate()
        self._process.join()

    def watch(self, act: Callable[[], object], *, until: Callable[[], object]) -> Watched:
        """Time ``act`` alone; watch the neighbour until ``until`` has returned as well."""
        self._knock_afresh()
        began = time.monotonic()
        act()
        wall = time.monotonic() - began
        until()
        self._ours.send((began, time.monotonic()))
        return Watched(wall=wall, latencies=self._ours.recv())

    def _knock_afresh(self) -> None:
        """Begin a new schedule, so that what was held up before the watch does not count in it."""
        self._ours.send(None)
        self._ours.recv()


def _knock(url: str, core: int, caller: Connection) -> None:
    os.sched_setaffinity(0, {core})
    # Neighbours live on machines of their own: not to wait for the clearing client's core.
    with suppress(PermissionError):
        os.nice(-15)
    client = redis.Redis.from_url(url, socket_timeout=60)
    client.set("neighbour", "x")
    while True:
        caller.recv()
        caller.send("knocking")
        caller.send(_latencies(client, caller))


def _latencies(client: "redis.Redis", caller: Connection) -> list[float]:
    """Knock until the caller names a window; return what took how long in it (seconds)."""
    seen: list[tuple[float, float]] = []
    window: tuple[float, float] | None = None
    due = time.monotonic()
    while window is None or due <= window[1]:  # also those that were due in it but held up
        time.sleep(max(0.0, due - time.monotonic()))
        if len(seen) % 2:
            client.get("neighbour")
        else:
            client.set("neighbour", "x")
        seen.append((due, time.monotonic() - due))
        due += INTERVAL
        if window is None and caller.poll():
            window = caller.recv()
    return [took for at, took in seen if window[0] <= at <= window[1]]
