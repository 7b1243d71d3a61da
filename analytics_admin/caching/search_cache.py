"""The search cache as a site's code uses it.

A hit is one round trip, in the caller's thread. What happens without one is told in ``lookups``.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from analytics_admin.caching.connected import Connected
from analytics_admin.caching.decorator import Decorator
from analytics_admin.caching.effects import Lookup, arun, run
from analytics_admin.caching.freshness import assess_freshness
from analytics_admin.caching.stores.availability import StoreBypassed
from analytics_admin.conf import app_settings

T = TypeVar("T")


class SearchCache(Connected):
    """A cache over one alias of CACHES, for all processes of the site.

    Keys are None, bools, numbers, text, dates, Decimals, UUIDs, and lists, tuples and dicts of
    them. Values are what JSON brings back unchanged, None and empty ones included. A timeout is
    seconds or a timedelta, None for a value that never expires, or if left out the alias'
    ``TIMEOUT``; it is shortened at random by up to a tenth, so that not all values end at once.

    All methods raise TypeError or ValueError for a key, tag or timeout that cannot be, before
    anything is done. Methods with ``a`` in front never block the event loop.
    """

    def get_or_compute(
        self,
        key: object,
        compute: Callable[[], T],
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> T:
        """Return the value under the key, computed now if there is none.

        Of all callers in the fleet that find no value one computes, for which it has
        ``SEARCH_CACHE_LEASE`` seconds; the others wait for it, at most twice as long, and then
        compute for themselves. With ``stale_for`` a value past its timeout is served that many
        seconds longer to those others, and when ``compute`` raises; to all of them, with
        SEARCH_CACHE_BACKGROUND_REFRESHES: then ``compute`` runs in another thread.

        A value computed before the cache, or one of the ``tags``, was cleared is returned to the
        caller that computed it and to nobody else. With the store away, ``compute`` is called.

        Raises:
            UnstorableValue: the result would not come back as it is.
            Exception: whatever ``compute`` raised, if there is no stale value to serve.
        """
        lookup = self.lookup(key, compute, timeout=timeout, stale_for=stale_for, tags=tags)
        value: T = lookup.value
        return value

    async def aget_or_compute(
        self,
        key: object,
        compute: Callable[[], Awaitable[T] | T],
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> T:
        """Do what ``get_or_compute`` does in async code; ``compute`` may be ``async def``."""
        lookup = await self.alookup(key, compute, timeout=timeout, stale_for=stale_for, tags=tags)
        value: T = lookup.value
        return value

    def lookup(
        self,
        key: object,
        compute: Callable[[], Any],
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> Lookup:
        """Do what ``get_or_compute`` does; say also where the value is from and how old it is."""
        wiring = self._wiring or self._wire()
        question = wiring.question(key, timeout=timeout, stale_for=stale_for, tags=tags)
        try:
            reading = wiring.line.run(lambda store: store.read(question.place))
        except StoreBypassed:
            return run(wiring.lookups.bypass(), wiring.line, compute)
        found = assess_freshness(reading, question.stale_for)
        if found.fresh is not None:
            return self._hit(found.fresh, now=found.now)
        return run(wiring.lookups.resolve(question, found), wiring.line, compute)

    async def alookup(
        self,
        key: object,
        compute: Callable[[], Any],
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> Lookup:
        """Do what ``lookup`` does in async code; ``compute`` may be ``async def``."""
        wiring = self._wiring or self._wire()
        question = wiring.question(key, timeout=timeout, stale_for=stale_for, tags=tags)
        try:
            reading = await wiring.line.arun(lambda store: store.read(question.place))
        except StoreBypassed:
            return await arun(wiring.lookups.bypass(), wiring.line, compute)
        found = assess_freshness(reading, question.stale_for)
        if found.fresh is not None:
            return self._hit(found.fresh, now=found.now)
        return await arun(wiring.lookups.resolve(question, found), wiring.line, compute)

    def cached(
        self,
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    ) -> Decorator:
        """Return a decorator that caches what a function returns, by its arguments.

        It works on ``def`` and ``async def``. ``f(1)``, ``f(query=1)`` and, with that default,
        ``f()`` are one key, with the function's module and qualified name; what a function defined
        within another has captured is no part of it. ``tags`` may be a function of the same
        arguments.

        Of the object of a method its class enters the key, and the object's attribute
        ``search_cache_key``, which says all that the result depends on; without one the call
        raises TypeError. Of a class method the class enters.

        The decorated function has ``lookup(…)``, ``key(…)`` and ``delete(…)``, which take the
        function's arguments (a method's object first).

        Raises:
            TypeError: the function is a generator, or has no name, as a lambda.
        """
        return Decorator(self, timeout=timeout, stale_for=stale_for, tags=tags)

    def get(self, key: object, default: Any = None, *, tags: Iterable[str] = ()) -> Any:
        """Return the value under the key if it is fresh, else the default."""
        found = self._read([key], tags)
        return self._values([0], found).get(0, default)

    async def aget(self, key: object, default: Any = None, *, tags: Iterable[str] = ()) -> Any:
        """Do what ``get`` does in async code."""
        found = await self._aread([key], tags)
        return self._values([0], found).get(0, default)

    def get_many(self, keys: Iterable[Any], *, tags: Iterable[str] = ()) -> dict[Any, Any]:
        """Return the fresh values among these by their keys, in one round trip.

        The keys must be hashable; 1 and True are one key of a dict, so ask for them one by one.
        """
        asked = list(dict.fromkeys(keys))
        return self._values(asked, self._read(asked, tags))

    async def aget_many(self, keys: Iterable[Any], *, tags: Iterable[str] = ()) -> dict[Any, Any]:
        """Do what ``get_many`` does in async code."""
        asked = list(dict.fromkeys(keys))
        return self._values(asked, await self._aread(asked, tags))

    def set(
        self,
        key: object,
        value: Any,
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value; say whether that was done, which it is not with the store away.

        Nobody knows when the value was computed, so it counts as new, whatever was cleared in
        between: ``get_or_compute`` knows better. Computations under way will not replace it.

        Raises:
            UnstorableValue: it would not come back as it is.
            ValueTooLarge: it is over SEARCH_CACHE_MAX_VALUE_BYTES.
        """
        wiring = self._wiring or self._wire()
        terms = wiring.question(key, timeout=timeout, stale_for=stale_for, tags=tags)
        step = wiring.setting(value, terms)
        try:
            return wiring.line.run(step)
        except StoreBypassed:
            return False

    async def aset(
        self,
        key: object,
        value: Any,
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: float | timedelta = 0,
        tags: Iterable[str] = (),
    ) -> bool:
        """Do what ``set`` does in async code."""
        wiring = self._wiring or self._wire()
        terms = wiring.question(key, timeout=timeout, stale_for=stale_for, tags=tags)
        step = wiring.setting(value, terms)
        try:
            return await wiring.line.arun(step)
        except StoreBypassed:
            return False

    def delete(self, key: object) -> bool:
        """Remove a value; say whether there was one. Computations under way will not store theirs.

        Raises:
            StoreUnavailable: the store is away, and the value may still be there when it is back.
        """
        return self._insist(self._wired().removing(key))

    async def adelete(self, key: object) -> bool:
        """Do what ``delete`` does in async code."""
        return await self._ainsist(self._wired().removing(key))

    def clear_tags(self, tags: Iterable[str]) -> None:
        """Have every value with one of these tags count no more, in one step however many.

        Raises:
            StoreUnavailable: the store is away, and the values may still count when it is back.
        """
        if names := self._wired().tag_names(tags):
            self._insist(lambda store: store.renew_tags(names))

    async def aclear_tags(self, tags: Iterable[str]) -> None:
        """Do what ``clear_tags`` does in async code."""
        if names := self._wired().tag_names(tags):
            await self._ainsist(lambda store: store.renew_tags(names))


search_cache = SearchCache(lambda: app_settings().search_cache)
"""The search cache of the site: the alias that the settings name."""
