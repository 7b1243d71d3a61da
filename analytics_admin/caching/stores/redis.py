"""The search cache's store on the Redis server behind a cache alias, shared by all processes."""

import math
import secrets
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from analytics_admin.caching.entries import MAX_HEAD_BYTES, checksum
from analytics_admin.caching.epochs import new_epoch, new_record
from analytics_admin.caching.stores.base import (
    FENCE_LEASES,
    MAX_EPOCH_BYTES,
    MAX_RECORD_BYTES,
    NO_DAMAGE,
    Claim,
    Damage,
    EntryKeys,
    Reading,
    Ttl,
)
from analytics_admin.caching.stores.past import Change, PastCheck, change_record
from analytics_admin.stores.client import load_script, script_hash, translate_errors
from analytics_admin.stores.pool import ConnectionPool, pack

CLOCK_TRUSTED_SECONDS = 60.0
"""Seconds for which this process derives the store's time from its own clock."""
CLOCK_DRIFT = 0.0005
"""Share by which the store's clock may be faster than this process': NTP slews by no more."""

MAX_PACKED = 4096
"""Values of which a process remembers the command that reads them, at most."""

_TIME = pack([("TIME",)])
_PACKAGE = "analytics_admin.caching.stores"
_COMMON = load_script(_PACKAGE, "common")
_CLAIM = _COMMON + load_script(_PACKAGE, "claim_lease")
_FILL = _COMMON + load_script(_PACKAGE, "fill")
_PUT = _COMMON + load_script(_PACKAGE, "put")
_RENEW = load_script(_PACKAGE, "renew")
_RELEASE = load_script(_PACKAGE, "release")
_REMOVE = load_script(_PACKAGE, "remove")


class RedisStore:
    """The store protocol over a connection pool.

    ``probe_key`` is a key of the alias that nothing else uses; ``past`` knows the server.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        probe_key: str,
        past: PastCheck | None = None,
        max_value_bytes: int = 1024 * 1024,
    ) -> None:
        self._pool = pool
        self._past = past or PastCheck()
        self._probe_key = probe_key
        self._max_entry_bytes = max_value_bytes + MAX_HEAD_BYTES
        self._packed: dict[EntryKeys, bytes] = {}
        self._clock_offset = 0.0
        self._clock_behind = 0.0
        self._clock_trusted_until = 0.0

    @translate_errors
    def read(self, keys: EntryKeys) -> Reading:
        packed = self._packed.get(keys)
        if packed is None:
            packed = self._pack_read(keys)
        record, entry, *tags = self._read_packed(packed, 2 + len(keys.tags))
        if record is None:
            self._past.note_missing_record()
        return Reading(self._now(), record, tags, entry)

    @translate_errors
    def read_many(self, entries: Sequence[EntryKeys]) -> list[Reading]:
        if not entries:
            return []
        number, tags = (
            len(entries),
            list(dict.fromkeys(tag for keys in entries for tag in keys.tags)),
        )
        names = [keys.entry for keys in entries]
        commands = self._read_commands(entries[0].record, names, tags)
        record, *values = self._read_packed(pack(commands), len(commands))
        now, epochs = self._now(), dict(zip(tags, values[number:], strict=True))
        return [
            Reading(now, record, [epochs[tag] for tag in keys.tags], entry)
            for keys, entry in zip(entries, values[:number], strict=True)
        ]

    @translate_errors
    def claim(
        self, keys: EntryKeys, ttl: Ttl, *, lease: float, damage: Damage = NO_DAMAGE
    ) -> Claim:
        lease_ms = round(lease * 1000)
        sent_at = time.monotonic()
        state, now_ms, epochs_raw, detail, *more = self._run(
            _CLAIM,
            _script_keys(keys),
            self._new_record(),
            damage.record,
            damage.head,
            self._max_entry_bytes,
            ttl.tags_ms,
            secrets.token_urlsafe(9),
            secrets.token_urlsafe(9),
            lease_ms,
            lease_ms * FENCE_LEASES,
            *_new_tag_epochs(keys),
        )
        self._note_script_time(now_ms, sent_at=sent_at)
        now, epochs = now_ms / 1000, epochs_raw.decode()
        if state == b"held":
            holder = detail.decode()
            return Claim(
                state="held", now=now, epochs=epochs, lease=holder, seconds_left=more[0] / 1000
            )
        if state == b"fresh":
            return Claim(state="fresh", now=now, epochs=epochs, entry=detail)
        return Claim(state="granted", now=now, epochs=epochs, lease=detail.decode())

    @translate_errors
    def fill(
        self, keys: EntryKeys, claim: Claim, text: str | None, ttl: Ttl, *, computed_in: float
    ) -> bool:
        sent_at = time.monotonic()
        stored, now_ms = self._run(
            _FILL,
            _script_keys(keys),
            claim.lease,
            claim.epochs,
            ttl.fresh_ms,
            ttl.kept_ms,
            round(computed_in * 1000),
            *([] if text is None else [body := text.encode(), checksum(body)]),
        )
        self._note_script_time(now_ms, sent_at=sent_at)
        return bool(stored)

    @translate_errors
    def renew(self, keys: EntryKeys, claim: Claim, *, lease: float) -> bool:
        lease_ms = round(lease * 1000)
        return bool(
            self._run(_RENEW, (keys.lease,), claim.lease, lease_ms, lease_ms * FENCE_LEASES)
        )

    @translate_errors
    def release(self, keys: EntryKeys, claim: Claim) -> None:
        self._run(_RELEASE, (keys.lease,), claim.lease)

    @translate_errors
    def put(self, keys: EntryKeys, text: str, ttl: Ttl) -> bool:
        body = text.encode()
        for _ in range(2):  # once more if the store's clock was set forward
            latest_ms, sent_at = self._latest_ms(len(body)), time.monotonic()
            stored, now_ms = self._run(
                _PUT,
                _script_keys(keys),
                self._new_record(),
                ttl.tags_ms,
                ttl.fresh_ms,
                ttl.kept_ms,
                body,
                checksum(body),
                latest_ms,
                *_new_tag_epochs(keys),
            )
            self._note_script_time(now_ms, sent_at=sent_at)
            if stored:
                self._past.note_write(keys.entry, now_ms, sent_at=sent_at)
                return True
        return False

    @translate_errors
    def remove(self, keys: EntryKeys) -> bool:
        removed = self._run(_REMOVE, (keys.entry, keys.lease))
        self._past.note_write()
        return bool(removed)

    @translate_errors
    def clear_tags(self, tag_keys: Sequence[str]) -> None:
        # A missing epoch matches no value; the next value stored creates a new one.
        self._pool.call("DEL", *tag_keys)
        self._past.note_write()

    @translate_errors
    def change_record(self, key: str, change: Change) -> bool:
        """Change the epoch record in one step; say whether it was changed."""
        return change_record(self._pool.call_all, key, change)

    @translate_errors
    def claim_key(self, key: str, seconds: float) -> bool:
        """Create the key, for so many seconds; say whether it was missing."""
        return self._pool.call("SET", key, 1, "NX", "PX", round(seconds * 1000)) is not None

    @translate_errors
    def check_writable(self) -> None:
        self._pool.call("SET", self._probe_key, 1, "PX", 1000)
        self._run(_RELEASE, (self._probe_key,), "")

    def close(self) -> None:
        self._pool.close()

    def _new_record(self) -> bytes:
        """Return the record to create if there is none: it names the server."""
        if not self._past.has_checked:  # opens the first connection
            self._pool.call("PING")
        self._past.note_record()
        return new_record(server=self._past.server).encode()

    def _pack_read(self, keys: EntryKeys) -> bytes:
        packed = pack(self._read_commands(keys.record, (keys.entry,), keys.tags))
        if len(self._packed) >= MAX_PACKED:
            self._packed.clear()
        self._packed[keys] = packed
        return packed

    def _read_commands(
        self, record: str, entries: Sequence[str], tags: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        """Return the commands that read these keys.

        What is too long is refused before it is read, and what is of another type counts as
        missing.
        """
        return [
            ("GETRANGE", record, 0, MAX_RECORD_BYTES),
            *(("GETRANGE", entry, 0, self._max_entry_bytes) for entry in entries),
            *(("GETRANGE", tag, 0, MAX_EPOCH_BYTES) for tag in tags),
        ]

    def _read_packed(self, packed: bytes, number: int) -> list[Any]:
        """Return the replies in one round trip, which renews the clock if it is due."""
        sent_at = time.monotonic()
        if sent_at < self._clock_trusted_until:
            replies = self._pool.call_packed(packed, number)
            limit = self._max_entry_bytes
            for reply in replies:
                if type(reply) is not bytes or not 0 < len(reply) <= limit:
                    return [self._accept(each) for each in replies]
            return replies
        *replies, clock = self._pool.call_packed(packed + _TIME, number + 1)
        if isinstance(clock, ResponseError):
            raise clock
        self._set_clock(int(clock[0]) + int(clock[1]) / 1_000_000, sent_at=sent_at)
        return [self._accept(reply) for reply in replies]

    def _accept(self, reply: Any) -> bytes | None:
        if isinstance(reply, bytes):
            return reply if 0 < len(reply) <= self._max_entry_bytes else None
        if isinstance(reply, ResponseError) and not str(reply).startswith("WRONGTYPE"):
            raise reply
        return None

    def _now(self) -> float:
        """Return the store's time, or a little more: it is never behind.

        So nothing is served beyond its bound, however late the store's answer or fast its clock.
        """
        return time.monotonic() * (1 + CLOCK_DRIFT) + self._clock_offset

    def _latest_ms(self, size: int) -> int:
        """Return the store's time at which a request sent now has been given up; 0: unknown."""
        if time.monotonic() > self._clock_trusted_until:
            sent_at = time.monotonic()
            seconds, micros = self._pool.call("TIME")
            self._set_clock(int(seconds) + int(micros) / 1_000_000, sent_at=sent_at)
        now = time.monotonic() * (1 - CLOCK_DRIFT) + self._clock_behind
        return math.ceil((now + self._pool.gives_up_after(size)) * 1000)

    def _note_script_time(self, now_ms: int, *, sent_at: float) -> None:
        """Set the clock by a script's answer, which leaves out the part of a millisecond."""
        self._set_clock((now_ms + 1) / 1000, sent_at=sent_at)

    def _set_clock(self, now: float, *, sent_at: float) -> None:
        # From the time of the request, not of the answer, which may be late.
        self._clock_offset = now - sent_at * (1 + CLOCK_DRIFT)
        # The store's clock, less what its answer may have taken: it is never ahead.
        self._clock_behind = now - 0.001 - time.monotonic() * (1 - CLOCK_DRIFT)
        self._clock_trusted_until = sent_at + CLOCK_TRUSTED_SECONDS

    def _run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script by its hash; send its text to a server that does not have it."""
        try:
            return self._pool.call("EVALSHA", script_hash(script), len(keys), *keys, *arguments)
        except NoScriptError:  # refused before it ran, so nothing is done twice
            return self._pool.call("EVAL", script, len(keys), *keys, *arguments)


def _script_keys(keys: EntryKeys) -> tuple[str, ...]:
    return (keys.record, keys.entry, keys.lease, *keys.tags)


def _new_tag_epochs(keys: EntryKeys) -> list[str]:
    return [new_epoch() for _ in keys.tags]
