"""This process' one engine: the fleet over the store of the settings, and who hears its news."""

import logging
from functools import cache

from django.core.signals import setting_changed
from django.dispatch import receiver

from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.stores.base import BreakerStore
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.breakers.sync import StateChange, StoreChange
from analytics_admin.conf import app_settings
from analytics_admin.signals import breaker_state_changed, breaker_store_changed
from analytics_admin.stores.client import is_local_memory

logger = logging.getLogger("analytics_admin.breakers")

CALL_TIMEOUT_SECONDS = 0.1
OPERATOR_TIMEOUT_SECONDS = 0.5


@cache
def _memory_store() -> MemoryStore:
    return MemoryStore()


@cache
def _store(alias: str, timeout: float) -> BreakerStore:
    """Return the store behind the alias; ``timeout`` (seconds) holds for each of its replies."""
    return _memory_store() if is_local_memory(alias) else RedisStore(alias, timeout=timeout)


def connect() -> BreakerStore:
    """Return the store as protected calls use it: impatient."""
    return _store(app_settings().breaker_cache, CALL_TIMEOUT_SECONDS)


def operator_store() -> BreakerStore:
    """Return the store as operators' acts use it: patient, and failing aloud."""
    return _store(app_settings().breaker_cache, OPERATOR_TIMEOUT_SECONDS)


def keep_for() -> float | None:
    """Return the seconds for which a name that nobody uses stays registered; None: for ever."""
    return app_settings().seconds_to_keep_breakers


def announce(news: StateChange | StoreChange) -> None:
    """Tell the log and the signals' receivers; one that raises harms nobody."""
    if isinstance(news, StoreChange):
        breaker_store_changed.send_robust(sender=Engine, reason=news.reason)
        return
    logger.warning(
        "circuit breaker %s: %s to %s (%s)", news.name, news.from_state, news.to_state, news.cause
    )
    breaker_state_changed.send_robust(
        sender=Engine,
        name=news.name,
        from_state=news.from_state,
        to_state=news.to_state,
        cause=news.cause,
    )


fleet = Engine(connect, announce)


@receiver(setting_changed)
def _forget_stores(*, setting: str, **_: object) -> None:
    if setting == "CACHES":
        _store.cache_clear()
