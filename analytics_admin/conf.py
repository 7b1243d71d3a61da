"""The ``ANALYTICS_ADMIN`` setting: its keys and defaults. Values are read at each use."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

SETTING = "ANALYTICS_ADMIN"
ENVIRONMENT_COLORS = ("gray", "red", "orange", "green", "blue", "purple")
MAX_ENVIRONMENT_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """One field per key of ``ANALYTICS_ADMIN``, in lower case."""

    search_cache: str = "search"
    """The search cache's alias in CACHES."""
    breaker_cache: str = "breakers"
    """The circuit breakers' alias in CACHES."""
    breakers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Policy options by breaker name; they override the code."""
    breaker_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Policy options of every breaker; code and BREAKERS override them."""
    sync_interval: float = 0.25
    """Seconds between a process's exchanges with the breakers' store."""
    store_timeout: float = 1.0
    """Seconds that the breakers' store may take for an answer before it counts as lost."""
    store_retry_interval: float = 5.0
    """Seconds between attempts to reconnect to a lost store."""
    retire_breakers_after: timedelta | float | None = timedelta(days=30)
    """Time after which an unused breaker is forgotten (seconds, timedelta or None)."""
    keep_exception_texts: bool = True
    """False: the last failures keep the exception's class, but not its message."""
    search_cache_dedicated: bool = False
    """True: the search alias's database holds nothing else, so a clear flushes it."""
    search_cache_lease: float = 1.0
    """Seconds for which others wait for a process that computes; it renews them meanwhile."""
    search_cache_background: bool = False
    """True: stale values are refreshed in the background, unless a call says otherwise."""
    search_cache_background_context: str | Callable[[], Any] | None = None
    """Returns a context manager around a refresh in the background; called by the caller."""
    search_cache_background_refreshes: int = 4
    """Stale values that a process refreshes in the background at once; 0: callers refresh."""
    search_cache_near: float = 0.0
    """Seconds by which values from this process' memory may be late after a clear; 0: none."""
    search_cache_near_bytes: int = 16 * 1024 * 1024
    """Maximum memory that such values take in one process."""
    search_cache_max_value_bytes: int = 1024 * 1024
    """Maximum size of a stored value, in encoded bytes."""
    search_cache_soft_clear_grace: float = 60.0
    """Maximum seconds for which a soft clear still serves stale results."""
    require_model_permissions: bool = False
    """True: staff also need the operation's permission; superusers never do."""
    require_reason: bool = False
    """True: operations without a reason are rejected."""
    require_environment_name: bool = False
    """True: the console asks operators to type ENVIRONMENT_NAME before an operation."""
    read_only: bool = False
    """True: all operations are rejected, by every channel."""
    token_endpoint: bool = True
    """False: nobody gets tokens for a password; both token endpoints are gone."""
    token_leeway: float = 5.0
    """Seconds by which clocks may differ from a token's times; SIMPLE_JWT["LEEWAY"] wins."""
    audit_client_address: bool = True
    """False: the audit trail keeps no client's address."""
    audit_user_agent: bool = True
    """False: the audit trail keeps no user agent."""
    external_token_max_lifetime: timedelta | float | None = None
    """Maximum remaining lifetime of a token minted elsewhere (seconds, timedelta or None)."""
    throttle_rates: Mapping[str, str | None] = field(default_factory=dict)
    """Rates by scope ("write", "login"), like "30/min"; None disables one."""
    metrics_token: str = ""
    """Bearer token of ``/metrics``; "": there are no metrics."""
    console_refresh_seconds: float | None = 5.0
    """Seconds between refreshes of an open console page; None disables them."""
    environment_name: str = ""
    """The site's name, like "production", shown on every console page."""
    environment_color: str = "gray"
    """Color of that name, one of ENVIRONMENT_COLORS."""

    @property
    def seconds_to_keep_breakers(self) -> float | None:
        after = self.retire_breakers_after
        return after.total_seconds() if isinstance(after, timedelta) else after

    @property
    def background_context_hook(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Raises ImportError for a dotted path that leads nowhere."""
        hook = self.search_cache_background_context
        return import_string(hook) if isinstance(hook, str) else hook


KEYS = {item.name.upper(): item for item in fields(AppSettings)}


def app_settings() -> AppSettings:
    """Return the current settings, without unknown keys, which a system check reports."""
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
    """Parse a rate like "30/min", "5/s" or "100/hour"; None means no limit.

    Raises:
        ValueError: the text is not a rate.
    """
    if text is None:
        return None
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'a rate looks like "30/min", not {text!r}')
    return Rate(limit=int(match[1]), seconds=_SECONDS[match[2][0]])
