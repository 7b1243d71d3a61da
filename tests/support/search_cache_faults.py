"""Every fault of the search cache's store, and what a process of the site goes through in it.

Each befalls a real server and a process of its own, which reaches it through a proxy. The functions
without a scene run in that process; ``begin`` comes first.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.backend import BackendDown
from tests.support.breaker_faults import Fault, Scene
from tests.support.sites import eventually
from tests.support.stopwatch import Stopwatch
from tests.support.together import in_tasks, in_threads

RETRY = 0.3
"""STORE_RETRY_INTERVAL of the tests, in seconds."""
TOGETHER = 50
"""Threads, and tasks of an event loop, that search at once."""
OTHERS = ("calls", "threads", "herd", "tasks")
caches: dict[str, Any] = {}
logged: list[str] = []
wrong: list[str] = []
"""What searches met that were answered with anything else than they should have been."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What the process saw; durations in seconds."""

    calls: list[float] = field(default_factory=list)
    by_threads: list[float] = field(default_factory=list)
    in_herd: list[float] = field(default_factory=list)
    by_new_process: list[float] = field(default_factory=list)
    by_tasks: list[float] = field(default_factory=list)
    loop_lag: float = 0.0
    wrong: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    act: str = ""
    came_back: bool = True


def suffer(fault: Fault) -> Account:
    """Put a process through the fault."""
    with ExitStack() as stack:
        scene = Scene(stack)
        ask = scene.worker.ask
        ask(begin)
        fault.begin(scene)
        seen = Account()
        seen.calls = ask(search_one_by_one)
        seen.logged = ask(take_logged)
        seen.by_threads = ask(search_from_threads, "threads", False)
        seen.in_herd = ask(search_from_threads, "herd", True)
        seen.by_tasks, seen.loop_lag = ask(search_from_tasks)
        seen.by_new_process = ask(search_from_threads, "new", False)
        if "resolution" not in fault.name:
            seen.act = ask(clear_as_operator)
        fault.end(scene)
        seen.came_back = ask(comes_back)
        seen.wrong = ask(take_wrong)
    return seen


class _Listening(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "the epoch record is gone" not in record.getMessage():  # told of an empty store
            logged.append(f"{record.levelname} {record.getMessage()}")


def begin() -> None:
    """Hold caches that are each used as one more process of the site would, and a value."""
    from django.test import override_settings

    override_settings(ANALYTICS_ADMIN={"STORE_RETRY_INTERVAL": RETRY}).enable()
    for name in OTHERS:
        _cache(name).set("known", "kept")
    logging.getLogger("analytics_admin.caching").addHandler(_Listening())


def _cache(name: str) -> Any:
    from analytics_admin.caching import SearchCache

    return caches.setdefault(name, SearchCache(lambda: "search"))


def search_one_by_one() -> list[float]:
    """Search for what is known, what is new, and what the backend fails to find."""
    waits = []
    for number in range(30):
        watch = Stopwatch()  # thirty waits for a processor would add up to one for the store
        _search("calls", ("known", ("new", number), ("down", number))[number % 3])
        waits.append(watch.seconds)
    return waits


def search_from_threads(name: str, together: bool) -> list[float]:
    """Search from many threads, for a value each, some of them known, or all for the same one."""

    def search(number: int) -> float:
        return _search(name, "cold" if together else ("known", ("new", name, number))[number % 2])

    return in_threads(TOGETHER, search)


def _search(name: str, key: Any) -> float:
    """Return the seconds that a search took whose computation takes none."""

    def compute() -> str:
        if key[0] == "down":
            raise BackendDown
        return "found"

    began = time.monotonic()
    try:
        _check(key, _cache(name).get_or_compute(key, compute))
    except BackendDown:
        _check(key, "down")
    except Exception as error:
        wrong.append(f"{key}: {error!r}")
    return time.monotonic() - began


def _check(key: Any, answer: str) -> None:
    right = {"kept", "found"} if key == "known" else {"down"} if key[0] == "down" else {"found"}
    if answer not in right:
        wrong.append(f"{key}: {answer!r}")


def search_from_tasks() -> tuple[list[float], float]:
    """Search from many tasks at once; return their durations and the loop's longest hold-up."""

    async def compute() -> str:
        return "found"

    async def search(number: int) -> float:
        key = ("known", ("task", number))[number % 2]
        began = time.monotonic()
        try:
            _check(key, await _cache("tasks").aget_or_compute(key, compute))
        except Exception as error:
            wrong.append(f"{key}: {error!r}")
        return time.monotonic() - began

    return in_tasks(TOGETHER, search)


def clear_as_operator() -> str:
    """Return what an operator is told who clears the cache now."""
    from analytics_admin.caching.clear import hard
    from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable

    try:
        hard.clear()
    except (StoreUnavailable, OutcomeUnknown) as error:
        return error.reason
    return "done"


def comes_back() -> bool:
    """Say whether every cache stores values again soon."""
    return all(eventually(_stores(name), seconds=10) for name in (*OTHERS, "new"))


def _stores(name: str) -> Callable[[], bool]:
    def stores() -> bool:
        _cache(name).lookup(("back", name), lambda: "found")
        return bool(_cache(name).lookup(("back", name), lambda: "found").state == "hit")

    return stores


def take_logged() -> list[str]:
    return logged


def take_wrong() -> list[str]:
    return wrong
