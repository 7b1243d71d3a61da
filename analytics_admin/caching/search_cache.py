"""The search cache as a site's code uses it.

A hit is one round trip. The module ``lease`` holds what a miss does.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, Unpack

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.signals import setting_changed

from analytics_admin.caching.client import CacheClient
from analytics_admin.caching.codec import DAMAGED, decode
from analytics_admin.caching.decorator import Decorator
from analytics_admin.caching.effects import Lookup, TextLookup, arun, run
from analytics_admin.caching.entries import Entry
from analytics_admin.caching.freshness import Freshness, assess_freshness
from analytics_admin.caching.near import NearEntry
from analytics_admin.caching.request import CacheRequest, Options
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.statistics.reporter import REPLY_TIMEOUT, Reporter
from analytics_admin.caching.statistics.store import StatisticsStore, open_statistics_store
from analytics_admin.caching.stores import memory
from analytics_admin.caching.stores.access import StoreBypassed
from analytics_admin.caching.stores.base import EntryKeys, Reading, Store
from analytics_admin.conf import SETTING, app_settings
from analytics_admin.stores.client import StoreUnavailable
from analytics_admin.stores.latency import CallerWait
from analytics_admin.stores.process_hooks import register_process_hooks

T = TypeVar("T")


class SearchCache:
    """A cache over one alias of CACHES, for all processes of the site.

    Keys are None, bools, numbers, strings, dates, Decimals, UUIDs, and lists, tuples and dicts of
    them. Values are what JSON restores unchanged, including None and empty values.

    Calls that may store a value take these keyword arguments:

    - ``timeout``: seconds or a timedelta for which the value is fresh, None for ever. Default: the
      alias' ``TIMEOUT``. It is shortened at random by up to a tenth, so that not all values expire
      at once.
    - ``stale_for``: time for which a value may be served past its timeout. Default: 0.
    - ``tags``: strings by which the value can be cleared.
    - ``background``: whether a stale value is refreshed in another thread, which has none of the
      caller's connections and thread-local variables. Default: the setting
      ``SEARCH_CACHE_BACKGROUND``.
    - ``near``: seconds by which a value from this process' memory may be late, after others have
      cleared, set or deleted it. Default: the setting ``SEARCH_CACHE_NEAR``; 0 for none.

    All methods raise TypeError or ValueError for an invalid key, tag or timeout before they do
    anything. Methods that begin with ``a`` are for async code and never block the event loop.
    """

    def __init__(self, alias: Callable[[], str]) -> None:
        self._alias = alias
        self._client: CacheClient | None = None
        self._lock = threading.Lock()
        self.counter = CallCounter(self._note_count)
        """The calls of this process that were not yet reported."""
        self.reporter = Reporter(self.counter, self._open_statistics_store)
        setting_changed.connect(self._note_setting)
        register_process_hooks(self)

    def get_or_compute(
        self, key: object, compute: Callable[[], T], **options: Unpack[Options]
    ) -> T:
        """Return the value of the key; compute it if there is none.

        Of all callers on all processes that find no value, one computes, and the others wait for
        it: until it is done, or for ten times ``SEARCH_CACHE_LEASE``. If it raises, the callers of
        its process raise a copy, and another process tries. With ``stale_for``, the others get a
        value past its timeout instead of waiting, and so do callers whose ``compute`` raises. With
        ``background`` every caller gets it, and ``compute`` runs in another thread.

        If the cache or one of the ``tags`` is cleared while a value is computed, only the caller
        that computes it gets it. If the store is unavailable, one caller of each process computes.

        Raises:
            UnstorableValue: the result would not read back unchanged.
            Exception: whatever ``compute`` raised, if there is no stale value to serve.
        """
        value: T = self.lookup(key, compute, **options).value
        return value

    async def aget_or_compute(
        self, key: object, compute: Callable[[], Awaitable[T] | T], **options: Unpack[Options]
    ) -> T:
        """Do what ``get_or_compute`` does in async code; ``compute`` may be ``async def``."""
        value: T = (await self.alookup(key, compute, **options)).value
        return value

    def lookup(self, key: object, compute: Callable[[], Any], **options: Unpack[Options]) -> Lookup:
        """Do what ``get_or_compute`` does; return also the value's origin and age."""
        client = self._client or self._connect()
        request = client.request(key, **options)
        if request.near and (near := self._near(client, request)) is not None:
            return Lookup(near.value(), "hit", time.monotonic() - near.stored_at)
        if request.timeout == 0:
            return run(client.resolver.uncached(), client.access, compute).decoded()
        began_at, caller = time.monotonic(), CallerWait()
        try:
            reading = client.access.run(partial(_read, request.keys), caller)
        except StoreBypassed:
            effects = client.resolver.bypass(request, began_at)
            return run(effects, client.access, compute).decoded()
        seen = assess_freshness(reading, request.stale_for)
        if seen.fresh is not None:
            if request.near and client.near is not None:
                client.near.offer(request.keys, request.near)
            try:
                return self._hit(seen.fresh, now=seen.now)
            except DAMAGED:
                pass
        seen = _decodable(reading, seen, request)
        effects = client.resolver.resolve(request, seen, began_at)
        return run(effects, client.access, compute, caller).decoded()

    async def alookup(
        self, key: object, compute: Callable[[], Any], **options: Unpack[Options]
    ) -> Lookup:
        """Do what ``lookup`` does in async code; ``compute`` may be ``async def``."""
        return (await self.alookup_text(key, compute, **options)).decoded()

    def lookup_text(
        self, key: object, compute: Callable[[], Any], **options: Unpack[Options]
    ) -> TextLookup:
        """Do what ``lookup`` does, but return the value as JSON text, as it is stored.

        For views that answer with JSON: nothing is decoded and encoded again.
        """
        client = self._client or self._connect()
        request = client.request(key, **options)
        if request.near and (near := self._near(client, request)) is not None:
            return TextLookup(near.text, "hit", time.monotonic() - near.stored_at)
        if request.timeout == 0:
            return run(client.resolver.uncached(), client.access, compute)
        began_at, caller = time.monotonic(), CallerWait()
        try:
            reading = client.access.run(partial(_read, request.keys), caller)
        except StoreBypassed:
            return run(client.resolver.bypass(request, began_at), client.access, compute)
        seen = assess_freshness(reading, request.stale_for)
        if (entry := seen.fresh) is not None:
            if request.near and client.near is not None:
                client.near.offer(request.keys, request.near)
            self.counter.hit(entry.computed_in)
            return TextLookup(entry.text, "hit", max(0.0, seen.now - entry.stored_at))
        seen = _decodable(reading, seen, request)
        effects = client.resolver.resolve(request, seen, began_at)
        return run(effects, client.access, compute, caller)

    async def alookup_text(
        self, key: object, compute: Callable[[], Any], **options: Unpack[Options]
    ) -> TextLookup:
        """Do what ``lookup_text`` does in async code; ``compute`` may be ``async def``."""
        client = self._client or self._connect()
        request = client.request(key, **options)
        if request.near and (near := self._near(client, request)) is not None:
            return TextLookup(near.text, "hit", time.monotonic() - near.stored_at)
        if request.timeout == 0:
            return await arun(client.resolver.uncached(), client.access, compute)
        began_at, caller = time.monotonic(), CallerWait()
        try:
            reading = await client.access.arun(partial(_read, request.keys), caller)
        except StoreBypassed:
            return await arun(client.resolver.bypass(request, began_at), client.access, compute)
        seen = assess_freshness(reading, request.stale_for, decodes=True)
        if (entry := seen.fresh) is not None:
            if request.near and client.near is not None:
                client.near.offer(request.keys, request.near)
            self.counter.hit(entry.computed_in)
            return TextLookup(entry.text, "hit", max(0.0, seen.now - entry.stored_at))
        effects = client.resolver.resolve(request, seen, began_at)
        return await arun(effects, client.access, compute, caller)

    def cached(
        self,
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: Any = 0,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        background: bool | None = None,
        near: float | None = None,
    ) -> Decorator:
        """Return a decorator that caches a function's results by its arguments.

        It works on ``def`` and ``async def``. ``f(1)``, ``f(query=1)`` and, if that is the
        default, ``f()`` are one key, together with the function's module and qualified name.
        Variables that an inner function has captured are not part of the key. ``tags`` may be a
        function of the same arguments.

        For a method, the key holds the object's class and its attribute ``search_cache_key``,
        which must identify everything that the result depends on; without it the call raises
        TypeError. For a class method, the key holds the class.

        The decorated function has ``lookup(…)``, ``lookup_text(…)``, ``text(…)``, ``key(…)`` and
        ``delete(…)``, which take the function's arguments (a method's object first).

        Raises:
            TypeError: the function is a generator, or has no name, as a lambda.
        """
        return Decorator(
            self,
            timeout=timeout,
            stale_for=stale_for,
            tags=tags,
            background=background,
            near=near,
        )

    def get(self, key: object, default: Any = None, *, tags: Iterable[str] = ()) -> Any:
        """Return the value of the key if it is fresh, else the default."""
        return self._values([0], self._read([key], tags)).get(0, default)

    async def aget(self, key: object, default: Any = None, *, tags: Iterable[str] = ()) -> Any:
        """Do what ``get`` does in async code."""
        return self._values([0], await self._aread([key], tags)).get(0, default)

    def get_many(self, keys: Iterable[Any], *, tags: Iterable[str] = ()) -> dict[Any, Any]:
        """Return the fresh values of these keys by key, in one round trip.

        The keys must be hashable. A dict does not distinguish 1 and True: read such keys singly.
        """
        distinct = list(dict.fromkeys(keys))
        return self._values(distinct, self._read(distinct, tags))

    async def aget_many(self, keys: Iterable[Any], *, tags: Iterable[str] = ()) -> dict[Any, Any]:
        """Do what ``get_many`` does in async code."""
        distinct = list(dict.fromkeys(keys))
        return self._values(distinct, await self._aread(distinct, tags))

    def set(self, key: object, value: Any, **options: Unpack[Options]) -> bool:
        """Store a value; return whether it was stored, which fails if the store is unavailable.

        The value counts as new, whatever was cleared since it was computed; ``get_or_compute`` is
        safer. Computations under way will not replace it.

        Raises:
            UnstorableValue: the value would not read back unchanged.
            ValueTooLarge: it is over SEARCH_CACHE_MAX_VALUE_BYTES.
        """
        client = self._client or self._connect()
        request = client.request(key, **options)
        call = client.put(value, request)
        try:
            stored = client.access.run(call)
        except StoreBypassed:
            return False
        client.drop_near(entry=request.keys.entry)
        return stored

    async def aset(self, key: object, value: Any, **options: Unpack[Options]) -> bool:
        """Do what ``set`` does in async code."""
        client = self._client or self._connect()
        request = client.request(key, **options)
        call = client.put(value, request)
        try:
            stored = await client.access.arun(call)
        except StoreBypassed:
            return False
        client.drop_near(entry=request.keys.entry)
        return stored

    def delete(self, key: object) -> bool:
        """Remove a value; return whether there was one. Computations under way will not store it.

        Raises:
            StoreUnavailable: the value may still be there when the store is back.
        """
        client = self._client or self._connect()
        keys = client.entry_keys(key)
        with _store_required():
            existed = client.access.run(lambda store: store.remove(keys))
        client.drop_near(entry=keys.entry)
        return existed

    async def adelete(self, key: object) -> bool:
        """Do what ``delete`` does in async code."""
        client = self._client or self._connect()
        keys = client.entry_keys(key)
        with _store_required():
            existed = await client.access.arun(lambda store: store.remove(keys))
        client.drop_near(entry=keys.entry)
        return existed

    def clear_tags(self, tags: Iterable[str]) -> None:
        """Clear every value that carries one of these tags, in one step however many there are.

        Raises:
            StoreUnavailable: the values may still count when the store is back.
        """
        client = self._client or self._connect()
        if tag_keys := client.tag_keys(tags):
            with _store_required():
                client.access.run(lambda store: store.clear_tags(tag_keys))
            client.drop_near(tag_keys=tag_keys)

    async def aclear_tags(self, tags: Iterable[str]) -> None:
        """Do what ``clear_tags`` does in async code."""
        client = self._client or self._connect()
        if tag_keys := client.tag_keys(tags):
            with _store_required():
                await client.access.arun(lambda store: store.clear_tags(tag_keys))
            client.drop_near(tag_keys=tag_keys)

    def reconnect(self) -> None:
        """Close the connections; the next call reads the settings again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def flush(self) -> None:
        """Report the last counts as the process ends."""
        self.reporter.flush()

    def after_fork(self) -> None:
        """Share no connection, lock or thread with the parent process."""
        self._lock = threading.Lock()
        self.counter.after_fork()
        self.reporter.after_fork()
        memory.after_fork()
        if self._client is not None:
            self._client.after_fork()

    def _connect(self) -> CacheClient:
        with self._lock:
            if self._client is None:
                self._client = CacheClient(self._alias(), self.counter)
            return self._client

    def _near(self, client: CacheClient, request: CacheRequest) -> NearEntry | None:
        """Return the value from this process' memory, if it counts, as a hit."""
        if client.near is None or request.timeout == 0:
            return None
        entry = client.near.get(request.keys, request.near)
        if entry is not None:
            self.counter.hit(entry.computed_in)
        return entry

    def _hit(self, entry: Entry, *, now: float) -> Lookup:
        value = decode(entry.text)
        self.counter.hit(entry.computed_in)
        return Lookup(value, "hit", max(0.0, now - entry.stored_at))

    def _read(self, keys: list[Any], tags: Iterable[str]) -> list[Freshness]:
        client = self._client or self._connect()
        call = client.read_many(keys, tags)
        try:
            return client.access.run(call)
        except StoreBypassed:
            return []

    async def _aread(self, keys: list[Any], tags: Iterable[str]) -> list[Freshness]:
        client = self._client or self._connect()
        call = client.read_many(keys, tags)
        try:
            return await client.access.arun(call)
        except StoreBypassed:
            return []

    def _values(self, keys: list[Any], readings: list[Freshness]) -> dict[Any, Any]:
        values = {}
        for key, seen in zip(keys, readings, strict=False):  # no readings if the store was bypassed
            if seen.fresh is not None:
                values[key] = self._hit(seen.fresh, now=seen.now).value
        self.counter.add(misses=len(readings) - len(values), bypassed=len(keys) - len(readings))
        return values

    def _note_setting(self, *, setting: str, **_: object) -> None:
        if setting in {"CACHES", SETTING}:
            self.reconnect()

    def _note_count(self) -> bool:
        return self.reporter.wake()

    def _open_statistics_store(self) -> StatisticsStore:
        return open_statistics_store(
            app_settings().breaker_cache, self._alias(), timeout=REPLY_TIMEOUT
        )


def _read(keys: EntryKeys, store: Store) -> Reading:
    return store.read(keys)


def _decodable(reading: Reading, seen: Freshness, request: CacheRequest) -> Freshness:
    """Return what the reading amounts to if its value must be decodable, too."""
    if seen.fresh is None and seen.stale is None:
        return seen
    return assess_freshness(reading, request.stale_for, decodes=True)


@contextmanager
def _store_required() -> Iterator[None]:
    """Raise StoreUnavailable where a call cannot go on without the store."""
    try:
        yield
    except StoreBypassed as bypassed:
        raise StoreUnavailable(bypassed.reason) from None


search_cache = SearchCache(lambda: app_settings().search_cache)
"""The search cache of the site: the alias that the settings name."""
