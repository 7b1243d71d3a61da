"""The counts of all processes by minute and by hour, kept for a day in the breakers' alias.

A clear, or a flush of the search cache's database, does not reach them there.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, Protocol

from django.core.cache import caches

from analytics_admin.caching.statistics.counters import (
    COUNT_NAMES,
    FUNCTION_COUNT_NAMES,
    Counts,
    FunctionCounts,
)
from analytics_admin.stores.client import (
    dedicated_client,
    is_local_memory,
    load_script,
    translate_errors,
)

MINUTES_KEPT = 1440
_KEPT_SECONDS = (MINUTES_KEPT + 120) * 60
_MARK_SECONDS = _KEPT_SECONDS
"""Time for which a repeated batch is recognised: longer than any repetition takes."""
_MAX_BATCHES_PER_CALL = 100
_MICROSECONDS = 1_000_000
_TOTALS = "totals"
_IN_SECONDS = {"compute_seconds", "saved_seconds"}
"""Stored as whole microseconds, so that sums are exact."""

_ADD = load_script("analytics_admin.caching.stores", "add_counts")


class Bucket(NamedTuple):
    """A minute or an hour, whose counts are kept together."""

    unit: str
    """``m`` or ``h``."""
    number: int
    """Minutes or hours since the Unix epoch."""


class Batch(NamedTuple):
    """Counts of one process in one minute, to be added once."""

    name: str
    minute: int
    counts: Counts

    @property
    def buckets(self) -> tuple[Bucket, Bucket]:
        return Bucket("m", self.minute), Bucket("h", self.minute // 60)


class StatisticsStore(Protocol):
    """Both methods raise StoreUnavailable when the store does not do what it was asked."""

    def add(self, sender: str, batches: Sequence[Batch]) -> None:
        """Add the batches; one that the sender repeats is added once."""

    def read(self, buckets: Sequence[Bucket]) -> list[Counts]:
        """Return the counts of each bucket, in one round trip."""

    def read_functions(self, hours: Sequence[int]) -> dict[str, FunctionCounts]:
        """Return the counts of each cached function in these hours, in one round trip."""

    def totals_key(self) -> str:
        """Return the key of the hash of all counts ever, see ``decode_counts``; "": none."""

    def totals(self) -> Counts:
        """Return all counts ever that are in this process' memory, where there is no key."""


def open_statistics_store(alias: str, search_alias: str, *, timeout: float) -> StatisticsStore:
    """Return the statistics store of a search cache in ``alias``; it connects at first use.

    ``timeout`` is in seconds, for connecting and for each reply.

    Raises:
        StoreUnavailable: the alias' settings are not usable.
    """
    if is_local_memory(alias):
        return _memory_statistics_store(search_alias)
    return RedisStatisticsStore(alias, search_alias, timeout=timeout)


class RedisStatisticsStore:
    """One hash of counts per bucket, and for a while a mark of each sender's last batch.

    It is used every ten seconds: no connection stays idle meanwhile.
    """

    def __init__(self, alias: str, search_alias: str, *, timeout: float) -> None:
        self._client = dedicated_client(alias, timeout=timeout)
        self._make_key = caches[alias].make_key
        self._search_alias = search_alias

    @translate_errors
    def add(self, sender: str, batches: Sequence[Batch]) -> None:
        with closing(self):
            for start in range(0, len(batches), _MAX_BATCHES_PER_CALL):
                pipeline = self._client.pipeline(transaction=False)
                for batch in batches[start : start + _MAX_BATCHES_PER_CALL]:
                    mark = self._full_key(f"{sender}:{batch.minute}")
                    keys = [mark, *map(self._key, batch.buckets), self._full_key(_TOTALS)]
                    ttls = _MARK_SECONDS, _KEPT_SECONDS
                    pipeline.eval(
                        _ADD, len(keys), *keys, batch.name, *ttls, *_amounts(batch.counts)
                    )
                    if functions := batch.counts.functions:
                        keys = [f"{mark}:f", self._functions_key(batch.minute // 60)]
                        amounts = _function_amounts(functions)
                        pipeline.eval(_ADD, 2, *keys, batch.name, *ttls, *amounts)
                pipeline.execute()

    @translate_errors
    def read(self, buckets: Sequence[Bucket]) -> list[Counts]:
        with closing(self):
            pipeline = self._client.pipeline(transaction=False)
            for bucket in buckets:
                pipeline.hmget(self._key(bucket), COUNT_NAMES)
            return [_counts(row) for row in pipeline.execute()]

    def totals(self) -> Counts:
        return Counts()

    @translate_errors
    def read_functions(self, hours: Sequence[int]) -> dict[str, FunctionCounts]:
        with closing(self):
            pipeline = self._client.pipeline(transaction=False)
            for hour in hours:
                pipeline.hgetall(self._functions_key(hour))
            return _functions(pipeline.execute())

    def totals_key(self) -> str:
        return self._full_key(_TOTALS)

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def _functions_key(self, hour: int) -> str:
        return self._full_key(f"f:{hour}")

    def _key(self, bucket: Bucket) -> str:
        return self._full_key(f"{bucket.unit}:{bucket.number}")

    def _full_key(self, name: str) -> str:
        """On a cluster, the braces put all these keys on one node."""
        return str(self._make_key(f"{{search_cache:{self._search_alias}}}:{name}"))


class MemoryStatisticsStore:
    """The statistics store for a site whose breakers' alias is Django's cache in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[Bucket, Counts] = {}
        self._totals = Counts()

    def add(self, sender: str, batches: Sequence[Batch]) -> None:
        with self._lock:
            for batch in batches:
                self._totals.add(replace(batch.counts, functions={}))
                for bucket in batch.buckets:
                    self._counts.setdefault(bucket, Counts()).add(batch.counts)
            oldest = int(time.time() // 60) - MINUTES_KEPT - 120
            for bucket in [each for each in self._counts if _last_minute(each) < oldest]:
                del self._counts[bucket]

    def read(self, buckets: Sequence[Bucket]) -> list[Counts]:
        with self._lock:
            return [total([self._counts.get(bucket, Counts())]) for bucket in buckets]

    def totals_key(self) -> str:
        return ""

    def totals(self) -> Counts:
        with self._lock:
            return total([self._totals])

    def read_functions(self, hours: Sequence[int]) -> dict[str, FunctionCounts]:
        return total(self.read([Bucket("h", hour) for hour in hours])).functions


@cache
def _memory_statistics_store(search_alias: str) -> MemoryStatisticsStore:
    return MemoryStatisticsStore()


def total(parts: Sequence[Counts]) -> Counts:
    """Return the sum of the counts."""
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


def _last_minute(bucket: Bucket) -> int:
    return bucket.number if bucket.unit == "m" else bucket.number * 60 + 59


def _amounts(counts: Counts) -> list[str | int]:
    """Return the names and whole amounts of the counts that are not 0, alternating."""
    amounts: list[str | int] = []
    for name in COUNT_NAMES:
        scale = _MICROSECONDS if name in _IN_SECONDS else 1
        if amount := round(getattr(counts, name) * scale):
            amounts += [name, amount]
    return amounts


def _function_amounts(functions: Mapping[str, FunctionCounts]) -> list[str | int]:
    """Return fields and whole amounts of the counts of functions, alternating."""
    amounts: list[str | int] = []
    for function, counts in functions.items():
        for name in FUNCTION_COUNT_NAMES:
            scale = _MICROSECONDS if name in _IN_SECONDS else 1
            if amount := round(getattr(counts, name) * scale):
                amounts += [f"{name}:{function}", amount]
    return amounts


def _functions(rows: Sequence[Mapping[bytes, bytes]]) -> dict[str, FunctionCounts]:
    functions: dict[str, FunctionCounts] = {}
    for row in rows:
        for label, value in row.items():
            name, _, function = label.decode(errors="replace").partition(":")
            if name not in FUNCTION_COUNT_NAMES:
                continue
            amount: Any = int(value)
            if name in _IN_SECONDS:
                amount /= _MICROSECONDS
            functions.setdefault(function, FunctionCounts()).add(FunctionCounts(**{name: amount}))
    return functions


def decode_counts(stored: Mapping[bytes, bytes]) -> Counts:
    """Return the counts of a hash, without what cannot be read."""
    row = [stored.get(name.encode()) for name in COUNT_NAMES]
    return _counts([value if value is not None and value.isdigit() else None for value in row])


def _counts(row: Sequence[bytes | None]) -> Counts:
    counts: dict[str, Any] = {}
    for name, value in zip(COUNT_NAMES, row, strict=True):
        if value is not None:
            counts[name] = int(value) / _MICROSECONDS if name in _IN_SECONDS else int(value)
    return Counts(**counts)
