"""What each setting must be; every key of AppSettings has its rule."""

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from analytics_admin.conf import (
    DEFAULT_THROTTLE_RATES,
    ENVIRONMENT_COLORS,
    MAX_ENVIRONMENT_NAME_LENGTH,
    parse_rate,
)

Problem = str | None


def describe_type(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _alias(value: object) -> Problem:
    if isinstance(value, str) and value:
        return None
    return f"must be the name of a cache alias, not {describe_type(value)}"


def _flag(value: object) -> Problem:
    return None if isinstance(value, bool) else f"must be True or False, not {describe_type(value)}"


def _seconds(value: object, least: float = 0.0, most: float = math.inf) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number of seconds, not {describe_type(value)}"
    if not math.isfinite(value) or value <= 0:
        return "must be more than 0 seconds"
    return None if least <= value <= most else f"must be {least:g} to {most:g} seconds"


def _bytes(value: object) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number of bytes, not {describe_type(value)}"
    return None if value > 0 else "must be more than 0 bytes"


def _number(value: object) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number, not {describe_type(value)}"
    return None if value >= 0 else "must be at least 0"


def _lifetime(value: object) -> Problem:
    if value is None:
        return None
    return _seconds(value.total_seconds() if isinstance(value, timedelta) else value)


def _mapping(value: object) -> Problem:
    return None if isinstance(value, Mapping) else f"must be a dict, not {describe_type(value)}"


def _breakers(value: object) -> Problem:
    if not isinstance(value, Mapping):
        return _mapping(value)
    wrong = [name for name, options in value.items() if not isinstance(options, Mapping)]
    return f"must map each name to a dict of options; {wrong[0]!r} does not" if wrong else None


def _rates(value: object) -> Problem:
    if not isinstance(value, Mapping):
        return _mapping(value)
    for scope, rate in value.items():
        if scope not in DEFAULT_THROTTLE_RATES:
            return f"has no scope {scope!r}; there are: {', '.join(DEFAULT_THROTTLE_RATES)}"
        try:
            parse_rate(rate)
        except ValueError:
            return f"['{scope}'] must be None or like '30/min' (s, min, hour, day), at least 1"
    return None


def _refresh(value: object) -> Problem:
    return None if value is None else _seconds(value, least=1, most=3600)


def _label(value: object) -> Problem:
    if not isinstance(value, str):
        return f"must be a text, not {describe_type(value)}"
    short = len(value) <= MAX_ENVIRONMENT_NAME_LENGTH
    return None if short else f"must have at most {MAX_ENVIRONMENT_NAME_LENGTH} characters"


def _color(value: object) -> Problem:
    if isinstance(value, str) and value in ENVIRONMENT_COLORS:
        return None
    return f"must be one of {', '.join(ENVIRONMENT_COLORS)}"


RULES: dict[str, Callable[[object], Problem]] = {
    "SEARCH_CACHE": _alias,
    "BREAKER_CACHE": _alias,
    "BREAKERS": _breakers,
    "BREAKER_DEFAULTS": _mapping,
    "SYNC_INTERVAL": _seconds,
    "STORE_RETRY_INTERVAL": _seconds,
    "RETIRE_BREAKERS_AFTER": _lifetime,
    "KEEP_EXCEPTION_TEXTS": _flag,
    "SEARCH_CACHE_DEDICATED": _flag,
    "SEARCH_CACHE_LEASE": partial(_seconds, least=0.01, most=3600),
    "SEARCH_CACHE_SOFT_CLEAR_GRACE": partial(_seconds, least=0.01, most=86400),
    "SEARCH_CACHE_BACKGROUND_REFRESHES": _number,
    "SEARCH_CACHE_MAX_VALUE_BYTES": _bytes,
    "REQUIRE_MODEL_PERMISSIONS": _flag,
    "REQUIRE_REASON": _flag,
    "REQUIRE_ENVIRONMENT_NAME": _flag,
    "READ_ONLY": _flag,
    "EXTERNAL_TOKEN_MAX_LIFETIME": _lifetime,
    "THROTTLE_RATES": _rates,
    "CONSOLE_REFRESH_SECONDS": _refresh,
    "ENVIRONMENT_NAME": _label,
    "ENVIRONMENT_COLOR": _color,
}
