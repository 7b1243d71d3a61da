"""Acts at random among readers of many processes: is any promise of the search cache ever broken?

``python -m tests.tools.search_cache_fuzz --acts 50000 --kinds delete --delay 0.1`` runs until that
many acts of each kind are done, and exits with 1 if an answer was outdated. A version, which each
act raises first, tells how old an answer is:

- no call that began after a hard clear, a clear by tag or key, a delete, a set or a flush had
  returned may get a value of before it; with ``near=`` only a call that began later by the bound;
- no such call may get one from before a soft clear, of all or of the tag, as a hit, until that is
  undone;
- nor as a stale value when the bound of the soft clear is over.

Of each process' readers one is an event loop. With ``--near`` most calls bear that bound.

``--delay`` holds single replies back by up to so many seconds, in a proxy before the store.
"""

import argparse
import asyncio
import ctypes
import itertools
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
KINDS = (
    *("hard", "tags", "operator's tags", "keys", "delete", "set", "flush"),
    *("soft", "soft tags", "undo", "undo tags", "sweep"),
)
SHARED_DELAYS = 0.05
"""Share of the replies that the proxy holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do for how long."""

    acts: int
    """Of each kind."""
    kinds: tuple[str, ...] = KINDS
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
    """Search in several threads and a loop until told to stop; report what the calls met."""
    from analytics_admin.caching import SearchCache

    _configure(location)
    cache, met = SearchCache(lambda: "search"), [Counter[str]() for _ in range(plan.threads)]
    near_hits = _count_near_hits(cache)
    readers = [_Reader(cache, plan, floors, seen) for seen in met]
    threads = [threading.Thread(target=reader.search) for reader in readers[1:]]
    threads.append(threading.Thread(target=lambda: asyncio.run(readers[0].search_in_tasks())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: Counter[str] = Counter()
    for seen in met:
        total += seen
    calls.put(total + Counter({"near hit": next(near_hits)}))


def _count_near_hits(cache: Any) -> Iterator[int]:
    """Return an iterator whose next number is that of the near hits so far."""
    look, number = cache._near, itertools.count()

    def noted(*arguments: Any) -> Any:
        entry = look(*arguments)
        if entry is not None:
            next(number)
        return entry

    cache._near = noted
    return number


class _Reader:
    """Searches in all ways, and counts what it meets."""

    def __init__(self, cache: Any, plan: Plan, floors: Floors, seen: Counter[str]) -> None:
        self._cache, self._floors, self._seen = cache, floors, seen
        self._bound = NEAR if plan.near else 0.0
        self._noted = deque([(time.monotonic(), 0, 0)])

    def search(self) -> None:
        while not self._floors.stop.value:
            terms, floors = self._begin()
            with suppress(LookupError):
                self._judge(*self._ask(terms), floors)
            time.sleep(0.0005)

    async def search_in_tasks(self) -> None:
        async def search() -> None:
            while not self._floors.stop.value:
                terms, floors = self._begin()
                with suppress(LookupError):
                    answer = await self._cache.alookup(KEY, self._compute, **terms)
                    self._judge(answer.state, answer.value, floors)
                await asyncio.sleep(0.0005)

        await asyncio.gather(search(), search())

    def _begin(self) -> tuple[dict[str, Any], tuple[int, int, int]]:
        """Return the terms of a call that begins now, and the floors that hold for it."""
        floors, now = self._floors, time.monotonic()
        self._noted.append((now, floors.any.value, floors.hit.value))
        while len(self._noted) > 1 and self._noted[1][0] <= now - self._bound:
            self._noted.popleft()
        is_near = self._bound and random.random() < 0.8
        _, any_from, hit_from = self._noted[0 if is_near else -1]
        terms = {**TERMS, "timeout": random.choice((0.02, 5)), "near": NEAR if is_near else 0}
        return terms, (any_from, hit_from, floors.stale.value)

    def _ask(self, terms: dict[str, Any]) -> tuple[str, int]:
        """Return the state and the version of an answer."""
        way = random.random()
        if way < 0.1:
            found = self._cache.get(KEY, tags=TERMS["tags"])
            return ("none", sys.maxsize) if found is None else ("hit", found)
        if way < 0.2:
            found = self._cache.get_many([KEY], tags=TERMS["tags"])
            return ("hit", found[KEY]) if found else ("none", sys.maxsize)
        if way < 0.4:
            text = self._cache.lookup_text(KEY, self._compute, **terms)
            return text.state, int(text.text)
        answer = self._cache.lookup(KEY, self._compute, **terms)
        return answer.state, answer.value

    def _compute(self) -> int:
        version: int = self._floors.version.value
        if random.random() < 0.05:
            raise LookupError
        return version

    def _judge(self, state: str, version: int, floors: tuple[int, int, int]) -> None:
        any_from, hit_from, stale_from = floors
        self._seen[state] += 1
        if state != "bypass" and version < any_from:
            self._seen[f"WRONG {state} from before an act"] += 1
        if state == "hit" and version < hit_from:
            self._seen["WRONG hit from before a soft clear"] += 1
        if state == "stale" and version < stale_from:
            self._seen["WRONG stale beyond the bound of a soft clear"] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """A soft clear within its bound."""

    kind: str
    version: int
    ends_at: float


class _Actor:
    """Carries out acts at random, and moves the floors when they have returned."""

    def __init__(self, floors: Floors, delay: float) -> None:
        from django.core.cache import caches

        from analytics_admin.caching import SearchCache
        from analytics_admin.caching.clear import hard, keys, soft, sweep, tags

        self._floors, self._softs = floors, list[Soft]()
        self._pause_before_undo = 0.05 + NEAR + delay
        cache = SearchCache(lambda: "search")
        client = caches["search"].client.get_client(write=True)
        names = keys.check_keys([KEY])
        self._ends: dict[str, Callable[[], object]] = {
            "hard": hard.clear,
            "tags": lambda: cache.clear_tags(["t"]),
            "operator's tags": lambda: tags.clear_tags(["t"]),
            "keys": lambda: keys.clear_keys(names),
            "delete": lambda: cache.delete(KEY),
            "set": lambda: cache.set(KEY, floors.version.value, tags=("t",), timeout=0.01),
            "flush": client.flushdb,
        }
        self._softens: dict[str, Callable[[], object]] = {
            "soft": soft.clear_softly,
            "soft tags": lambda: tags.clear_tags_softly(["t"]),
        }
        self._undoes: dict[str, tuple[str, Callable[[], object]]] = {
            "undo": ("soft", soft.undo),
            "undo tags": ("soft tags", lambda: tags.undo_tags(["t"]).undone),
        }
        self._nothing, self._sweep = soft.NothingToUndo, sweep.sweep_leftovers

    def act(self, kind: str) -> bool:
        """Carry out an act; return whether it was done."""
        floors = self._floors
        self._end_softs()
        if kind == "sweep":
            self._sweep()
        elif kind in self._undoes:
            self._undo(*self._undoes[kind])
        elif kind in self._softens:
            floors.version.value += 1
            self._softens[kind]()
            ends_at = time.monotonic() + GRACE
            self._softs.append(Soft(kind=kind, version=floors.version.value, ends_at=ends_at))
        else:
            floors.version.value += 1
            if self._ends[kind]() is False and kind == "set":
                return False
            floors.any.value = floors.version.value
            if kind in {"hard", "flush"}:
                self._softs.clear()
        self._set_hit_floor()
        return True

    def _end_softs(self) -> None:
        for over in [each for each in self._softs if each.ends_at + 0.1 < time.monotonic()]:
            self._floors.stale.value = max(self._floors.stale.value, over.version)
            self._softs.remove(over)

    def _set_hit_floor(self, *, without: Soft | None = None) -> None:
        softs = [each.version for each in self._softs if each is not without]
        floors = self._floors
        floors.hit.value = max(floors.any.value, floors.stale.value, *softs, 0)

    def _undo(self, kind: str, undo: Callable[[], object]) -> None:
        """Undo the last soft clear: values of before may be hits from the moment it happens."""
        last = next((each for each in reversed(self._softs) if each.kind == kind), None)
        self._set_hit_floor(without=last)
        time.sleep(self._pause_before_undo)  # calls that began under the old floor have ended
        with suppress(self._nothing):
            if undo() and last is not None:
                self._softs.remove(last)


def _act(plan: Plan, floors: Floors) -> Counter[str]:
    """Carry out acts at random until there are enough of each kind."""
    from analytics_admin.caching import StoreUnavailable

    actor, done = _Actor(floors, plan.delay), Counter[str]()
    until = time.monotonic() + plan.seconds
    while time.monotonic() < until and any(done[kind] < plan.acts for kind in plan.kinds):
        kind = random.choice([kind for kind in plan.kinds if done[kind] < plan.acts])
        with suppress(StoreUnavailable):
            done[kind] += actor.act(kind)
        is_long = plan.near and random.random() < 0.02
        time.sleep(3 * NEAR if is_long else random.random() * 0.004)
    return done


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
