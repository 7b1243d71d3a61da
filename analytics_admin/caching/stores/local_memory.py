"""Clear a search cache that is Django's in-process cache: a site's tests, first tries.

Knows nothing of Redis. Other aliases may live in the same memory, so keys are told apart as ever.
Each act holds the store's lock, so nothing is stored or cleared in its middle.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.cache import caches

from analytics_admin.caching.entries import RECORD_NAME, EpochRecord, decode_record, new_record
from analytics_admin.caching.keyspace import Keyspace
from analytics_admin.caching.leftovers import HEAD_BYTES, is_needed
from analytics_admin.caching.stores.memory import exclusively


def clear(alias: str, keys: Keyspace) -> int:
    """Renew the token and remove the alias' keys; return how many they were."""
    cache = _cache(alias)
    with exclusively():
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


def tags(alias: str, keys: Keyspace) -> list[str | None]:
    """Return the tags in use; None for each whose name is hashed."""
    cache = _cache(alias)
    with cache._lock:
        ours = [key.encode() for key in _owned(cache, keys)]
    return [keys.tag_of(key) for key in ours if keys.kind_of(key) == "tag"]


def read_record(alias: str) -> tuple[EpochRecord | None, float]:
    """Return the token record, None for a missing or damaged one, and the time."""
    raw = caches[alias].get(RECORD_NAME)
    return decode_record(raw if isinstance(raw, bytes) else None), time.time()


def change_record(
    alias: str, change: Callable[[EpochRecord, float], EpochRecord], *, draws: bool
) -> bool:
    """Replace the record; say whether there was one, or one was drawn first."""
    with exclusively():
        record, now = read_record(alias)
        if record is None:
            if not draws:
                return False
            record = new_record()
        caches[alias].set(RECORD_NAME, change(record, now).encode(), timeout=None)
    return True


def count_names(alias: str, names: Sequence[str]) -> int:
    """Return how many of the names there are."""
    return len(caches[alias].get_many(names))


def delete_names(alias: str, names: Sequence[str]) -> int:
    """Remove what lies under the names; return how many there were."""
    with exclusively():
        return sum(map(caches[alias].delete, names))


def remove_leftovers(alias: str, keys: Keyspace) -> tuple[int, int]:
    """Remove the values that count no more; return how many were looked at, and removed."""
    with exclusively():
        seen, outdated = _leftovers(alias, keys)
        return seen, delete_names(alias, outdated)


def count_leftovers(alias: str, keys: Keyspace) -> tuple[int, int]:
    """Return how many values were looked at, and how many of them count no more."""
    with exclusively():
        seen, outdated = _leftovers(alias, keys)
    return seen, len(outdated)


def _leftovers(alias: str, keys: Keyspace) -> tuple[int, list[str]]:
    """Return how many values there are, and the names of those that count no more."""
    cache = _cache(alias)
    record, now = read_record(alias)
    start = len(cache.make_key(""))
    with cache._lock:
        values = [key for key in _owned(cache, keys) if keys.kind_of(key.encode()) == "value"]
    heads = {key[start:]: _head(cache.get(key[start:])) for key in values}
    outdated = [
        name for name, head in heads.items() if not is_needed("value", head, record, now=now)
    ]
    return len(values), outdated


def _head(value: Any) -> bytes:
    return value[:HEAD_BYTES] if isinstance(value, bytes) else b""


def _cache(alias: str) -> Any:
    """Return the cache as Any: its dict and lock are not in Django's published types."""
    return caches[alias]


def _owned(cache: Any, keys: Keyspace) -> list[str]:
    return [key for key in cache._cache if keys.owns(str(key).encode(errors="surrogateescape"))]
