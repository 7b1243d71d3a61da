"""One process' client of a cache alias: its store, key names, limits and defaults."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from analytics_admin.caching.codec import ValueTooLarge, encode
from analytics_admin.caching.epochs import LAYOUT, RECORD_NAME
from analytics_admin.caching.freshness import Freshness, assess_freshness
from analytics_admin.caching.keys import (
    MAX_REMEMBERED,
    REMEMBERED_TYPES,
    KeyName,
    function_of,
    name_function,
    name_key,
    name_tags,
)
from analytics_admin.caching.lease import MissResolver
from analytics_admin.caching.near import NearCache
from analytics_admin.caching.request import CacheRequest, to_seconds
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.stores.access import (
    MemoryAccess,
    StoreAccess,
    StoreBypassed,
    StoreCall,
)
from analytics_admin.caching.stores.base import EntryKeys, Store
from analytics_admin.caching.stores.memory import MemoryStore
from analytics_admin.caching.stores.past import Change, PastCheck
from analytics_admin.caching.stores.redis import RedisStore
from analytics_admin.caching.stores.tracking import OnChange, RedisTrackingLink
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import (
    StoreUnavailable,
    dedicated_client,
    is_local_memory,
    translate_errors,
)
from analytics_admin.stores.latency import SILENT_SECONDS
from analytics_admin.stores.pool import ConnectionPool

TRACKING_TIMEOUT = 1.0
"""Seconds for each reply to the near cache, for which no caller waits."""
NEVER_STALE: Any = 0
REPLY_TIMEOUT = SILENT_SECONDS
"""Seconds for each reply."""
OPEN_TIMEOUT = 0.1
"""Seconds for connecting, for each reply on the way, and for requests that are large."""


class CacheClient:
    """The client of an alias, until the settings change."""

    def __init__(self, alias: str, counter: CallCounter) -> None:
        site, cache = app_settings(), caches[alias]
        self._lease = float(site.search_cache_lease)
        self._max_bytes = site.search_cache_max_value_bytes
        self._near = float(site.search_cache_near)
        self._background = site.search_cache_background
        self._default_timeout = cache.default_timeout
        in_memory = is_local_memory(alias)
        # The memory store gives its names to the alias, which adds the prefix itself.
        self._full_key: Callable[[str], str] = str if in_memory else cache.make_key
        self._names: dict[object, tuple[str, str, tuple[str, ...]]] = {}
        self._tag_keys: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._alias = alias
        self._record_key = self._full_key(RECORD_NAME)
        self._past = PastCheck(self._record_key, self._change_record, self._claim_comparison)
        self.access: StoreAccess = (
            MemoryAccess(MemoryStore(cache, max_value_bytes=self._max_bytes))
            if in_memory
            else self._remote_access()
        )
        self.near: NearCache | None = None
        """The values in this process' memory; a store in memory needs none."""
        if not in_memory:
            self.near = NearCache(self._track, max_bytes=site.search_cache_near_bytes)
        self.resolver = MissResolver(
            self.access,
            counter,
            background_refreshes=site.search_cache_background_refreshes,
            lease=self._lease,
        )

    def request(
        self,
        key: object,
        *,
        timeout: Any = DEFAULT_TIMEOUT,
        stale_for: Any = NEVER_STALE,
        tags: Iterable[str] = (),
        background: bool | None = None,
        near: float | None = None,
    ) -> CacheRequest:
        """Return what a call asks for.

        Raises:
            TypeError, ValueError: an invalid key, duration or tag.
        """
        return CacheRequest(
            keys=self.entry_keys(key, self.tag_keys(tags)),
            timeout=self._seconds(timeout),
            stale_for=to_seconds(stale_for, name="stale_for", allow_zero=True)
            if stale_for is not NEVER_STALE
            else 0.0,
            lease=self._lease,
            max_bytes=self._max_bytes,
            background=self._background if background is None else background,
            near=self._near if near is None else to_seconds(near, name="near", allow_zero=True),
        )

    def entry_keys(self, key: object, tags: tuple[str, ...] = ()) -> EntryKeys:
        """Return the full keys that concern the value of a key.

        The function that it is a result of is a tag, too.
        """
        entry, lease, function = self._entry_names(key)
        return EntryKeys(self._record_key, entry, lease, (*tags, *function))

    def _entry_names(self, key: object) -> tuple[str, str, tuple[str, ...]]:
        """Return the full keys of the value, its lease and its function; remember short ones."""
        remembered: object = None
        if type(key) is str or type(key) is KeyName:
            remembered = (key, type(key))
        elif type(key) is tuple:
            types = tuple(map(type, key))
            if REMEMBERED_TYPES.issuperset(types):
                remembered = (key, types)
        if remembered is not None and (names := self._names.get(remembered)) is not None:
            return names
        name, full_key = name_key(key), self._full_key
        function = function_of(key)
        names = (
            full_key(f"{LAYOUT}:value:{name}"),
            full_key(f"{LAYOUT}:lease:{name}"),
            () if function is None else (full_key(f"{LAYOUT}:tag:{name_function(function)}"),),
        )
        if remembered is not None and name.startswith("k:"):  # not the hash of a long one
            if len(self._names) >= MAX_REMEMBERED:
                self._names.clear()
            self._names[remembered] = names
        return names

    def tag_keys(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the full keys of the tags' epochs."""
        if tags == ():
            return ()
        if type(tags) is not tuple:
            return self._make_tag_keys(tags)
        keys = self._tag_keys.get(tags)
        if keys is None:
            keys = self._make_tag_keys(tags)
            if len(self._tag_keys) < MAX_REMEMBERED:
                self._tag_keys[tags] = keys
        return keys

    def _make_tag_keys(self, tags: Iterable[str]) -> tuple[str, ...]:
        return tuple([self._full_key(f"{LAYOUT}:tag:{name}") for name in name_tags(tags)])

    def read_many(self, keys: Sequence[object], tags: Iterable[str]) -> StoreCall[list[Freshness]]:
        """Return the call that reads the values of several keys."""
        tag_keys = self.tag_keys(tags)
        entries = [self.entry_keys(key, tag_keys) for key in keys]
        return lambda store: [
            assess_freshness(reading, decodes=True) for reading in store.read_many(entries)
        ]

    def put(self, value: Any, request: CacheRequest) -> StoreCall[bool]:
        """Return the call that stores a value.

        Raises:
            UnstorableValue, ValueTooLarge: it cannot be stored.
        """
        text = encode(value)
        if (size := len(text.encode())) > request.max_bytes:
            raise ValueTooLarge(size, request.max_bytes)

        if request.timeout == 0:
            return lambda store: store.remove(request.keys) and False
        return lambda store: store.put(request.keys, text, request.ttl())

    def close(self) -> None:
        """Close the connections and end the threads."""
        if self.near is not None:
            self.near.close()
        self.resolver.close()
        self._past.close()
        self.access.close()

    def after_fork(self) -> None:
        """Start afresh in a forked child."""
        self.access.after_fork()
        self._past.after_fork()
        if self.near is not None:
            self.near.after_fork()
        self.resolver.after_fork()

    def _seconds(self, timeout: Any) -> float | None:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self._default_timeout
            if timeout is not None and timeout <= 0:  # to Django: do not cache
                return 0.0
        return None if timeout is None else to_seconds(timeout, name="timeout")

    def _remote_access(self) -> StoreAccess:
        return StoreAccess(
            self._connect, retry_interval=lambda: app_settings().store_retry_interval
        )

    def _connect(self, access: StoreAccess) -> Store:
        pool = ConnectionPool(
            dedicated_client(self._alias, timeout=max(OPEN_TIMEOUT, REPLY_TIMEOUT)),
            run_bounded=access.run_bounded,
            reply_timeout=access.reply_timeout,
            on_bytes=access.note_bytes,
            run_later=access.run_later,
            silence=REPLY_TIMEOUT,
            on_open=lambda exchange, is_return: self._past.check(exchange, is_return=is_return),
        )
        probe_key = self._full_key("analytics_admin:probe")
        return RedisStore(
            pool, probe_key=probe_key, past=self._past, max_value_bytes=self._max_bytes
        )

    def drop_near(self, *, entry: str = "", tag_keys: tuple[str, ...] = ()) -> None:
        """Forget what this process has just set, deleted or cleared."""
        if self.near is not None:
            self.near.drop(entry, tag_keys)
        self.resolver.detach(entry=entry, tag_keys=tag_keys)

    @translate_errors
    def _check_past(self, client: Any) -> None:
        """Find out a store that came back with its past before near values are read from it."""
        pool = ConnectionPool(
            client,
            run_bounded=lambda function: function(),
            reply_timeout=lambda: None,
            on_open=lambda exchange, is_return: self._past.check(exchange, is_return=is_return),
        )
        try:
            pool.call("PING")
        finally:
            pool.close()

    def _track(self, on_change: OnChange) -> RedisTrackingLink:
        client = dedicated_client(self._alias, timeout=TRACKING_TIMEOUT)
        self._check_past(client)
        return RedisTrackingLink(client, on_change, max_value_bytes=self._max_bytes)

    def _change_record(self, change: Change) -> None:
        """Change the epoch record when the store can be reached.

        Raises:
            StoreUnavailable: it cannot now.
        """
        try:
            self.access.run(
                lambda store: cast("RedisStore", store).change_record(self._record_key, change)
            )
        except StoreBypassed as bypassed:
            raise StoreUnavailable(bypassed.reason) from None

    def _claim_comparison(self, seconds: float) -> bool:
        """Say whether this process is the first to compare the store for so many seconds.

        Raises:
            StoreUnavailable: it cannot be reached now.
        """
        key = self._full_key("analytics_admin:compared")
        try:
            return self.access.run(lambda store: cast("RedisStore", store).claim_key(key, seconds))
        except StoreBypassed as bypassed:
            raise StoreUnavailable(bypassed.reason) from None
