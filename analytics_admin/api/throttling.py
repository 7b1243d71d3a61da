"""Rate limits: operations per user, logins per address and per account.

All processes count together in the ``default`` cache. While it is down or slow, each process
counts for itself: its failure never fails a request.
"""

import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv6Address, ip_network
from threading import Lock
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from analytics_admin.conf import DEFAULT_THROTTLE_RATES, Rate, app_settings, parse_rate
from analytics_admin.services.audit import client_address, parse_address
from analytics_admin.services.errors import get_logger
from analytics_admin.stores.client import StoreUnavailable, dedicated_client

logger = get_logger("analytics_admin.api.throttling")

STORE_ALIAS = "default"
REPLY_TIMEOUT_SECONDS = 0.2
# After a hit that took longer, the store counts as down ...
MAX_HIT_SECONDS = 0.5
# ... and is not asked for this long.
RETRY_AFTER_SECONDS = 5.0
# Beyond these a counter is damaged: more hits than any rate allows; an end too far from the clock.
MAX_HITS = 10**9
MAX_SKEW_MS = 2 * 86_400_000


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
        return self._count(key, seconds, 1)

    def take_back(self, key: str, seconds: int) -> None:
        """Take back one hit of this window."""
        self._count(key, seconds, -1)

    def _count(self, key: str, seconds: int, delta: int) -> tuple[int, float]:
        self._follow_settings()
        started = self._timer()
        if started >= self._down_until:
            try:
                result = self._add(*self._open(), key, seconds, delta)
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
            return self._add(self._local, {}, key, seconds, delta)

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

    def _add(
        self, cache: Any, options: dict[str, Any], key: str, seconds: int, delta: int
    ) -> tuple[int, float]:
        # The window lasts as long as the store keeps its key, as hosts' clocks may differ. Its end
        # is part of the counter's key, because some caches drop a key's expiry on incr().
        window, now = f"{key}.{seconds}", self._clock()
        end_ms = _read_end(cache, options, window, now, seconds)
        counter = f"{window}.{end_ms}"
        hits = _add(cache, options, counter, seconds + 1, delta)
        return hits, min(max(end_ms / 1000 - now, 0.0), float(seconds))

    def _suspend_store(self, reason: str) -> None:
        self._down_until = self._timer() + RETRY_AFTER_SECONDS
        logger.warning("throttles count per process for %s s: %s", RETRY_AFTER_SECONDS, reason)


def _read_end(cache: Any, options: dict[str, Any], window: str, now: float, seconds: int) -> int:
    """Return when the window ends, in milliseconds; begin one where there is none, or a damaged."""
    new = int((now + seconds) * 1000)
    try:
        end: Any = cache.get(window, **options)
        if end is None:
            if cache.add(window, new, timeout=seconds, **options):
                return new
            end = cache.get(window, **options)
    except Exception as error:
        if not _is_damage(error):
            raise
        end = ...
    if type(end) is int and abs(end - new) <= MAX_SKEW_MS:
        return end
    cache.set(window, new, timeout=seconds, **options)
    return new


def _add(cache: Any, options: dict[str, Any], counter: str, timeout: int, delta: int) -> int:
    """Return the hits with this one; a counter that is damaged starts again."""
    first = max(delta, 0)
    try:
        try:
            hits: Any = cache.incr(counter, delta, **options)
        except ValueError:  # no such key yet
            if cache.add(counter, first, timeout=timeout, **options):
                return first
            hits = cache.incr(counter, delta, **options)
    except Exception as error:
        if not _is_damage(error):
            raise
        hits = ...
    if type(hits) is int and 0 <= hits <= MAX_HITS:
        return hits
    cache.set(counter, first, timeout=timeout, **options)
    return first


def _is_damage(error: Exception) -> bool:
    """Return whether a cache raises this for a value that is none of ours, or cannot be read.

    A store that refuses to be written raises the same; then writing it again fails, too.
    """
    if isinstance(error, StoreUnavailable | OSError | DatabaseError | NotImplementedError):
        return False
    names = {base.__name__ for each in (error, error.__cause__) for base in type(each).__mro__}
    return names.isdisjoint({"ConnectionError", "TimeoutError", "MemcacheError"})


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


class RateThrottle(BaseThrottle):
    """Allows as many requests as the scope's rate; ``None`` as rate allows all."""

    scope = ""

    def __init__(self) -> None:
        self._seconds_left = 0.0
        self._hits: int | None = None

    def identify(self, request: Request) -> str:
        """Return the caller whose requests count together."""
        raise NotImplementedError

    @property
    def rate(self) -> Rate | None:
        return current_rate(self.scope)

    def allow_request(self, request: Request, view: Any) -> bool:
        rate = self.rate
        if rate is None:
            return True
        key = _key(self.scope, self.identify(request))
        self._hits, self._seconds_left = counter.hit(key, rate.seconds)
        return self._hits <= rate.limit

    def wait(self) -> float:
        return max(1, math.ceil(self._seconds_left))

    def headers(self) -> dict[str, str]:
        """Return what a client should know of the rate; nothing if it was not counted.

        As in draft-ietf-httpapi-ratelimit-headers-10.
        """
        rate = self.rate
        if rate is None or self._hits is None:
            return {}
        left = max(0, rate.limit - self._hits)
        return {
            "RateLimit-Policy": f'"{self.scope}";q={rate.limit};w={rate.seconds}',
            "RateLimit": f'"{self.scope}";r={left};t={math.ceil(self._seconds_left)}',
        }


class WriteThrottle(RateThrottle):
    """Limits the operations of one user."""

    scope = "write"

    def identify(self, request: Request) -> str:
        return str(request.user.pk)


class LoginThrottle(RateThrottle):
    """Limits the logins from one address."""

    scope = "login"

    def identify(self, request: Request) -> str:
        """Return the address; of IPv6 the /64, in which one host may have any address."""
        text = client_address(request._request)
        address = parse_address(text)
        if isinstance(address, IPv6Address):
            return str(ip_network((address, 64), strict=False))
        return text


class AccountThrottle(RateThrottle):
    """Limits the failed logins to one account, from wherever they come.

    Twice as many as from one address, so that no single address can use them up. A login counts
    beforehand, lest many at once get more attempts, and is taken back if it succeeds.
    """

    scope = "login"

    def __init__(self, username: str) -> None:
        super().__init__()
        # Databases may find one account by several spellings.
        self._account = unicodedata.normalize("NFKC", username).casefold().strip()

    @property
    def rate(self) -> Rate | None:
        rate = current_rate(self.scope)
        return rate and replace(rate, limit=2 * rate.limit)

    def identify(self, request: Request) -> str:
        return f"account {self._account}"

    def take_back(self) -> None:
        """Count the last login no more."""
        if rate := self.rate:
            counter.take_back(_key(self.scope, f"account {self._account}"), rate.seconds)


def _key(scope: str, caller: str) -> str:
    digest = sha256(caller.encode(errors="backslashreplace")).hexdigest()[:32]
    return f"analytics_admin.throttle.{scope}.{digest}"


def current_rate(scope: str) -> Rate | None:
    """Return the scope's current rate, or its default while the setting is malformed."""
    default = DEFAULT_THROTTLE_RATES[scope]
    try:
        return parse_rate(app_settings().throttle_rates.get(scope, default))
    except ValueError:  # the system check reports it
        return parse_rate(default)
