"""The counts of all processes by minute and by hour, kept a day, in the breakers' alias.

There a clear, or a flush of the search cache's database, does not reach them. Knows nothing of who
counts, nor of what is asked about the counts.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, Protocol

from django.core.cache import caches
from redis.exceptions import RedisError

from analytics_admin.caching.statistics.counters import COUNT_NAMES, Counts
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    StoreUnavailable,
    dedicated_client,
    explain_error,
    is_local_memory,
    load_script,
)

MINUTES_KEPT = 1440
_KEPT_SECONDS = (MINUTES_KEPT + 120) * 60
_MARK_SECONDS = 900
"""Seconds for which a batch that comes again is known: longer than one waits to be told again."""
_BATCHES_AT_ONCE = 100
_MICROSECONDS = 1_000_000
_IN_SECONDS = {"compute_seconds", "saved_seconds"}
"""Kept as whole microseconds, so that sums are exact."""

_ADD = load_script("analytics_admin.caching.stores", "add_counts")


class Bucket(NamedTuple):
    """A minute or an hour: that many since the beginning of Unix time."""

    unit: str
    """``m`` or ``h``."""
    number: int


class Batch(NamedTuple):
    """Counts of one minute by one process, to be added once."""

    name: str
    minute: int
    counts: Counts

    @property
    def spans(self) -> tuple[Bucket, Bucket]:
        return Bucket("m", self.minute), Bucket("h", self.minute // 60)


class StatisticsStore(Protocol):
    """Both methods raise StoreUnavailable when the store does not do what it was asked."""

    def tell(self, sender: str, batches: Sequence[Batch]) -> None:
        """Add the batches: each once, also if the sender, not sure of it, tells it again."""

    def read(self, spans: Sequence[Bucket]) -> list[Counts]:
        """Return the counts of each span, in one round trip."""


def open_statistics_store(alias: str, search_alias: str, *, timeout: float) -> StatisticsStore:
    """Return the ledger about a search cache in this alias; nothing connects yet.

    ``timeout`` (seconds) holds for connecting and for each reply.

    Raises:
        StoreUnavailable: the alias' settings are not usable.
    """
    if is_local_memory(alias):
        return _memory_statistics_store(search_alias)
    return RedisStatisticsStore(alias, search_alias, timeout=timeout)


class RedisStatisticsStore:
    """One hash per minute: its figures, and beside it for a while the mark of each sender."""

    def __init__(self, alias: str, search_alias: str, *, timeout: float) -> None:
        self._client = dedicated_client(alias, timeout=timeout)
        self._full = caches[alias].make_key
        self._search_alias = search_alias

    def tell(self, sender: str, batches: Sequence[Batch]) -> None:
        with self._talking():
            for start in range(0, len(batches), _BATCHES_AT_ONCE):
                step = self._client.pipeline(transaction=False)
                for batch in batches[start : start + _BATCHES_AT_ONCE]:
                    mark = self._full_name(f"{sender}:{batch.minute}")
                    keys = [mark, *map(self._key, batch.spans)]
                    lives = _MARK_SECONDS, _KEPT_SECONDS
                    step.eval(_ADD, 3, *keys, batch.name, *lives, *_amounts(batch.counts))
                step.execute()

    def read(self, spans: Sequence[Bucket]) -> list[Counts]:
        with self._talking():
            step = self._client.pipeline(transaction=False)
            for span in spans:
                step.hmget(self._key(span), COUNT_NAMES)
            return [_counts(row) for row in step.execute()]

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def _key(self, span: Bucket) -> str:
        return self._full_name(f"{span.unit}:{span.number}")

    def _full_name(self, name: str) -> str:
        """On a cluster, what is in braces puts all of these keys on one node."""
        return str(self._full(f"{{search_cache:{self._search_alias}}}:{name}"))

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailable(explain_error(error)) from None
        except (ValueError, OverflowError) as error:
            raise StoreUnavailable(Message(_("the store's answer cannot be read"))) from error
        finally:
            self.close()  # once in ten seconds: no connection lies idle meanwhile


class MemoryStatisticsStore:
    """The ledger of a site of one process, whose breakers' alias is Django's cache in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[Bucket, Counts] = {}

    def tell(self, sender: str, batches: Sequence[Batch]) -> None:
        with self._lock:
            for batch in batches:
                for span in batch.spans:
                    self._counts.setdefault(span, Counts()).add(batch.counts)
            oldest = int(time.time() // 60) - MINUTES_KEPT - 120
            for span in [span for span in self._counts if _last_minute(span) < oldest]:
                del self._counts[span]

    def read(self, spans: Sequence[Bucket]) -> list[Counts]:
        with self._lock:
            return [total([self._counts.get(span, Counts())]) for span in spans]


@cache
def _memory_statistics_store(search_alias: str) -> MemoryStatisticsStore:
    return MemoryStatisticsStore()


def total(parts: Sequence[Counts]) -> Counts:
    """Return the sum of the counts."""
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


def _last_minute(span: Bucket) -> int:
    return span.number if span.unit == "m" else span.number * 60 + 59


def _amounts(counts: Counts) -> list[str | int]:
    """Return field and whole amount in turn, those that are not 0."""
    amounts: list[str | int] = []
    for name in COUNT_NAMES:
        scale = _MICROSECONDS if name in _IN_SECONDS else 1
        if amount := round(getattr(counts, name) * scale):
            amounts += [name, amount]
    return amounts


def _counts(row: Sequence[bytes | None]) -> Counts:
    figures: dict[str, Any] = {}
    for name, value in zip(COUNT_NAMES, row, strict=True):
        if value is not None:
            figures[name] = int(value) / _MICROSECONDS if name in _IN_SECONDS else int(value)
    return Counts(**figures)
