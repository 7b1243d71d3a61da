"""What lies in the search cache's store: the token record, and values under their token.

A cached value counts only while its token is accepted, so a new token empties the cache at once,
also for readers in flight. Knows nothing of how keys are removed.
"""

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

from django.core.cache import caches
from redis.exceptions import ResponseError

RECORD_NAME = "analytics_admin:token"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """The tokens that values of the cache may carry. Tokens are random, never counters: a store
    that lost its data can't come to accept old values again."""

    accepted: frozenset[str]
    """A value under one of these is a hit."""
    servable_until: Mapping[str, float] = field(default_factory=dict)
    """A value under one of these may be served as stale until then (Unix time of the store)."""

    def encode(self) -> bytes:
        record = {
            "accepted": sorted(self.accepted),
            "servable_until": dict(self.servable_until),
        }
        return json.dumps(record, separators=(",", ":")).encode()

    def replaces(self, earlier: "EpochRecord") -> bool:
        """Say whether no value that counted under the earlier record counts under this one."""
        return self.accepted.isdisjoint(earlier.accepted)

    @property
    def current(self) -> str:
        """The token that new values carry."""
        return min(self.accepted)

    def soft_cleared(self, *, now: float, bound: float) -> "EpochRecord":
        """Return the record after a soft clear at ``now`` (seconds of the store's time).

        What was accepted may be served as stale for ``bound`` seconds more.
        """
        until = now + bound
        # Nothing cleared earlier may outlast what is cleared now: undo takes back the last alone.
        before = math.nextafter(until, 0)
        earlier = {t: min(u, before) for t, u in self.servable_until.items() if u > now}
        cleared = dict.fromkeys(self.accepted, until)
        return EpochRecord(accepted=new_record().accepted, servable_until={**earlier, **cleared})

    def undone(self, *, now: float) -> "EpochRecord | None":
        """Return the record with the last soft clear taken back; None if there is none to undo.

        What was stored since is accepted too. Earlier soft clears stay.
        """
        left = {token: until for token, until in self.servable_until.items() if until > now}
        if not left:
            return None
        last = max(left.values())
        back = {token for token, until in left.items() if until == last}
        kept = {token: until for token, until in left.items() if token not in back}
        return EpochRecord(accepted=self.accepted | back, servable_until=kept)


class Entry(NamedTuple):
    """A value as it lies in the store: a line of facts about it, then the value itself.

    A plain tuple: one is made on every hit.
    """

    stamp: str
    """The token under which it was stored, and those of its tags."""
    stored_at: float
    """Seconds of the store's time."""
    fresh_until: float
    """Seconds of the store's time; infinite for a value that never expires."""
    computed_in: float
    """Seconds that its computation took."""
    text: str
    """The encoded value."""


def record_key(alias: str) -> str:
    """Return the full key of the record: one for each KEY_PREFIX and VERSION of the alias."""
    return caches[alias].make_key(RECORD_NAME)


def new_record() -> EpochRecord:
    """Return a record that accepts one token which nothing carries yet."""
    return EpochRecord(accepted=frozenset({secrets.token_urlsafe(12)}))


def entry_head(*, stamp: str, stored_ms: int, fresh_until_ms: int, computed_ms: int) -> str:
    """Return the line in front of a value; ``fresh_until_ms`` 0: it never expires."""
    return f"{stamp} {stored_ms} {fresh_until_ms} {computed_ms}\n"


def decode_entry(raw: bytes | None) -> Entry | None:
    """Return the entry, or None for a missing or damaged one."""
    if raw is None:
        return None
    try:
        head, _, text = raw.decode().partition("\n")
        stamp, stored, fresh, computed = head.split(" ")
        return Entry(
            stamp,
            int(stored) / 1000,
            int(fresh) / 1000 if fresh != "0" else math.inf,
            int(computed) / 1000,
            text,
        )
    except ValueError:  # covers bytes that are no UTF-8
        return None


def join_epochs(token: str, tag_tokens: tuple[str, ...]) -> str:
    """Return what an entry stored under these tokens carries."""
    return ",".join((token, *tag_tokens))


@lru_cache(maxsize=16)  # it is read with every value, and changes with a clear
def decode_record(raw: bytes | None) -> EpochRecord | None:
    """Return the record, or None for a missing or damaged one."""
    try:
        record = json.loads(raw or b"null")
    except ValueError:  # covers bytes that are no UTF-8
        return None
    if not isinstance(record, dict):
        return None
    accepted, servable = record.get("accepted"), record.get("servable_until")
    if not _is_token_list(accepted) or not _is_token_times(servable):
        return None
    return EpochRecord(accepted=frozenset(accepted), servable_until=servable)


def read_record(client: Any, key: str) -> EpochRecord | None:
    """Return the record in the store, or None for a missing or damaged one."""
    try:
        return decode_record(client.get(key))
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return None
        raise


def ensure_record(client: Any, key: str) -> EpochRecord:
    """Return the record in the store, having set a new one if it was missing or damaged.

    Of several that draw at once, all return the one that stays.
    """
    if (record := read_record(client, key)) is not None:
        return record
    drawn = new_record()
    client.set(key, drawn.encode(), nx=True)
    if (record := read_record(client, key)) is not None:
        return record
    # Damaged, so NX kept it. Of two that replace it at once the earlier may return a token that
    # is not accepted: its values are then absent, never wrong.
    replace_record(client, key, drawn)
    return drawn


def replace_record(client: Any, key: str, record: EpochRecord) -> None:
    """Set the record, whatever was there; ``client`` may be a pipeline."""
    client.set(key, record.encode())


def _is_token_list(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(token, str) for token in value)
    )


def _is_token_times(value: object) -> TypeGuard[dict[str, float]]:
    return isinstance(value, dict) and all(
        isinstance(until, int | float) and not isinstance(until, bool) for until in value.values()
    )
