"""The search cache's store in one process: what a LocMemCache alias gets, for first tries.

Holds what the Redis store holds, under the same keys, so clearing works alike; a lock stands in for
the scripts. Tags' tokens never expire here: the cache drops what it has no room for.
"""

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from analytics_admin.caching.entries import (
    EpochRecord,
    decode_entry,
    decode_record,
    entry_head,
    join_epochs,
    new_record,
)
from analytics_admin.caching.stores.base import FENCE_LEASES, Claim, EntryKeys, Reading, Ttl

_lock = threading.RLock()


def after_fork() -> None:
    """Begin with a lock of the child's own."""
    global _lock  # noqa: PLW0603  one lock for the one memory that every alias object shows
    _lock = threading.RLock()


def exclusively() -> threading.RLock:
    """Return the lock under which nothing else changes what lies in memory."""
    return _lock


class MemoryStore:
    """The protocol over a LocMemCache. The keys of a Place are names before ``make_key``."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def read(self, place: EntryKeys) -> Reading:
        return self.read_many([place])[0]

    def read_many(self, places: Sequence[EntryKeys]) -> list[Reading]:
        with _lock:
            now, get = time.time(), self._get
            return [
                Reading(now, get(at.record), [get(tag) for tag in at.tags], get(at.entry))
                for at in places
            ]

    def claim(self, place: EntryKeys, life: Ttl, *, lease: float, damaged: bytes = b"") -> Claim:
        with _lock:
            now = time.time()
            record, tail = self._draw(place)
            stamp = join_epochs(record.current, tail)
            raw = self._get(place.entry)
            entry = decode_entry(raw)
            if entry and entry.stamp in _stamps(record, tail) and entry.fresh_until > now:
                return Claim(state="fresh", now=now, stamp=stamp, entry=raw)
            fence = secrets.token_urlsafe(9)
            if held := self._get(place.lease):
                holder, deadline, under = held.decode().split(" ")
                if under == stamp:
                    if (left := float(deadline) - now) > 0:
                        return Claim(state="held", now=now, stamp=stamp, left=left)
                    fence = holder
            drawn = f"{fence} {now + lease!r} {stamp}"
            self._set(place.lease, drawn, lease * FENCE_LEASES)
            return Claim(state="granted", now=now, stamp=stamp, lease=drawn)

    def fill(
        self, place: EntryKeys, claim: Claim, text: str | None, life: Ttl, *, computed_in: float
    ) -> bool:
        with _lock:
            held = (self._get(place.lease) or b"").decode()
            record = decode_record(self._get(place.record))
            tags = tuple((self._get(tag) or b"").decode() for tag in place.tags)
            holds = (
                record is not None
                and claim.stamp in _stamps(record, tags)
                and held.partition(" ")[0] == claim.lease.partition(" ")[0]
            )
            if holds or held == claim.lease:
                self._cache.delete(place.lease)
            if holds and text is not None:
                self._store(place, claim.stamp, text, life, computed_in)
            return holds

    def release(self, place: EntryKeys, claim: Claim) -> None:
        with _lock:
            if self._get(place.lease) == claim.lease.encode():
                self._cache.delete(place.lease)

    def put(self, place: EntryKeys, text: str, life: Ttl) -> None:
        with _lock:
            record, tail = self._draw(place)
            self._cache.delete(place.lease)
            self._store(place, join_epochs(record.current, tail), text, life, 0.0)

    def remove(self, place: EntryKeys) -> bool:
        with _lock:
            self._cache.delete(place.lease)
            return bool(self._cache.delete(place.entry))

    def renew_tags(self, names: Sequence[str]) -> None:
        with _lock:
            self._cache.delete_many(names)

    def check_writable(self) -> None:
        """It always takes writes."""

    def close(self) -> None:
        """There is nothing to close."""

    def _get(self, name: str) -> bytes | None:
        found = self._cache.get(name)
        return found if isinstance(found, bytes) else None

    def _set(self, name: str, text: str, seconds: float | None) -> None:
        self._cache.set(name, text.encode(), timeout=seconds)

    def _draw(self, place: EntryKeys) -> tuple[EpochRecord, tuple[str, ...]]:
        record = decode_record(self._get(place.record))
        if record is None:
            record = new_record()
            self._set(place.record, record.encode().decode(), None)
        for tag in place.tags:
            self._cache.add(tag, secrets.token_urlsafe(9).encode(), timeout=None)
        return record, tuple((self._get(tag) or b"").decode() for tag in place.tags)

    def _store(
        self, place: EntryKeys, stamp: str, text: str, life: Ttl, computed_in: float
    ) -> None:
        now_ms = round(time.time() * 1000)
        head = entry_head(
            stamp=stamp,
            stored_ms=now_ms,
            fresh_until_ms=now_ms + life.fresh_ms if life.fresh_ms else 0,
            computed_ms=round(computed_in * 1000),
        )
        self._set(place.entry, head + text, life.kept_ms / 1000 if life.kept_ms else None)


def _stamps(record: EpochRecord, tags: tuple[str, ...]) -> set[str]:
    return {join_epochs(token, tags) for token in record.accepted}
