"""What the search cache asks of its store: a few atomic steps, each one round trip.

A store decides nothing but what must be decided at one instant: who computes, and what may be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from analytics_admin.stores.client import StoreUnavailable

__all__ = ["Claim", "EntryKeys", "Reading", "Store", "StoreFull", "StoreUnavailable", "Ttl"]

FENCE_LEASES = 10
"""Times the lease for which a late computation may still be stored."""


class StoreFull(StoreUnavailable):
    """The store answers, but has no memory for what was to be written."""


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
        """How long its tags' tokens must be kept at least: longer than the value."""
        return self.kept_ms and self.kept_ms + 3_600_000


class Reading(NamedTuple):
    """What lay there, as it lay there, and the store's time in seconds."""

    now: float
    record: bytes | None
    tags: Sequence[bytes | None]
    entry: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a caller that found no fresh value and offers to compute it."""

    state: Literal["granted", "held", "fresh"]
    now: float
    stamp: str
    """What a value stored now would carry."""
    lease: str = ""
    """To be shown with the value; only when granted."""
    left: float = 0.0
    """Seconds until another may take over; only when held."""
    entry: bytes | None = None
    """A value that has come meanwhile; only when fresh."""


class Store(Protocol):
    """Every method raises StoreUnavailable when the store does not do what it was asked."""

    def read(self, place: EntryKeys) -> Reading:
        """Return what lies there."""

    def read_many(self, places: Sequence[EntryKeys]) -> list[Reading]:
        """Return what lies at each of the places, which have their record and tags in common."""

    def claim(self, place: EntryKeys, life: Ttl, *, lease: float, damaged: bytes = b"") -> Claim:
        """Take the lease of a value for ``lease`` seconds, unless a fresh value has come.

        One under other tokens is taken over at once, one of the same tokens when its time is up.
        Draws the record if it is missing or equals ``damaged``, and the tags' missing tokens.
        """

    def fill(
        self, place: EntryKeys, claim: Claim, text: str | None, life: Ttl, *, computed_in: float
    ) -> bool:
        """Store a computed value and give back the lease; say whether what was claimed still held.

        It does while the tokens are accepted and nobody has set, deleted or filled meanwhile.
        Without a text nothing is stored.
        """

    def release(self, place: EntryKeys, claim: Claim) -> None:
        """Give back the lease, if it is still the claim's own."""

    def put(self, place: EntryKeys, text: str, life: Ttl) -> None:
        """Store a value under the present tokens, and void its lease."""

    def remove(self, place: EntryKeys) -> bool:
        """Remove the value and void its lease; say whether there was one."""

    def renew_tags(self, names: Sequence[str]) -> None:
        """Have every value with one of these tags count no more."""

    def check_writable(self) -> None:
        """Make sure that the store takes writes."""

    def close(self) -> None:
        """Let the connections go."""
