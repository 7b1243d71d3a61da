"""What the settings make of one cache alias: the line to its store, names, limits, defaults."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from analytics_admin.caching import durations
from analytics_admin.caching.codec import ValueTooLarge, encode
from analytics_admin.caching.entries import RECORD_NAME
from analytics_admin.caching.freshness import Freshness, assess_freshness
from analytics_admin.caching.keys import name_key, name_tags
from analytics_admin.caching.lookup import CacheRequest, MissResolver
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.stores.availability import StoreAccess
from analytics_admin.caching.stores.base import EntryKeys, Store
from analytics_admin.caching.stores.memory import MemoryStore
from analytics_admin.caching.stores.redis import RedisStore
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import dedicated_client, is_local_memory
from analytics_admin.stores.pool import ConnectionPool

REPLY_TIMEOUT = 0.1
"""Seconds for connecting and for each reply."""


class CacheClient:
    """The alias as one process uses it, until its settings change."""

    def __init__(self, alias: str, statistics: CallCounter) -> None:
        site, cache = app_settings(), caches[alias]
        self._lease = float(site.search_cache_lease)
        self._max_bytes = site.search_cache_max_value_bytes
        self._default_timeout = cache.default_timeout
        self._in_memory = is_local_memory(alias)
        # The memory store hands its names to the alias, which puts the prefix in front itself.
        self._full: Callable[[str], str] = str if self._in_memory else cache.make_key
        self._alias = alias
        self._record = self._full(RECORD_NAME)
        self.line = StoreAccess(
            self._connect, retry_interval=lambda: app_settings().store_retry_interval
        )
        self.lookups = MissResolver(
            self.line, statistics, refreshes=site.search_cache_background_refreshes
        )

    def question(self, key: object, *, timeout: Any, stale_for: Any, tags: Any) -> CacheRequest:
        """Return the terms of a call.

        Raises:
            TypeError, ValueError: a key, duration or tag that cannot be.
        """
        return CacheRequest(
            place=self.place(key, self.tag_names(tags)),
            timeout=self._seconds(timeout),
            stale_for=durations.to_seconds(stale_for, name="stale_for", allow_zero=True),
            lease=self._lease,
            max_bytes=self._max_bytes,
        )

    def place(self, key: object, tags: tuple[str, ...] = ()) -> EntryKeys:
        """Return where the value of a key lies."""
        name, full = name_key(key), self._full
        return EntryKeys(self._record, full(f"value:{name}"), full(f"lease:{name}"), tags)

    def tag_names(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the full keys of the tags' tokens."""
        return tuple([self._full(f"tag:{name}") for name in name_tags(tags)])

    def reading(self, keys: Sequence[object], tags: Any) -> Callable[[Store], list[Freshness]]:
        """Return the step that reads several keys at once."""
        names = self.tag_names(tags)
        places = [self.place(key, names) for key in keys]
        return lambda store: [assess_freshness(reading) for reading in store.read_many(places)]

    def setting(self, value: Any, question: CacheRequest) -> Callable[[Store], bool]:
        """Return the step that stores a value.

        Raises:
            UnstorableValue, ValueTooLarge: it cannot be.
        """
        text = encode(value)
        if (size := len(text.encode())) > question.max_bytes:
            raise ValueTooLarge(size, question.max_bytes)

        def put(store: Store) -> bool:
            store.put(question.place, text, question.life())
            return True

        return put

    def removing(self, key: object) -> Callable[[Store], bool]:
        """Return the step that removes a value."""
        place = self.place(key)
        return lambda store: store.remove(place)

    def _seconds(self, timeout: Any) -> float | None:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._default_timeout
        return None if timeout is None else durations.to_seconds(timeout, name="timeout")

    def _connect(self, line: StoreAccess) -> Store:
        if self._in_memory:
            return MemoryStore(caches[self._alias])
        client = dedicated_client(self._alias, timeout=REPLY_TIMEOUT)
        wire = ConnectionPool(client, bounded=line.bounded, patience=line.patience)
        return RedisStore(wire, probe=self._full("analytics_admin:probe"))
