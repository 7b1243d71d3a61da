"""What every call of the search cache goes through: the settings, the store, the fork."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.core.signals import setting_changed

from analytics_admin.caching.client import CacheClient
from analytics_admin.caching.codec import decode
from analytics_admin.caching.effects import Lookup
from analytics_admin.caching.entries import Entry
from analytics_admin.caching.freshness import Freshness
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.statistics.reporter import REPLY_TIMEOUT, Reporter
from analytics_admin.caching.statistics.store import StatisticsStore, open_statistics_store
from analytics_admin.caching.stores import memory
from analytics_admin.caching.stores.availability import StoreBypassed, StoreCall
from analytics_admin.conf import SETTING, app_settings
from analytics_admin.stores.client import StoreUnavailable
from analytics_admin.stores.process_hooks import register_process_hooks

T = TypeVar("T")


class Connected:
    """One process' way to the store of an alias, which is asked for with the first call."""

    def __init__(self, alias: Callable[[], str]) -> None:
        self._alias = alias
        self._wiring: CacheClient | None = None
        self._lock = threading.Lock()
        self.statistics = CallCounter(self._note_count)
        """What the calls of this process came to, and was not told to the ledger yet."""
        self.reporter = Reporter(self.statistics, self._open_ledger)
        setting_changed.connect(self._note_setting)
        register_process_hooks(self)

    def _hit(self, entry: Entry, *, now: float) -> Lookup:
        self.statistics.hit(entry.computed_in)
        return Lookup(decode(entry.text), "hit", max(0.0, now - entry.stored_at))

    def _read(self, keys: list[Any], tags: Iterable[str]) -> list[Freshness]:
        wiring = self._wired()
        step = wiring.reading(keys, tags)
        try:
            return wiring.line.run(step)
        except StoreBypassed:
            return []

    async def _aread(self, keys: list[Any], tags: Iterable[str]) -> list[Freshness]:
        wiring = self._wired()
        step = wiring.reading(keys, tags)
        try:
            return await wiring.line.arun(step)
        except StoreBypassed:
            return []

    def _values(self, keys: list[Any], found: list[Freshness]) -> dict[Any, Any]:
        values = {}
        for key, each in zip(keys, found, strict=False):  # none at all with the store away
            if each.fresh is not None:
                values[key] = self._hit(each.fresh, now=each.now).value
        self.statistics.add(misses=len(found) - len(values), bypassed=len(keys) - len(found))
        return values

    def _insist(self, step: StoreCall[T]) -> T:
        try:
            return self._wired().line.run(step)
        except StoreBypassed as away:
            raise StoreUnavailable(away.reason) from None

    async def _ainsist(self, step: StoreCall[T]) -> T:
        try:
            return await self._wired().line.arun(step)
        except StoreBypassed as away:
            raise StoreUnavailable(away.reason) from None

    def _wired(self) -> CacheClient:
        return self._wiring or self._wire()

    def _wire(self) -> CacheClient:
        with self._lock:
            if self._wiring is None:
                self._wiring = CacheClient(self._alias(), self.statistics)
            return self._wiring

    def _note_setting(self, *, setting: str, **_: object) -> None:
        if setting in {"CACHES", SETTING}:
            self.reconnect()

    def reconnect(self) -> None:
        """Let the connections go, and read the settings anew with the next call."""
        with self._lock:
            wiring, self._wiring = self._wiring, None
        if wiring is not None:
            wiring.line.close()

    def flush(self) -> None:
        """Tell the last counts as the process ends."""
        self.reporter.flush()

    def after_fork(self) -> None:
        """Share no connection, lock or thread with the process that this one was forked from."""
        self._lock = threading.Lock()
        self.statistics.after_fork()
        self.reporter.after_fork()
        memory.after_fork()
        if self._wiring is not None:
            self._wiring.line.after_fork()
            self._wiring.lookups.after_fork()

    def _note_count(self) -> None:
        self.reporter.wake()

    def _open_ledger(self) -> StatisticsStore:
        return open_statistics_store(
            app_settings().breaker_cache, self._alias(), timeout=REPLY_TIMEOUT
        )
