"""Acts at random among readers of many processes: is any promise of the search cache ever broken?

``python -m tests.tools.search_cache_fuzz --acts 50000 --kinds delete --delay 0.1`` runs until that
many acts of each kind are done, and exits with 1 if an answer was outdated. A version, which each
act raises first, tells how old an answer is:

- no call that began after a hard clear, a tag clear, a delete or a flush had returned may get a
  value of before it; with ``--near`` only a call that began later than that by the bound;
- no such call may get one from before a soft clear as a hit, until that is undone;
- nor as a stale value when the bound of the soft clear is over.

``--delay`` holds single replies back by up to so many seconds, in a proxy before the store.
"""

import argparse
import ctypes
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from typing import Any

from tests.support.crew import set_up_site
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer

GRACE = 0.3
"""SEARCH_CACHE_SOFT_CLEAR_GRACE."""
NEAR = 0.1
TERMS: dict[str, Any] = {"tags": ("t",), "timeout": 0.02, "stale_for": 60}
KEY = "q"
KINDS = ("hard", "tags", "delete", "set", "soft", "undo", "flush", "sweep")
SHARED_DELAYS = 0.05
"""Share of the replies that the proxy holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for how long."""

    acts: int
    """Of each kind."""
    kinds: tuple[str, ...] = KINDS[:-1]
    processes: int = 3
    threads: int = 3
    delay: float = 0.0
    near: bool = False
    seconds: float = 3600.0
    """At most."""


class Floors:
    """The versions below which no answer may be, shared by all processes."""

    def __init__(self) -> None:
        self.version: Any = RawValue(ctypes.c_longlong, 0)
        self.any: Any = RawValue(ctypes.c_longlong, 0)
        self.hit: Any = RawValue(ctypes.c_longlong, 0)
        self.stale: Any = RawValue(ctypes.c_longlong, 0)
        self.stop: Any = RawValue(ctypes.c_bool, False)


def fuzz(plan: Plan) -> tuple[Counter[str], Counter[str]]:
    """Return the acts by kind, and the calls by what they met; what is wrong begins with WRONG."""
    with StoreServer() as server, _line_to(server, plan.delay) as location:
        floors, calls = Floors(), multiprocessing.get_context("fork").SimpleQueue()
        _configure(f"{server.url}?db=1")
        context = multiprocessing.get_context("fork")
        crew = [
            context.Process(target=_read, args=(plan, location, floors, calls))
            for _ in range(plan.processes)
        ]
        for process in crew:
            process.start()
        try:
            acts = _act(plan, floors)
        finally:
            floors.stop.value = True
        met: Counter[str] = Counter()
        for _ in crew:
            met += calls.get()
        for process in crew:
            process.join(30)
    return acts, met


@contextmanager
def _line_to(server: StoreServer, delay: float) -> Iterator[str]:
    """Yield the address by which the readers reach the store."""
    if not delay:
        yield f"{server.url}?db=1"
        return
    with Proxy(server.socket_path) as proxy:
        done = threading.Event()

        def hold_back() -> None:
            while not done.wait(0.001):
                proxy.delay = random.uniform(0.001, delay) if random.random() < SHARED_DELAYS else 0

        threading.Thread(target=hold_back, daemon=True).start()
        yield f"{proxy.url}/1"
        done.set()


def _configure(location: str) -> None:
    from django.test import override_settings

    json = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
    redis = {"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": json, "KEY_PREFIX": "s"}
    aliases = {
        "default": {**redis, "LOCATION": location, "KEY_PREFIX": "d"},
        "breakers": {**redis, "LOCATION": location, "KEY_PREFIX": "b"},
        "search": {**redis, "LOCATION": location},
    }
    site = {"SEARCH_CACHE_SOFT_CLEAR_GRACE": GRACE, "STORE_RETRY_INTERVAL": 0.2}
    override_settings(CACHES=aliases, ANALYTICS_ADMIN=site).enable()


def _read(plan: Plan, location: str, floors: Floors, calls: Any) -> None:
    """Search in several threads until told to stop; report what the calls met."""
    from analytics_admin.caching import SearchCache

    _configure(location)
    cache, met = SearchCache(lambda: "search"), [Counter[str]() for _ in range(plan.threads)]
    threads = [threading.Thread(target=_search, args=(cache, plan, floors, seen)) for seen in met]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: Counter[str] = Counter()
    for seen in met:
        total += seen
    calls.put(total)


def _search(cache: Any, plan: Plan, floors: Floors, seen: Counter[str]) -> None:
    def compute() -> int:
        version: int = floors.version.value
        if random.random() < 0.05:
            raise LookupError
        return version

    terms = {**TERMS, "near": NEAR} if plan.near else TERMS
    for any_from, hit_from in _promised(floors, NEAR if plan.near else 0.0):
        stale_from = floors.stale.value
        try:
            answer = cache.lookup(KEY, compute, **terms)
        except LookupError:
            continue
        seen[answer.state] += 1
        if answer.state != "bypass" and answer.value < any_from:
            seen[f"WRONG {answer.state} from before an act"] += 1
        if answer.state == "hit" and answer.value < hit_from:
            seen["WRONG hit from before a soft clear"] += 1
        if answer.state == "stale" and answer.value < stale_from:
            seen["WRONG stale beyond the bound of a soft clear"] += 1
        time.sleep(0.0005)


def _promised(floors: Floors, bound: float) -> Iterator[tuple[int, int]]:
    """Yield the floors of values and of hits as they were ``bound`` seconds ago, until the end."""
    noted = deque([(time.monotonic(), 0, 0)])
    while not floors.stop.value:
        now = time.monotonic()
        noted.append((now, floors.any.value, floors.hit.value))
        while len(noted) > 1 and noted[1][0] <= now - bound:
            noted.popleft()
        yield noted[0][1:]


def _act(plan: Plan, floors: Floors) -> Counter[str]:
    """Carry out acts at random until there are enough of each kind."""
    from django.core.cache import caches

    from analytics_admin.caching import SearchCache, StoreUnavailable
    from analytics_admin.caching.clear import hard, soft, sweep

    cache, done = SearchCache(lambda: "search"), Counter[str]()
    client = caches["search"].client.get_client(write=True)
    softs: list[tuple[int, int, float]] = []  # version, floor of hits before it, end of its bound
    acts: dict[str, Callable[[], object]] = {
        "hard": hard.clear,
        "tags": lambda: cache.clear_tags(["t"]),
        "delete": lambda: cache.delete(KEY),
        "set": lambda: cache.set(KEY, floors.version.value, tags=("t",), timeout=0.01),
        "flush": client.flushdb,
        "sweep": sweep.sweep_leftovers,
    }
    until = time.monotonic() + plan.seconds
    while time.monotonic() < until and any(done[kind] < plan.acts for kind in plan.kinds):
        for over in [each for each in softs if each[2] + 0.1 < time.monotonic()]:
            floors.stale.value = max(floors.stale.value, over[0])
            softs.remove(over)
        kind = random.choice([kind for kind in plan.kinds if done[kind] < plan.acts])
        if kind not in {"undo", "sweep"}:
            floors.version.value += 1
        version = floors.version.value
        try:
            if kind == "soft":
                before = floors.hit.value
                soft.clear_softly()
                floors.hit.value = version
                softs.append((version, before, time.monotonic() + GRACE))
            elif kind == "undo":
                _undo(floors, softs, soft)
            else:
                if acts[kind]() is False and kind == "set":
                    continue
                if kind != "sweep":
                    floors.any.value = floors.hit.value = version
                    kept = [] if kind in {"hard", "flush"} else softs
                    softs = [(each[0], max(each[1], version), each[2]) for each in kept]
        except StoreUnavailable:
            continue
        done[kind] += 1
        time.sleep(random.random() * 0.004)
    return done


def _undo(floors: Floors, softs: list[tuple[int, int, float]], soft: Any) -> None:
    """Undo the last soft clear: values of before may be hits from the moment when it happens."""
    before = floors.hit.value
    floors.hit.value = softs[-1][1] if softs else before
    time.sleep(0.05 + NEAR)  # calls that began under the old floor have ended
    try:
        soft.undo()
        if softs:
            softs.pop()
    except soft.NothingToUndo:
        floors.hit.value = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--acts", type=int, default=50_000, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["hard", "tags", "delete"])
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, of single replies")
    parser.add_argument("--near", action="store_true", help="with near values")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most")
    options = vars(parser.parse_args())
    import tests.settings  # noqa: F401  the environment of a site that is nobody's

    set_up_site()
    acts, met = fuzz(Plan(**{**options, "kinds": tuple(options["kinds"])}))
    wrong = {name: number for name, number in met.items() if name.startswith("WRONG")}
    sys.stdout.write(f"acts: {dict(acts)}\n")
    others = {name: number for name, number in met.items() if name not in wrong}
    sys.stdout.write(f"calls: {others}\noutdated: {wrong or 'none'}\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
