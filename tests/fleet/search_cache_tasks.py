"""What processes of the site do with the search cache, told as figures."""

import asyncio
import json
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard, soft
from analytics_admin.caching.clear import sweep as sweeping
from analytics_admin.caching.statistics.counters import Counts
from tests.support.together import in_threads

THREADS = 50
results: list[Any] = []
under_way: list[threading.Thread] = []


def _cache() -> SearchCache:
    from analytics_admin.caching import search_cache

    return search_cache


def configure(**options: Any) -> None:
    from django.test import override_settings

    override_settings(ANALYTICS_ADMIN=options).enable()


def warm_up() -> None:
    """Import and connect, so that a test measures nothing else."""
    _cache().get("warm")


def call_from_threads(key: str, seconds: float) -> dict[str, Any]:
    """Ask from many threads at once for a value that takes so long to compute."""
    computed: list[int] = []
    values: set[str] = set()

    def compute() -> str:
        computed.append(1)
        time.sleep(seconds)
        return "found"

    def call(_: int) -> float:
        began = time.monotonic()
        values.add(_cache().get_or_compute(key, compute))
        return time.monotonic() - began

    waited = in_threads(THREADS, call)
    return {"computed": len(computed), "slowest": max(waited), "values": values}


def call_from_tasks(key: str, seconds: float) -> dict[str, Any]:
    """Do what ``call_from_threads`` does in an event loop."""
    computed: list[int] = []

    async def compute() -> str:
        computed.append(1)
        await asyncio.sleep(seconds)
        return "found"

    async def main() -> set[str]:
        calls = [_cache().aget_or_compute(key, compute) for _ in range(THREADS)]
        return set(await asyncio.gather(*calls))

    began = time.monotonic()
    values = asyncio.run(main())
    return {"computed": len(computed), "slowest": time.monotonic() - began, "values": values}


def get_or_compute(key: str, value: Any, tags: tuple[str, ...] = ()) -> tuple[Any, str, float]:
    """Return value, state and the seconds that the call took."""
    began = time.monotonic()
    lookup = _cache().lookup(key, lambda: value, tags=tags)
    return lookup.value, lookup.state, time.monotonic() - began


def get(key: str, tags: tuple[str, ...] = ()) -> Any:
    return _cache().get(key, tags=tags)


def clear() -> None:
    hard.clear()


def clear_tags(tags: list[str]) -> None:
    _cache().clear_tags(tags)


def begin_to_compute(key: str, value: Any, seconds: float, tags: tuple[str, ...] = ()) -> None:
    """Compute in a thread of its own; return when the computation has begun."""
    begun = threading.Event()

    def compute() -> Any:
        begun.set()
        time.sleep(seconds)
        return value

    def call() -> None:
        results.append(_cache().get_or_compute(key, compute, tags=tags))

    under_way.append(threading.Thread(target=call, daemon=True))
    under_way[-1].start()
    assert begun.wait(10)


def end_computing() -> list[Any]:
    """Return the results of what ``begin_to_compute`` began."""
    while under_way:
        under_way.pop().join()
    found = list(results)
    results.clear()
    return found


def counts() -> Counts:
    return _cache().counter.take()


def search_while_cleared(seconds: float, folder: str) -> dict[str, int]:
    """Search from some threads for a while; count answers older than the last clear before them.

    ``folder`` holds the files ``version``, the backend's data, and ``cleared``, the version up to
    which a clear has returned. Every computation of a key is noted in the file of key and version.
    """
    outdated: list[tuple[int, int]] = []
    calls: list[int] = []
    until = time.monotonic() + seconds
    place = Path(folder)

    def compute(key: int) -> int:
        version = int((place / "version").read_text())
        with (place / f"computed-{key}").open("a") as note:
            note.write(f"{version}\n")
        time.sleep(0.005)
        return version

    def search(first: int) -> None:
        n = first
        while time.monotonic() < until:
            n += 1
            cleared = int((place / "cleared").read_text())
            seen = _cache().get_or_compute(("search", n % 20), partial(compute, n % 20))
            if seen < cleared:
                outdated.append((seen, cleared))
            calls.append(1)

    threads = [threading.Thread(target=search, args=(7 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"outdated": len(outdated), "calls": len(calls)}


def raise_version_and_clear(folder: str, version: int) -> None:
    """Change the backend's data, then clear; only then is the version the least to be seen."""
    place = Path(folder)
    for name, act in (("version", None), ("cleared", clear)):
        if act is not None:
            act()
        (place / f"{name}.new").write_text(str(version))
        os.replace(place / f"{name}.new", place / name)


def search_often(number: int) -> int:
    """Search that many times for ten keys; return how often a value was computed."""
    computed: list[int] = []

    def compute(key: int) -> int:
        computed.append(key)
        return key

    for n in range(number):
        _cache().get_or_compute(("often", n % 10), partial(compute, n % 10))
    return len(computed)


def tell() -> None:
    _cache().reporter.report()


def tell_every(seconds: float) -> None:
    from analytics_admin.caching.statistics import reporter

    reporter.INTERVAL = seconds


def clear_softly() -> None:
    soft.clear_softly()


def undo() -> None:
    soft.undo()


def sweep() -> sweeping.SweepOutcome:
    return sweeping.sweep_leftovers()


def fill_each(keys: int) -> int:
    """Fill so many keys one after the other; return how many were gone right after it."""
    lost = 0
    for key in range(keys):
        value = _cache().get_or_compute(key, partial(str, key))
        lost += _cache().get(key) != value
    return lost


def search_while_softly_cleared(seconds: float, folder: str, bound: float) -> dict[str, int]:
    """Search from some threads for a while; count answers by state, and those that are too old.

    Every fourth key's computation fails once there has been a clear, so that stale values stand in.
    ``folder`` holds the files ``version``, the backend's data, and ``clears``: for each version
    when the soft clear that made it the least fresh one had returned.
    """
    counted = {"hit": 0, "miss": 0, "stale": 0, "failed": 0, "outdated": 0, "overdue": 0}
    lock = threading.Lock()
    until = time.monotonic() + seconds
    place = Path(folder)

    def compute(key: int) -> int:
        version = int((place / "version").read_text())
        time.sleep(0.02)
        if key % 4 == 0 and version:
            raise LookupError
        return version

    def search(n: int) -> None:
        while (now := time.monotonic()) < until:
            n += 1
            clears = json.loads((place / "clears").read_text())
            fresh_from = max((version for version, _ in clears), default=0)
            stale_from = max((version for version, at in clears if at + bound < now), default=0)
            try:
                seen = _cache().lookup(("search", n % 20), partial(compute, n % 20))
            except LookupError:
                with lock:
                    counted["failed"] += 1
                continue
            with lock:
                counted[seen.state] += 1
                counted["outdated"] += seen.state != "stale" and seen.value < fresh_from
                counted["overdue"] += seen.value < stale_from

    threads = [threading.Thread(target=search, args=(7 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counted


def raise_version_and_clear_softly(folder: str, version: int) -> None:
    """Change the backend's data, then clear softly, and note when that was done."""
    place = Path(folder)
    _replace(place / "version", str(version))
    clear_softly()
    clears = [*json.loads((place / "clears").read_text()), (version, time.monotonic())]
    _replace(place / "clears", json.dumps(clears))


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
