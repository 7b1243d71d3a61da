"""Clear a search cache that is Django's in-process cache: a site's tests, first tries.

Knows nothing of Redis. Other aliases may live in the same memory, so keys are told apart as ever.
"""

from typing import Any

from django.core.cache import caches

from analytics_admin.caching.entries import RECORD_NAME, new_record
from analytics_admin.caching.keyspace import Keyspace


def clear(alias: str, keys: Keyspace) -> int:
    """Renew the token, then remove the alias' keys; return how many they were."""
    cache = _cache(alias)
    cache.set(RECORD_NAME, new_record().encode(), timeout=None)
    with cache._lock:
        ours = _owned(cache, keys)
        for key in ours:
            cache._delete(key)
    return len(ours)


def count(alias: str, keys: Keyspace) -> int:
    """Return how many keys of the alias this process holds."""
    cache = _cache(alias)
    with cache._lock:
        return len(_owned(cache, keys))


def _cache(alias: str) -> Any:
    """Return the cache as Any: its dict and lock are not in Django's published types."""
    return caches[alias]


def _owned(cache: Any, keys: Keyspace) -> list[str]:
    return [key for key in cache._cache if keys.owns(str(key).encode(errors="surrogateescape"))]
