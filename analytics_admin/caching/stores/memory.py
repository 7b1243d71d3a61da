"""The search cache in one process' memory, for a LocMemCache alias: first tries, a site's tests.

It holds what the Redis store holds, under the same keys; a lock stands in for the scripts. Tags'
epochs never expire here: the cache drops what it has no room for. The functions below the store
clear and inspect a whole alias. Other aliases may live in the same memory.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.cache import caches

from analytics_admin.caching.entries import (
    HEAD_BYTES,
    MAX_HEAD_BYTES,
    decode_entry,
    encode_entry,
    head_of,
    is_needed,
    is_tag_epoch,
    join_epochs,
    softly_cleared,
    tag_epoch_of,
)
from analytics_admin.caching.epochs import (
    RECORD_NAME,
    EpochRecord,
    decode_record,
    new_epoch,
    new_record,
)
from analytics_admin.caching.keyspace import Keyspace
from analytics_admin.caching.stores.base import (
    FENCE_LEASES,
    NO_DAMAGE,
    Claim,
    Damage,
    EntryKeys,
    Reading,
    Ttl,
)

_lock = threading.RLock()
"""One for the one memory that all objects of the alias share."""


def after_fork() -> None:
    """Replace the lock in a forked child."""
    global _lock  # noqa: PLW0603  one lock per process
    _lock = threading.RLock()


class MemoryStore:
    """The store protocol over a LocMemCache. EntryKeys are names before ``make_key`` here."""

    def __init__(self, cache: Any, *, max_value_bytes: int = 1024 * 1024) -> None:
        self._cache = cache
        self._max_entry_bytes = max_value_bytes + MAX_HEAD_BYTES

    def read(self, keys: EntryKeys) -> Reading:
        return self.read_many([keys])[0]

    def read_many(self, entries: Sequence[EntryKeys]) -> list[Reading]:
        with _lock:
            now, get = time.time(), self._get
            return [
                Reading(now, get(keys.record), [get(tag) for tag in keys.tags], get(keys.entry))
                for keys in entries
            ]

    def claim(
        self, keys: EntryKeys, ttl: Ttl, *, lease: float, damage: Damage = NO_DAMAGE
    ) -> Claim:
        with _lock:
            now = time.time()
            record, tag_epochs = self._ensure_epochs(keys)
            epochs = join_epochs(record.current, tag_epochs)
            raw = self._get(keys.entry)
            entry = decode_entry(raw)
            is_damaged = bool(damage.head) and head_of(raw) == damage.head
            if (
                entry
                and not is_damaged
                and entry.epochs in _accepted(record, tag_epochs)
                and entry.fresh_until > now
            ):
                return Claim(state="fresh", now=now, epochs=epochs, entry=raw)
            fence = secrets.token_urlsafe(9)
            if held := _decode_lease(self._get(keys.lease)):
                held_fence, holder, deadline, held_epochs = held
                if held_epochs == epochs:
                    if 0 < (left := deadline - now) <= lease:
                        return Claim(
                            state="held",
                            now=now,
                            epochs=epochs,
                            lease=f"{held_fence} {holder}",
                            seconds_left=left,
                        )
                    fence = held_fence
            taken = f"{fence} {secrets.token_urlsafe(9)}"
            self._set_lease(keys, taken, now + lease, epochs, lease)
            return Claim(state="granted", now=now, epochs=epochs, lease=taken)

    def fill(
        self, keys: EntryKeys, claim: Claim, text: str | None, ttl: Ttl, *, computed_in: float
    ) -> bool:
        with _lock:
            held = _decode_lease(self._get(keys.lease)) or ("", "", 0.0, "")
            record = decode_record(self._get(keys.record))
            tag_epochs = tuple(tag_epoch_of(self._get(tag)) for tag in keys.tags)
            holds = (
                record is not None
                and claim.epochs in _accepted(record, tag_epochs)
                and held[0] == claim.lease.partition(" ")[0]
            )
            if holds or " ".join(held[:2]) == claim.lease:
                self._cache.delete(keys.lease)
            if holds and text is not None:
                self._store(keys, claim.epochs, text, ttl, computed_in)
            return holds

    def renew(self, keys: EntryKeys, claim: Claim, *, lease: float) -> bool:
        with _lock:
            held = _decode_lease(self._get(keys.lease))
            if held is None or " ".join(held[:2]) != claim.lease:
                return False
            self._set_lease(keys, claim.lease, time.time() + lease, held[3], lease)
            return True

    def release(self, keys: EntryKeys, claim: Claim) -> None:
        with _lock:
            held = _decode_lease(self._get(keys.lease))
            if held is not None and " ".join(held[:2]) == claim.lease:
                self._cache.delete(keys.lease)

    def put(self, keys: EntryKeys, text: str, ttl: Ttl) -> bool:
        with _lock:
            record, tag_epochs = self._ensure_epochs(keys)
            self._cache.delete(keys.lease)
            self._store(keys, join_epochs(record.current, tag_epochs), text, ttl, 0.0)
            return True

    def remove(self, keys: EntryKeys) -> bool:
        with _lock:
            self._cache.delete(keys.lease)
            return bool(self._cache.delete(keys.entry))

    def clear_tags(self, tag_keys: Sequence[str]) -> None:
        with _lock:
            self._cache.delete_many(tag_keys)

    def check_writable(self) -> None:
        """Memory is always writable."""

    def close(self) -> None:
        """Memory has nothing to close."""

    def _get(self, name: str) -> bytes | None:
        value = self._cache.get(name)
        is_ours = isinstance(value, bytes) and len(value) <= self._max_entry_bytes
        return value if is_ours else None

    def _set(self, name: str, text: str, seconds: float | None) -> None:
        self._cache.set(name, text.encode(), timeout=seconds)

    def _set_lease(
        self, keys: EntryKeys, taken: str, deadline: float, epochs: str, lease: float
    ) -> None:
        self._set(keys.lease, f"{taken} {deadline!r} {epochs}", lease * FENCE_LEASES)

    def _ensure_epochs(self, keys: EntryKeys) -> tuple[EpochRecord, tuple[str, ...]]:
        record = decode_record(self._get(keys.record))
        if record is None:
            record = new_record()
            self._set(keys.record, record.encode().decode(), None)
        for tag in keys.tags:
            if not is_tag_epoch(self._get(tag), record.era):
                self._set(tag, new_epoch(record.era), None)
        return record, tuple(tag_epoch_of(self._get(tag)) for tag in keys.tags)

    def _store(self, keys: EntryKeys, epochs: str, text: str, ttl: Ttl, computed_in: float) -> None:
        now_ms = round(time.time() * 1000)
        entry = encode_entry(
            text,
            epochs=epochs,
            stored_ms=now_ms,
            fresh_until_ms=now_ms + ttl.fresh_ms if ttl.fresh_ms else 0,
            computed_ms=round(computed_in * 1000),
        )
        timeout = ttl.kept_ms / 1000 if ttl.kept_ms else None
        self._cache.set(keys.entry, entry, timeout=timeout)


def _decode_lease(raw: bytes | None) -> tuple[str, str, float, str] | None:
    """Return a lease's fence, holder, deadline and epochs; None for a missing or damaged one."""
    try:
        fence, holder, deadline, epochs = (raw or b"").decode().split(" ")
        return fence, holder, float(deadline), epochs
    except ValueError:  # includes bytes that are not UTF-8
        return None


def _accepted(record: EpochRecord, tag_epochs: tuple[str, ...]) -> set[str]:
    return {join_epochs(epoch, tag_epochs) for epoch in record.accepted}


def clear(alias: str, keyspace: Keyspace) -> int:
    """Set a new epoch and remove the alias' keys; return how many there were."""
    cache = _cache(alias)
    with _lock:
        cache.set(RECORD_NAME, new_record().encode(), timeout=None)
        with cache._lock:
            owned = _owned(cache, keyspace)
            for key in owned:
                cache._delete(key)
    return len(owned)


def count(alias: str, keyspace: Keyspace) -> int:
    """Return how many keys of the alias this process holds."""
    cache = _cache(alias)
    with cache._lock:
        return len(_owned(cache, keyspace))


def list_tags(alias: str, keyspace: Keyspace) -> list[str | None]:
    """Return the tags in use; None for each whose name is hashed."""
    cache = _cache(alias)
    with cache._lock:
        owned = [key.encode() for key in _owned(cache, keyspace)]
    return [
        keyspace.tag_of(key)
        for key in owned
        if keyspace.kind_of(key) == "tag" and not keyspace.is_of_function(key)
    ]


def read_record(alias: str) -> tuple[EpochRecord | None, float]:
    """Return the epoch record (None for a missing or damaged one) and the Unix time."""
    raw = caches[alias].get(RECORD_NAME)
    return decode_record(raw if isinstance(raw, bytes) else None), time.time()


def change_record(
    alias: str, change: Callable[[EpochRecord, float], EpochRecord], *, create: bool
) -> bool:
    """Replace the record; say whether there was one. ``create``: make one first if not."""
    with _lock:
        record, now = read_record(alias)
        if record is None:
            if not create:
                return False
            record = new_record()
        caches[alias].set(RECORD_NAME, change(record, now).encode(), timeout=None)
    return True


def count_names(alias: str, names: Sequence[str]) -> int:
    """Return how many of the names exist."""
    return len(caches[alias].get_many(names))


def delete_names(alias: str, names: Sequence[str]) -> int:
    """Remove the names; return how many existed."""
    with _lock:
        return sum(map(caches[alias].delete, names))


def clear_names_softly(alias: str, names: Sequence[str], *, seconds: float) -> int:
    """Give each of these tags a new epoch, beside the one before; return how many existed."""
    cache, changed = caches[alias], 0
    with _lock:
        record, now = read_record(alias)
        for name in names:
            if current := tag_epoch_of(cache.get(name)):
                new = new_epoch(record.era if record is not None else "")
                until = round((now + seconds) * 1000)
                cache.set(name, f"{new} {current}:{until}".encode(), timeout=None)
                changed += 1
    return changed


def restore_names(alias: str, names: Sequence[str], *, only_count: bool = False) -> int:
    """Take back the last soft clear of these tags; return of how many there was one."""
    cache, restored = caches[alias], 0
    with _lock:
        for name in names:
            before = softly_cleared(cache.get(name))
            if before is not None and before[1] > time.time():
                restored += 1
                if not only_count:
                    cache.set(name, before[0].encode(), timeout=None)
    return restored


def find_leftovers(alias: str, keyspace: Keyspace, *, remove: bool) -> tuple[int, int]:
    """Return how many values were examined, and how many of them count no more.

    The latter are removed if asked to.
    """
    cache = _cache(alias)
    start = len(cache.make_key(""))
    with _lock:
        record, now = read_record(alias)
        with cache._lock:
            owned = _owned(cache, keyspace)
        names = [key[start:] for key in owned if keyspace.kind_of(key.encode()) == "value"]
        heads = {name: _head(cache.get(name)) for name in names}
        outdated = [
            name for name, head in heads.items() if not is_needed("value", head, record, now=now)
        ]
        if remove:
            delete_names(alias, outdated)
    return len(names), len(outdated)


def _head(value: Any) -> bytes:
    return value[:HEAD_BYTES] if isinstance(value, bytes) else b""


def _cache(alias: str) -> Any:
    """Return the cache as Any: Django's published types lack its dict and lock."""
    return caches[alias]


def _owned(cache: Any, keyspace: Keyspace) -> list[str]:
    return [key for key in cache._cache if keyspace.owns(str(key).encode(errors="surrogateescape"))]
