"""A call's request of the search cache: the keys it concerns, and how long its value may live."""

import math
import random
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from analytics_admin.caching.stores.base import EntryKeys, Ttl

JITTER = 0.1
"""A timeout is shortened by up to this share, never lengthened."""
MAX_DURATION_SECONDS = 3650 * 86400
"""A value that is to live longer has no timeout."""


class Options(TypedDict, total=False):
    """The keyword arguments of every call that may store a value."""

    timeout: Any
    """Seconds or a timedelta for which the value is fresh; None for ever."""
    stale_for: float | timedelta
    """Time for which the value may be served past its timeout."""
    tags: Iterable[str]
    """The strings by which the value can be cleared."""
    near: float | None
    """Seconds by which a value from this process' memory may be late; None: as the settings say."""
    background: bool | None
    """Whether a stale value is refreshed in the background; None: as the settings say."""


class CacheRequest(NamedTuple):
    """The value that a call asks for, and on which terms.

    A plain tuple, because every hit creates one.
    """

    keys: EntryKeys
    timeout: float | None
    """Seconds for which a value is fresh; None for ever, 0 for a cache that is switched off."""
    stale_for: float
    """Seconds for which it may be served past its timeout."""
    lease: float
    """Seconds for which other callers leave the computation to one."""
    max_bytes: int
    background: bool = False
    """Whether a stale value is refreshed in the background."""
    near: float = 0.0
    """Seconds by which a value from this process' memory may be late; 0: none is served."""

    def ttl(self) -> Ttl:
        """Return how long a value stored now is to live; its timeout is shortened by the jitter."""
        if self.timeout is None:
            return Ttl(fresh_ms=0, kept_ms=0)
        fresh_ms = max(1, round(shortened(self.timeout) * 1000))
        return Ttl(fresh_ms=fresh_ms, kept_ms=fresh_ms + round(self.stale_for * 1000))


def to_seconds(duration: object, *, name: str, allow_zero: bool = False) -> float:
    """Return a duration in seconds.

    Raises:
        TypeError: neither a number nor a timedelta.
        ValueError: negative, zero unless allowed, not finite, or over ten years.
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {type(duration).__name__}")
    if not math.isfinite(duration) or duration < 0 or (duration == 0 and not allow_zero):
        bound = "at least" if allow_zero else "more than"
        raise ValueError(f"{name} must be {bound} 0 seconds, not {duration}")
    if duration > MAX_DURATION_SECONDS:
        raise ValueError(f"{name} is over ten years; None means that a value never expires")
    return duration


def shortened(seconds: float) -> float:
    """Return the duration, shortened by a random share of up to JITTER."""
    return seconds * (1 - random.random() * JITTER)
