"""The search cache in memory: only its alias is replaced, all else is what a site runs."""

import sys
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal
from unittest.mock import patch

from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache

from analytics_admin.caching import SearchCache, effects, lease, request, search_cache
from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.clear import hard, soft
from analytics_admin.caching.effects import Sleep, TextLookup
from analytics_admin.caching.inspection import status
from analytics_admin.caching.keys import name_key
from analytics_admin.caching.renewal import LeaseRenewals
from analytics_admin.caching.statistics import queries
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.statistics.reporter import Reporter
from analytics_admin.caching.statistics.store import MemoryStatisticsStore
from analytics_admin.caching.stores import memory
from analytics_admin.caching.stores.base import Claim, EntryKeys
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import StoreUnavailable, explain_error
from analytics_admin.testing.clock import SimulatedClock, shared_clock

KEPT_SETTINGS = ("TIMEOUT", "KEY_PREFIX", "VERSION", "KEY_FUNCTION")
"""What the alias in memory has of the site's own."""


@dataclass(slots=True, kw_only=True)
class CacheCalls:
    """What calls met. Each is one of the first four."""

    hits: int = 0
    misses: int = 0
    stale_served: int = 0
    bypassed: int = 0
    """Calls during an outage."""
    computations: int = 0
    """Times that the function of the site was called, also in the background."""


class SimulatedSearchCache:
    """The search cache of this process, empty at first, on a clock that the test moves."""

    def __init__(self, clock: SimulatedClock, memory: "_Memory", counter: "_Counter") -> None:
        self._clock = clock
        self._memory = memory
        self._counter = counter

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward without waiting. Within a computation, this makes it long.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        self._clock.advance(seconds)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Have no store until the block ends; then it is back with what it held."""
        self._memory.outages += 1
        try:
            yield
        finally:
            self._memory.outages -= 1

    @property
    def calls(self) -> CacheCalls:
        """What all calls met since the beginning."""
        return self._counter.calls(None)

    def calls_of(self, key: object) -> CacheCalls:
        """Return what the calls for a key met since the beginning.

        The key is what the site's code passes, or ``function.key(…)`` of a decorated function.
        """
        return self._counter.calls(name_key(key))

    def clear(self, mode: Literal["hard", "soft"] = "hard") -> None:
        """Clear the cache as an operator does, but without a row in the audit trail.

        Raises:
            StoreUnavailable: within an outage.
        """
        hard.clear() if mode == "hard" else soft.clear_softly()

    def undo_clear(self) -> None:
        """Undo the last soft clear, likewise.

        Raises:
            NothingToUndo: there is none, or its time is over.
            StoreUnavailable: within an outage.
        """
        soft.undo()

    def claim_elsewhere(self, key: object, *, tags: Iterable[str] = ()) -> None:
        """Have another process begin to compute a value, and end before it is done.

        A call waits for it no longer than the lease, which moves the clock.

        Raises:
            ValueError: there is a fresh value, or somebody computes it.
            StoreUnavailable: within an outage.
        """
        client = search_cache._connect()
        wanted = client.request(key, tags=tags)
        store = memory.MemoryStore(caches[app_settings().search_cache])
        claim = store.claim(wanted.keys, wanted.ttl(), lease=wanted.lease)
        if claim.state != "granted":
            raise ValueError(f"nobody else would compute {key!r}: it is {claim.state}")


@contextmanager
def simulated_search_cache() -> Iterator[SimulatedSearchCache]:
    """Make the search cache of this process begin empty, in memory, until the block ends.

    Afterwards it is as before. Meanwhile neither calls nor operations use the store of the
    settings, and no thread is started: what would be computed in the background is computed before
    the call returns. Nothing is taken off a timeout at random.
    """
    with ExitStack() as undo:
        clock = undo.enter_context(shared_clock())
        content, counter = _Memory(clock), _Counter()
        undo.callback(_forget)
        undo.enter_context(_replaced_alias(content))
        undo.enter_context(_replaced_statistics(counter))
        for module in (effects, lease, memory, status):
            undo.enter_context(patch.object(module, "time", clock))
        undo.enter_context(patch.object(lease, "Sleep", _sleep_of(clock)))
        undo.enter_context(patch.object(lease, "BackgroundRefreshes", _PromptRefreshes))
        undo.enter_context(patch.object(lease, "LeaseRenewals", _NoRenewals))
        undo.enter_context(patch.object(request, "shortened", lambda seconds: seconds))
        undo.enter_context(_watched_calls(content, counter))
        _forget()
        yield SimulatedSearchCache(clock, content, counter)


def _forget() -> None:
    """Let the next call look at the settings again, and the next operator at the figures."""
    search_cache.reconnect()
    queries.forget()


@contextmanager
def _replaced_alias(content: "_Memory") -> Iterator[None]:
    """Replace the search cache's alias in all threads, whatever the settings become meanwhile."""
    handler = type(caches)
    original = handler.__getitem__

    def get_cache(self: Any, alias: str) -> BaseCache:
        if self is caches and alias == app_settings().search_cache:
            return _MemoryCache(content, caches.settings.get(alias, {}))
        return original(self, alias)

    with patch.object(handler, "__getitem__", get_cache):
        yield


@contextmanager
def _replaced_statistics(counter: "_Counter") -> Iterator[None]:
    """Keep the figures in memory, and up to date whenever somebody reads them."""
    store = MemoryStatisticsStore()
    reporter = Reporter(counter, lambda: store)

    def open_store(*_: Any, **__: Any) -> MemoryStatisticsStore:
        reporter.report()
        return store

    with (
        patch.object(queries, "open_statistics_store", open_store),
        patch.object(search_cache, "counter", counter),
    ):
        yield


@contextmanager
def _watched_calls(content: "_Memory", counter: "_Counter") -> Iterator[None]:
    """Have the counter know for which key each call is."""

    async def watched_alookup_text(
        key: object, compute: Callable[[], Any], **options: Any
    ) -> TextLookup:
        name = name_key(key)
        with counter.counting(name):
            compute = counter.counted(compute, name)
            return await SearchCache.alookup_text(search_cache, key, compute, **options)

    def watched_get(key: object, default: Any = None, **options: Any) -> Any:
        with counter.counting(name_key(key)):
            return SearchCache.get(search_cache, key, default, **options)

    async def watched_aget(key: object, default: Any = None, **options: Any) -> Any:
        with counter.counting(name_key(key)):
            return await SearchCache.aget(search_cache, key, default, **options)

    def watched_get_many(keys: Iterable[Any], **options: Any) -> dict[Any, Any]:
        keys = list(keys)
        return note_many(keys, SearchCache.get_many(search_cache, keys, **options))

    async def watched_aget_many(keys: Iterable[Any], **options: Any) -> dict[Any, Any]:
        keys = list(keys)
        return note_many(keys, await SearchCache.aget_many(search_cache, keys, **options))

    def note_many(keys: list[Any], found: dict[Any, Any]) -> dict[Any, Any]:
        otherwise = "bypassed" if content.outages else "misses"
        for key in dict.fromkeys(keys):
            counter.note(name_key(key), **{"hits" if key in found else otherwise: 1})
        return found

    watched: dict[str, Callable[..., Any]] = {
        "lookup": _counting(counter, SearchCache.lookup),
        "lookup_text": _counting(counter, SearchCache.lookup_text),
        "alookup_text": watched_alookup_text,
        "get": watched_get,
        "aget": watched_aget,
        "get_many": watched_get_many,
        "aget_many": watched_aget_many,
    }
    with ExitStack() as undo:
        for name, method in watched.items():
            undo.enter_context(patch.object(search_cache, name, method))
        yield


def _counting(counter: "_Counter", method: Callable[..., Any]) -> Callable[..., Any]:
    def call(key: object, compute: Callable[[], Any], **options: Any) -> Any:
        name = name_key(key)
        with counter.counting(name):
            return method(search_cache, key, counter.counted(compute, name), **options)

    return call


class _Memory:
    """What the alias holds; it is also the lock that every use of it takes."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.values: OrderedDict[str, bytes] = OrderedDict()
        self.expiry: dict[str, float | None] = {}
        self.outages = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self.outages:
            raise StoreUnavailable(explain_error(ConnectionError()))
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class _MemoryCache(LocMemCache):
    """Django's cache in memory, on another clock, with room for everything."""

    def __init__(self, content: _Memory, settings: dict[str, Any]) -> None:
        kept = {name: settings[name] for name in KEPT_SETTINGS if name in settings}
        BaseCache.__init__(self, {**kept, "OPTIONS": {"MAX_ENTRIES": sys.maxsize}})
        self._clock = content.clock
        self._cache = content.values
        self._expire_info = content.expiry
        self._lock = content

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        at = super().get_backend_timeout(timeout)
        return None if at is None else at - time.time() + self._clock.time()

    def _has_expired(self, key: str) -> bool:
        at = self._expire_info.get(key, -1)
        return at is not None and at <= self._clock.time()


class _Counter(CallCounter):
    """Counts the calls as ever, and for each key."""

    def __init__(self) -> None:
        super().__init__()
        self._name: ContextVar[str | None] = ContextVar("name", default=None)
        self._by_name: defaultdict[str | None, CacheCalls] = defaultdict(CacheCalls)

    def hit(self, saved: float) -> None:
        super().hit(saved)
        self._note_call(hits=1)

    def add(self, **amounts: float) -> None:
        super().add(**amounts)
        self._note_call(**amounts)

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """Count the calls in the block for this key."""
        before = self._name.get()
        self._name.set(name)
        try:
            yield
        finally:
            self._name.set(before)  # a task that is closed elsewhere could not reset it

    def counted(self, compute: Callable[[], Any], name: str) -> Callable[[], Any | Awaitable[Any]]:
        """Return the function, which counts when it is called."""

        def counted() -> Any:
            self.note(name, computations=1)
            self.note(None, computations=1)
            return compute()

        return counted

    def calls(self, name: str | None) -> CacheCalls:
        """Return the calls of this key; None: of all keys."""
        with self._lock:
            return replace(self._by_name[name])

    def note(self, name: str | None, **amounts: float) -> None:
        with self._lock:
            calls = self._by_name[name]
            for field, amount in amounts.items():
                if hasattr(calls, field):
                    setattr(calls, field, getattr(calls, field) + int(amount))

    def _note_call(self, **amounts: float) -> None:
        self.note(None, **amounts)
        if (name := self._name.get()) is not None:
            self.note(name, **amounts)


class _PromptRefreshes(BackgroundRefreshes):
    """Refreshes in the caller's thread, with its database connections, before the call returns."""

    def start(self, refresh: Callable[[], object]) -> bool:
        place = self._take_place()
        if place is None:
            return False
        try:
            copy_context().run(self._refresh, refresh, nullcontext())
        finally:
            self._leave_place(place)
        return True


class _NoRenewals(LeaseRenewals):
    """No thread renews leases: the test moves the clock, and a lease given back is at once."""

    def prepare(self) -> None:
        self._return_all()

    def give_back(self, keys: EntryKeys, claim: Claim) -> None:
        self._release(keys, claim)


def _sleep_of(clock: SimulatedClock) -> Callable[[float], Sleep]:
    """Return the effect that moves the clock in place of a wait for another process."""

    def sleep(seconds: float) -> Sleep:
        clock.sleep(seconds)
        return Sleep(0.0)

    return sleep
