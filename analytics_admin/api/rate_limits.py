"""Counts of hits by key, shared by all processes through the ``default`` cache.

A count never decides how a request ends but by its figure: while the store is down or slow, each
process counts for itself. Knows neither HTTP nor redis, nor what is counted.
"""

import logging
import math
import time
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any, ClassVar

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError

from analytics_admin.stores.client import StoreUnavailable, dedicated_client

logger = logging.getLogger("analytics_admin.api.rate_limits")

STORE_ALIAS = "default"
# One reply may take this long (seconds) ...
REPLY_TIMEOUT_SECONDS = 0.2
# ... all of them together this long, else the store counts as down ...
MAX_SECONDS = 0.5
# ... and is left alone for this long.
RETRY_AFTER_SECONDS = 5.0


class WindowCounter:
    """Counts hits by key, in windows that begin with their first hit."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,  # windows are shared, so by the time of day
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._lock = Lock()
        self._settings: Any = None
        self._shared: tuple[Any, dict[str, Any]] | None = None
        self._down_until = -math.inf
        self._local = _memory()

    def hit(self, key: str, seconds: int) -> tuple[int, float]:
        """Count one hit; return its window's hits so far and the seconds that are left of it."""
        self._follow_settings()
        began = self._timer()
        if began >= self._down_until:
            with _StoreFailures() as attempt:
                cache, extra = self._open()
                answer = self._count(cache, extra, key, seconds)
                self._check_duration(self._timer() - began)
                return answer
            self._use_local_counts(attempt.reason)
        with self._lock:  # LocMemCache adds and counts in two steps
            return self._count(self._local, {}, key, seconds)

    def _follow_settings(self) -> None:
        """Begin anew when CACHES says something else than before."""
        settings = caches.settings.get(STORE_ALIAS)
        if settings != self._settings:
            self._settings, self._shared, self._down_until = settings, None, -math.inf
            self._local = _memory()

    def _open(self) -> tuple[Any, dict[str, Any]]:
        """Return what to call and with which keywords: django-redis over a client of our own.

        The alias' own client may wait and retry for longer than an answer may take.
        """
        cache = caches[STORE_ALIAS]
        if not hasattr(cache, "client"):
            return cache, {}
        if self._shared is None:
            client = dedicated_client(STORE_ALIAS, timeout=REPLY_TIMEOUT_SECONDS)
            self._shared = (cache.client, {"client": client})
        return self._shared

    def _count(
        self, cache: Any, extra: dict[str, Any], key: str, seconds: int
    ) -> tuple[int, float]:
        # A window lasts as long as the store keeps its key: hosts' clocks may differ. Its end is
        # part of the counter's key, as not every cache keeps a key's expiry when it counts it up.
        window, now = f"{key}.{seconds}", self._clock()
        end_ms = cache.get(window, **extra)
        if end_ms is None:
            end_ms = int((now + seconds) * 1000)
            if not cache.add(window, end_ms, timeout=seconds, **extra):
                end_ms = cache.get(window, **extra) or end_ms
        counter = f"{window}.{end_ms}"
        try:
            hits = cache.incr(counter, **extra)
        except ValueError:  # there is none yet
            is_first = cache.add(counter, 1, timeout=seconds + 1, **extra)
            hits = 1 if is_first else cache.incr(counter, **extra)
        return hits, min(max(end_ms / 1000 - now, 0.0), float(seconds))

    def _check_duration(self, took: float) -> None:
        if took > MAX_SECONDS:
            self._use_local_counts("it answers slowly")

    def _use_local_counts(self, reason: str) -> None:
        self._down_until = self._timer() + RETRY_AFTER_SECONDS
        logger.warning("throttles count per process for %s s: %s", RETRY_AFTER_SECONDS, reason)


def _memory() -> LocMemCache:
    memory = LocMemCache("analytics_admin.throttles", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
    memory.clear()
    return memory


class _StoreFailures:
    """Swallow in its block what a cache raises when its store fails, and keep why."""

    # By class name: drivers share no base class, and this door imports none of them.
    _names: ClassVar = frozenset({"ConnectionInterrupted", "RedisError", "MemcacheError"})
    # TypeError and ValueError: the backend read a counter that had just gone.
    _types: ClassVar = (StoreUnavailable, OSError, DatabaseError, TypeError, ValueError)

    reason = ""

    def __enter__(self) -> "_StoreFailures":
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        if cls is None:
            return False
        self.reason = cls.__name__  # never the text, which may hold a URL with its password
        return issubclass(cls, self._types) or any(
            base.__name__ in self._names for base in cls.__mro__
        )
