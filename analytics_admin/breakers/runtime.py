"""The engine of this process, its store as the settings name it, and its announcements."""

import logging
from functools import cache

from django.core.signals import setting_changed
from django.dispatch import receiver

from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.state import StateChange, StoreChange
from analytics_admin.breakers.stores.base import BreakerStore
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
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
    """Return the store behind the alias; ``timeout`` (seconds) holds for each reply."""
    return _memory_store() if is_local_memory(alias) else RedisStore(alias, timeout=timeout)


def call_store() -> BreakerStore:
    """Return the store for protected calls, with a short time-out."""
    return _store(app_settings().breaker_cache, CALL_TIMEOUT_SECONDS)


def operator_store() -> BreakerStore:
    """Return the store for operators, with a longer time-out; its failures are reported."""
    return _store(app_settings().breaker_cache, OPERATOR_TIMEOUT_SECONDS)


def keep_for() -> float | None:
    """Return the seconds for which an unused name stays registered; None: for ever."""
    return app_settings().seconds_to_keep_breakers


def announce(event: StateChange | StoreChange) -> None:
    """Log the event and send its signal; receivers that raise do no harm."""
    if isinstance(event, StoreChange):
        breaker_store_changed.send_robust(sender=Engine, reason=event.reason)
        return
    logger.warning(
        "circuit breaker %s: %s to %s (%s)",
        event.name,
        event.from_state,
        event.to_state,
        event.cause,
    )
    breaker_state_changed.send_robust(
        sender=Engine,
        name=event.name,
        from_state=event.from_state,
        to_state=event.to_state,
        cause=event.cause,
    )


engine = Engine(call_store, announce)


@receiver(setting_changed)
def _forget_stores(*, setting: str, **_: object) -> None:
    if setting == "CACHES":
        _store.cache_clear()
