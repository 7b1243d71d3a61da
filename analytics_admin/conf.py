"""The ``ANALYTICS_ADMIN`` setting: every key with its default, read each time it is used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from django.conf import settings

SETTING = "ANALYTICS_ADMIN"
ENVIRONMENT_COLORS = ("gray", "red", "orange", "green", "blue", "purple")
MAX_ENVIRONMENT_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """One field per key of ``ANALYTICS_ADMIN``, in lower case."""

    search_cache: str = "search"
    """Alias in CACHES of the search cache."""
    breaker_cache: str = "breakers"
    """Alias in CACHES of the circuit breakers' store."""
    breakers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Policies by breaker name; each wins over what the code declares."""
    breaker_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Policy of every breaker, where neither code nor BREAKERS says otherwise."""
    sync_interval: float = 0.25
    """Seconds for which a process trusts what it last read of a breaker."""
    store_retry_interval: float = 5.0
    """Seconds between attempts to return to a store that was lost."""
    retire_breakers_after: timedelta | float | None = timedelta(days=30)
    """Time after which a name that no process uses is off the list (seconds, timedelta or None)."""
    keep_exception_texts: bool = True
    """False: of a failed call the class of its exception is kept, but not its text."""
    search_cache_dedicated: bool = False
    """True: nothing else lives in the search alias' database; a clear flushes it whole."""
    search_cache_lease: float = 5.0
    """Seconds for which other callers leave the computation of a value to one."""
    search_cache_background_refreshes: int = 4
    """Stale values that a process computes anew at once behind its callers' backs; 0: a caller
    does it itself."""
    search_cache_max_value_bytes: int = 1024 * 1024
    """Size of an encoded value above which it is not stored."""
    search_cache_soft_clear_grace: float = 60.0
    """Seconds for which a result may be served as stale after a soft clear, at most."""
    require_model_permissions: bool = False
    """True: staff also need the permission of the act; superusers never do."""
    require_reason: bool = False
    """True: an act without a reason is refused."""
    require_environment_name: bool = False
    """True: in the admin's console an act is done once ENVIRONMENT_NAME was typed."""
    read_only: bool = False
    """True: every act is refused, in all doors."""
    external_token_max_lifetime: timedelta | float | None = None
    """Longest time a token minted elsewhere may still live (seconds or timedelta)."""
    throttle_rates: Mapping[str, str | None] = field(default_factory=dict)
    """Requests per time by scope ("write", "login"); None switches one off."""
    console_refresh_seconds: float | None = 5.0
    """Seconds between looks of an open console page at what is new; None: it stays as it is."""
    environment_name: str = ""
    """Which site this is, such as "production"; said on every page of the console."""
    environment_color: str = "gray"
    """Of that badge, one of ENVIRONMENT_COLORS."""

    @property
    def seconds_to_keep_breakers(self) -> float | None:
        after = self.retire_breakers_after
        return after.total_seconds() if isinstance(after, timedelta) else after


KEYS = {item.name.upper(): item for item in fields(AppSettings)}


def app_settings() -> AppSettings:
    """Return the settings as they are now; unknown keys are left to the system check."""
    given: Mapping[str, Any] = getattr(settings, SETTING, {})
    return AppSettings(**{key.lower(): value for key, value in given.items() if key in KEYS})


DEFAULT_THROTTLE_RATES: Mapping[str, str | None] = {"write": "30/min", "login": "10/min"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|sec|second|m|min|minute|h|hour|d|day)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most ``limit`` requests in ``seconds``."""

    limit: int
    seconds: int


def parse_rate(text: str | None) -> Rate | None:
    """Return the rate behind "30/min", "5/s", "100/hour"; None, which limits nothing, as None.

    Raises:
        ValueError: it is not such a text.
    """
    if text is None:
        return None
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'a rate looks like "30/min", not {text!r}')
    return Rate(limit=int(match[1]), seconds=_SECONDS[match[2][0]])
