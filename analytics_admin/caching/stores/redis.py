"""The search cache's store over the Redis server behind a cache alias, shared by the fleet."""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from analytics_admin.caching.entries import new_record
from analytics_admin.caching.stores.base import (
    FENCE_LEASES,
    Claim,
    EntryKeys,
    Reading,
    StoreFull,
    StoreUnavailable,
    Ttl,
)
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import explain_error, load_script
from analytics_admin.stores.pool import ConnectionPool

P = ParamSpec("P")
R = TypeVar("R")

CLOCK_TRUSTED_SECONDS = 60.0
"""Seconds for which this process reckons the store's time by its own clock."""

_PACKAGE = "analytics_admin.caching.stores"
_COMMON = load_script(_PACKAGE, "common")
_CLAIM = _COMMON + load_script(_PACKAGE, "claim")
_FILL = _COMMON + load_script(_PACKAGE, "fill")
_PUT = _COMMON + load_script(_PACKAGE, "put")
_RELEASE = load_script(_PACKAGE, "release")
_REMOVE = load_script(_PACKAGE, "remove")


def _translate_store_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise StoreUnavailable for whatever the client raises, in words that hold no secret."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except OutOfMemoryError as error:
            raise StoreFull(explain_error(error)) from None
        except (RedisError, OSError) as error:
            kind = StoreFull if "out of memory" in explain_error(error) else StoreUnavailable
            raise kind(explain_error(error)) from None
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise StoreUnavailable(Message(_("the store's answer cannot be read"))) from error

    return wrapper


class RedisStore:
    """The protocol over a wire; ``probe`` is a key of the alias that nothing else uses."""

    def __init__(self, wire: ConnectionPool, *, probe: str) -> None:
        self._wire = wire
        self._probe = probe
        self._ahead = 0.0  # the store's time less this process' monotonic clock
        self._reckoned_until = 0.0

    @_translate_store_errors
    def read(self, place: EntryKeys) -> Reading:
        found = self._read((place.record, place.entry, *place.tags))
        return Reading(time.monotonic() + self._ahead, found[0], found[2:], found[1])

    @_translate_store_errors
    def read_many(self, places: Sequence[EntryKeys]) -> list[Reading]:
        if not places:
            return []
        first = places[0]
        found = self._read((first.record, *first.tags, *(place.entry for place in places)))
        now, tags = time.monotonic() + self._ahead, found[1 : 1 + len(first.tags)]
        return [Reading(now, found[0], tags, entry) for entry in found[1 + len(tags) :]]

    @_translate_store_errors
    def claim(self, place: EntryKeys, life: Ttl, *, lease: float, damaged: bytes = b"") -> Claim:
        lease_ms = round(lease * 1000)
        sent_at = time.monotonic()
        state, now, stamp, more = self._run(
            _CLAIM,
            _keys(place),
            new_record().encode(),
            damaged,
            life.tags_ms,
            secrets.token_urlsafe(9),
            lease_ms,
            lease_ms * FENCE_LEASES,
            *_tag_tokens(place),
        )
        self._set_clock(now, sent_at=sent_at)
        at, under = now / 1000, stamp.decode()
        if state == b"held":
            return Claim(state="held", now=at, stamp=under, left=more / 1000)
        if state == b"fresh":
            return Claim(state="fresh", now=at, stamp=under, entry=more)
        return Claim(state="granted", now=at, stamp=under, lease=more.decode())

    @_translate_store_errors
    def fill(
        self, place: EntryKeys, claim: Claim, text: str | None, life: Ttl, *, computed_in: float
    ) -> bool:
        sent_at = time.monotonic()
        stored, now = self._run(
            _FILL,
            _keys(place),
            claim.lease,
            claim.stamp,
            life.fresh_ms,
            life.kept_ms,
            round(computed_in * 1000),
            *([] if text is None else [text]),
        )
        self._set_clock(now, sent_at=sent_at)
        return bool(stored)

    @_translate_store_errors
    def release(self, place: EntryKeys, claim: Claim) -> None:
        self._run(_RELEASE, (place.lease,), claim.lease)

    @_translate_store_errors
    def put(self, place: EntryKeys, text: str, life: Ttl) -> None:
        sent_at = time.monotonic()
        _, now = self._run(
            _PUT,
            _keys(place),
            new_record().encode(),
            life.tags_ms,
            life.fresh_ms,
            life.kept_ms,
            text,
            *_tag_tokens(place),
        )
        self._set_clock(now, sent_at=sent_at)

    @_translate_store_errors
    def remove(self, place: EntryKeys) -> bool:
        return bool(self._run(_REMOVE, (place.entry, place.lease)))

    @_translate_store_errors
    def renew_tags(self, names: Sequence[str]) -> None:
        # An absent token equals nothing, and the next value draws a new one.
        self._wire.call("DEL", *names)

    @_translate_store_errors
    def check_writable(self) -> None:
        self._wire.call("SET", self._probe, 1, "PX", 1000)
        self._run(_RELEASE, (self._probe,), "")

    def close(self) -> None:
        self._wire.close()

    def _read(self, names: Sequence[str]) -> list[Any]:
        """Return what lies under the names, in one round trip; now and then with the time."""
        if time.monotonic() < self._reckoned_until:
            found: list[Any] = self._wire.call("MGET", *names)
            return found
        sent_at = time.monotonic()
        found, (seconds, micros) = self._wire.call_all([("MGET", *names), ("TIME",)])
        self._set_clock(int(seconds) * 1000 + int(micros) / 1000, sent_at=sent_at)
        return found

    def _set_clock(self, now_ms: float, *, sent_at: float) -> None:
        # By when it was asked, not answered: however late the answer was, the reckoned time is not
        # behind the store's, and nothing is served beyond its bound.
        self._ahead = now_ms / 1000 - sent_at
        self._reckoned_until = sent_at + CLOCK_TRUSTED_SECONDS

    def _run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script by its hash; a server that has forgotten it is told it again."""
        try:
            return self._wire.call("EVALSHA", _sha(script), len(keys), *keys, *arguments)
        except NoScriptError:  # refused before it ran, so asking again repeats nothing
            return self._wire.call("EVAL", script, len(keys), *keys, *arguments)


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _keys(place: EntryKeys) -> tuple[str, ...]:
    return (place.record, place.entry, place.lease, *place.tags)


def _tag_tokens(place: EntryKeys) -> list[str]:
    return [secrets.token_urlsafe(9) for _ in place.tags]
