"""Whether a stored value is fresh, stale or absent. Pure: the time comes with the reading."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from analytics_admin.caching.codec import DAMAGED, decode
from analytics_admin.caching.entries import (
    Entry,
    decode_entry,
    head_of,
    is_tag_epoch,
    softly_cleared,
    tag_epoch_of,
)
from analytics_admin.caching.epochs import EpochRecord, decode_record
from analytics_admin.caching.stores.base import NO_DAMAGE, Damage, Reading


class Freshness(NamedTuple):
    """What a reading amounts to; at most one of ``fresh`` and ``stale`` is set."""

    fresh: Entry | None
    stale: Entry | None
    """May be served while another caller refreshes it, or when that fails."""
    accepted: frozenset[str]
    """The epochs that values which count carry now; empty if no such value can be stored."""
    now: float
    """Unix time of the store at the reading."""
    damage: Damage = NO_DAMAGE
    """What cannot be decoded, and is to be replaced."""


NO_EPOCHS: frozenset[str] = frozenset()


def assess_freshness(reading: Reading, stale_for: float = 0, *, decodes: bool = False) -> Freshness:
    """Assess a reading for a call that accepts values ``stale_for`` seconds past their timeout.

    A value is absent if its epoch is not accepted or its tags differ. One that was cleared softly
    is stale within its bound. ``decodes``: try whether the value itself can be decoded.
    """
    record = decode_record(reading.record)
    if record is None:
        damage = Damage(reading.record or b"", head_of(reading.entry))
        return Freshness(None, None, NO_EPOCHS, reading.now, damage)
    tail = ""
    accepted = record.accepted
    if reading.tags:
        if not all(map(is_tag_epoch, reading.tags)):
            return Freshness(None, None, NO_EPOCHS, reading.now)
        tail = "".join([f",{tag_epoch_of(epoch)}" for epoch in reading.tags])
        accepted = frozenset({epoch + tail for epoch in record.accepted})
    entry = decode_entry(reading.entry)
    if entry is None or (decodes and not can_decode(entry)):
        damage = Damage(b"", head_of(reading.entry))
        return Freshness(None, None, accepted, reading.now, damage)
    if entry.epochs in accepted and entry.fresh_until > reading.now:
        return Freshness(entry, None, accepted, reading.now)
    until = entry.fresh_until + stale_for
    if entry.epochs not in accepted:
        until = min(until, _servable_until(entry, record, reading.tags))
    if until > reading.now:
        return Freshness(None, entry, accepted, reading.now)
    return Freshness(None, None, accepted, reading.now)


def can_decode(entry: Entry) -> bool:
    """Say whether the entry's text is a value."""
    try:
        decode(entry.text)
    except DAMAGED:
        return False
    return True


def _servable_until(entry: Entry, record: EpochRecord, tags: Sequence[bytes | None]) -> float:
    """Return until when an entry that was cleared softly may be served; 0 if it was not."""
    epoch, *carried = entry.epochs.split(",")
    if len(carried) != len(tags):
        return 0.0
    until = math.inf if epoch in record.accepted else record.servable_until.get(epoch, 0.0)
    for tag_epoch, raw in zip(carried, tags, strict=True):
        if tag_epoch == tag_epoch_of(raw):
            continue
        before = softly_cleared(raw)
        if before is None or before[0] != tag_epoch:
            return 0.0
        until = min(until, before[1])
    return until
