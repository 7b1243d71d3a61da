"""The protocol of the search cache's stores: a few atomic calls, each one round trip.

A store decides only what must be decided at one instant: who computes, and what may be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from analytics_admin.stores.client import StoreFull, StoreUnavailable

__all__ = [
    "NO_DAMAGE",
    "Claim",
    "Damage",
    "EntryKeys",
    "Reading",
    "Store",
    "StoreFull",
    "StoreUnavailable",
    "Ttl",
]

MAX_RECORD_BYTES = 65_536
MAX_EPOCH_BYTES = 64
MAX_LEASE_BYTES = 2048
"""What is longer is damaged, and refused before it is read."""
FENCE_LEASES = 10
"""A late computation may still be stored for this many times the lease."""


class EntryKeys(NamedTuple):
    """The full keys that concern one value."""

    record: str
    entry: str
    lease: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ttl:
    """How long a value is fresh, and how long it is kept: milliseconds, 0 for ever."""

    fresh_ms: int
    kept_ms: int

    @property
    def tags_ms(self) -> int:
        """How long the epochs of its tags are kept at least: an hour longer than the value."""
        return self.kept_ms and self.kept_ms + 3_600_000


class Damage(NamedTuple):
    """What a caller has read and could not decode: a claim replaces it."""

    record: bytes = b""
    """The whole epoch record."""
    head: bytes = b""
    """The first line of the value."""


NO_DAMAGE = Damage()


class Reading(NamedTuple):
    """The raw content of a value's keys, and the store's Unix time."""

    now: float
    record: bytes | None
    tags: Sequence[bytes | None]
    entry: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a caller that found no fresh value and offers to compute it."""

    state: Literal["granted", "held", "fresh"]
    now: float
    epochs: str
    """The epochs that a value stored now would carry, joined by commas."""
    lease: str = ""
    """Whose lease it is: "fence holder". Sent back with the value when it was granted."""
    seconds_left: float = 0.0
    """Seconds until another caller may take over; only when held."""
    entry: bytes | None = None
    """A value that was stored in the meantime; only when fresh."""


class Store(Protocol):
    """Every method raises StoreUnavailable when the store does not do what it was asked."""

    def read(self, keys: EntryKeys) -> Reading:
        """Return what is stored under the keys."""

    def read_many(self, entries: Sequence[EntryKeys]) -> list[Reading]:
        """Return what is stored for each of the entries, which share their record."""

    def claim(
        self, keys: EntryKeys, ttl: Ttl, *, lease: float, damage: Damage = NO_DAMAGE
    ) -> Claim:
        """Take the lease of a value for ``lease`` seconds, unless a fresh value was stored.

        A lease under other epochs is taken over at once, one under the same epochs when its time
        is up, or is further ahead than one lease: then the store's clock was set back. Creates the
        record if it is missing or damaged, and the tags' missing epochs. A value that begins with
        ``damage.head`` counts as missing.
        """

    def fill(
        self, keys: EntryKeys, claim: Claim, text: str | None, ttl: Ttl, *, computed_in: float
    ) -> bool:
        """Store a computed value and return the lease; say whether the claim still held.

        It holds while its epochs are accepted and nobody has set, deleted or filled the value
        since. Without a text nothing is stored.
        """

    def renew(self, keys: EntryKeys, claim: Claim, *, lease: float) -> bool:
        """Hold the lease for ``lease`` more seconds from now; say whether it is still the claim's.

        It is not if another caller took it over, or the value was set or deleted.
        """

    def release(self, keys: EntryKeys, claim: Claim) -> None:
        """Return the lease if it is still the claim's own."""

    def put(self, keys: EntryKeys, text: str, ttl: Ttl) -> bool:
        """Store a value under the current epochs, and void its lease.

        False: the request came so late that its caller may have gone on without it.
        """

    def remove(self, keys: EntryKeys) -> bool:
        """Remove the value and void its lease; say whether there was one."""

    def clear_tags(self, tag_keys: Sequence[str]) -> None:
        """Invalidate every value with one of these tags."""

    def check_writable(self) -> None:
        """Raise StoreUnavailable unless the store accepts writes."""

    def close(self) -> None:
        """Close the connections."""
