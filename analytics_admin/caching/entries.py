"""What lies in the search cache's store besides plain values: the token record.

A cached value counts only while its token is accepted, so a new token empties the cache at once,
also for readers in flight. Knows nothing of how keys are removed.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from django.core.cache import caches
from redis.exceptions import ResponseError

RECORD_NAME = "analytics_admin:token"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
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

    def replaces(self, earlier: "TokenRecord") -> bool:
        """Say whether no value that counted under the earlier record counts under this one."""
        return self.accepted.isdisjoint(earlier.accepted)


def record_key(alias: str) -> str:
    """Return the full key of the record: one for each KEY_PREFIX and VERSION of the alias."""
    return caches[alias].make_key(RECORD_NAME)


def new_record() -> TokenRecord:
    """Return a record that accepts one token which nothing carries yet."""
    return TokenRecord(accepted=frozenset({secrets.token_urlsafe(12)}))


def decode_record(raw: bytes | None) -> TokenRecord | None:
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
    return TokenRecord(accepted=frozenset(accepted), servable_until=servable)


def read_record(client: Any, key: str) -> TokenRecord | None:
    """Return the record in the store, or None for a missing or damaged one."""
    try:
        return decode_record(client.get(key))
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return None
        raise


def draw_record(client: Any, key: str) -> TokenRecord:
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


def replace_record(client: Any, key: str, record: TokenRecord) -> None:
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
