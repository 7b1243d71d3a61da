"""Rate limits: operations per user, logins per address.

All processes count together in the ``default`` cache. While it is down or slow, each process
counts for itself: its failure never fails a request.
"""

import math
import time
from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

from analytics_admin.conf import DEFAULT_THROTTLE_RATES, Rate, app_settings, parse_rate
from analytics_admin.services.errors import get_logger
from analytics_admin.stores.client import StoreUnavailable, dedicated_client

logger = get_logger("analytics_admin.api.throttling")

STORE_ALIAS = "default"
REPLY_TIMEOUT_SECONDS = 0.2
# After a hit that took longer, the store counts as down ...
MAX_HIT_SECONDS = 0.5
# ... and is not asked for this long.
RETRY_AFTER_SECONDS = 5.0


class WindowCounter:
    """Counts hits by key, in fixed windows that begin with their first hit."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,  # windows are shared, hence the time of day
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
        """Count one hit; return the hits in its window and the seconds left of it."""
        self._follow_settings()
        started = self._timer()
        if started >= self._down_until:
            try:
                result = self._count(*self._open(), key, seconds)
            except Exception as error:
                if not _is_store_failure(error):
                    raise
                # Never the message, which may hold a URL with its password.
                self._suspend_store(type(error).__name__)
            else:
                if self._timer() - started > MAX_HIT_SECONDS:
                    self._suspend_store("it answers slowly")
                return result
        with self._lock:  # LocMemCache adds and increments in two steps
            return self._count(self._local, {}, key, seconds)

    def _follow_settings(self) -> None:
        """Start again when the alias's settings have changed."""
        settings = caches.settings.get(STORE_ALIAS)
        if settings != self._settings:
            self._settings, self._shared, self._down_until = settings, None, -math.inf
            self._local = _memory()

    def _open(self) -> tuple[Any, dict[str, Any]]:
        """Return the cache to call and extra arguments: for django-redis, a client of our own.

        The alias's own client may wait and retry for longer than a request can afford.
        """
        cache = caches[STORE_ALIAS]
        if not hasattr(cache, "client"):
            return cache, {}
        if self._shared is None:
            client = dedicated_client(STORE_ALIAS, timeout=REPLY_TIMEOUT_SECONDS)
            self._shared = (cache.client, {"client": client})
        return self._shared

    def _count(
        self, cache: Any, options: dict[str, Any], key: str, seconds: int
    ) -> tuple[int, float]:
        # The window lasts as long as the store keeps its key, as hosts' clocks may differ. Its end
        # is part of the counter's key, because some caches drop a key's expiry on incr().
        window, now = f"{key}.{seconds}", self._clock()
        end_ms = cache.get(window, **options)
        if end_ms is None:
            end_ms = int((now + seconds) * 1000)
            if not cache.add(window, end_ms, timeout=seconds, **options):
                end_ms = cache.get(window, **options) or end_ms
        counter = f"{window}.{end_ms}"
        try:
            hits = cache.incr(counter, **options)
        except ValueError:  # no such key yet
            is_first = cache.add(counter, 1, timeout=seconds + 1, **options)
            hits = 1 if is_first else cache.incr(counter, **options)
        return hits, min(max(end_ms / 1000 - now, 0.0), float(seconds))

    def _suspend_store(self, reason: str) -> None:
        self._down_until = self._timer() + RETRY_AFTER_SECONDS
        logger.warning("throttles count per process for %s s: %s", RETRY_AFTER_SECONDS, reason)


def _memory() -> LocMemCache:
    memory = LocMemCache("analytics_admin.throttles", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
    memory.clear()
    return memory


def _is_store_failure(error: Exception) -> bool:
    """Return whether a cache raises this when its store fails."""
    # TypeError and ValueError: the backend read a counter that had just expired.
    # NotImplementedError: django-redis' HerdClient has no counters.
    known = StoreUnavailable | OSError | DatabaseError | TypeError | ValueError
    if isinstance(error, known | NotImplementedError):
        return True
    # By class name: drivers share no base class, and the API imports none of them.
    names = {base.__name__ for base in type(error).__mro__}
    return not names.isdisjoint({"ConnectionInterrupted", "RedisError", "MemcacheError"})


counter = WindowCounter()


class _RateThrottle(BaseThrottle):
    """Allows as many requests as the scope's rate; ``None`` as rate allows all."""

    scope = ""

    def __init__(self) -> None:
        self._seconds_left = 0.0

    def identify(self, request: Request) -> str:
        """Return the caller whose requests count together."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: Any) -> bool:
        rate = current_rate(self.scope)
        if rate is None:
            return True
        caller = self.identify(request).encode(errors="backslashreplace")
        key = f"analytics_admin.throttle.{self.scope}.{sha256(caller).hexdigest()[:32]}"
        hits, self._seconds_left = counter.hit(key, rate.seconds)
        return hits <= rate.limit

    def wait(self) -> float:
        return max(1, math.ceil(self._seconds_left))


class WriteThrottle(_RateThrottle):
    """Limits the operations of one user."""

    scope = "write"

    def identify(self, request: Request) -> str:
        return str(request.user.pk)


class LoginThrottle(_RateThrottle):
    """Limits the logins from one address."""

    scope = "login"

    def identify(self, request: Request) -> str:
        """Return the address; ``X-Forwarded-For`` is trusted for NUM_PROXIES proxies."""
        proxies = api_settings.NUM_PROXIES or 0  # to DRF, None means "trust it all"
        if proxies > 0 and (forwarded := request.headers.get("X-Forwarded-For")):
            hops = forwarded.split(",")
            return hops[-min(proxies, len(hops))].strip()
        return str(request.META.get("REMOTE_ADDR", ""))


def current_rate(scope: str) -> Rate | None:
    """Return the scope's current rate, or its default while the setting is malformed."""
    default = DEFAULT_THROTTLE_RATES[scope]
    try:
        return parse_rate(app_settings().throttle_rates.get(scope, default))
    except ValueError:  # the system check reports it
        return parse_rate(default)
