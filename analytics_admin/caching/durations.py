"""How long values live: what may be given, and the spread that keeps them from ending together."""

import math
import random
from datetime import timedelta

JITTER = 0.1
"""A timeout is shortened by up to this part of it, never lengthened."""
MAX_DURATION_SECONDS = 3650 * 86400
"""Seconds; what is to live longer has no timeout."""

Duration = float | timedelta


def to_seconds(given: object, *, name: str, allow_zero: bool = False) -> float:
    """Return a duration as seconds.

    Raises:
        TypeError: neither a number nor a timedelta.
        ValueError: negative, zero where that means nothing, not finite, or over ten years.
    """
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {type(given).__name__}")
    if not math.isfinite(given) or given < 0 or (given == 0 and not allow_zero):
        bound = "at least" if allow_zero else "more than"
        raise ValueError(f"{name} must be {bound} 0 seconds, not {given}")
    if given > MAX_DURATION_SECONDS:
        raise ValueError(f"{name} is over ten years; None means that a value never expires")
    return given


def shortened(seconds: float) -> float:
    """Return the duration, shortened by a random part of up to JITTER."""
    return seconds * (1 - random.random() * JITTER)
