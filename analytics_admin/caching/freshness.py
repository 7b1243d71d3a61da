"""PURE: whether what lay in the store counts, and as what. `now` comes with what was read."""

from typing import NamedTuple

from analytics_admin.caching.entries import Entry, EpochRecord, decode_entry, decode_record
from analytics_admin.caching.stores.base import Reading


class Freshness(NamedTuple):
    """What a reading comes to; at most one of ``fresh`` and ``stale`` is there."""

    fresh: Entry | None
    stale: Entry | None
    """May be served while another caller refreshes it, or when that fails."""
    stamps: frozenset[str]
    """What values that count carry now; empty if no such value can have been stored."""
    now: float
    """Seconds of the store's time when it was read."""
    damaged: bytes = b""
    """What lay in the record's place and is none."""
    stale_until: float = 0.0
    """Seconds of the store's time until which the stale value may be served."""


NOTHING: frozenset[str] = frozenset()


def assess_freshness(reading: Reading, stale_for: float = 0) -> Freshness:
    """Judge what was read for a call that accepts values ``stale_for`` seconds past their time.

    A value whose token is not accepted, or that carries other tags, is absent, but for one cleared
    softly within its bound.
    """
    record = decode_record(reading.record)
    if record is None:
        return Freshness(None, None, NOTHING, reading.now, reading.record or b"")
    tail = ""
    stamps = record.accepted
    if reading.tags:
        if None in reading.tags:
            return Freshness(None, None, NOTHING, reading.now)
        tail = "".join([f",{(token or b'').decode(errors='replace')}" for token in reading.tags])
        stamps = frozenset({token + tail for token in record.accepted})
    entry = decode_entry(reading.entry)
    if entry is None:
        return Freshness(None, None, stamps, reading.now)
    if entry.stamp in stamps and entry.fresh_until > reading.now:
        return Freshness(entry, None, stamps, reading.now)
    until = entry.fresh_until + stale_for
    if entry.stamp not in stamps:
        until = min(until, _servable_until(entry, record, tail))
    if until > reading.now:
        return Freshness(None, entry, stamps, reading.now, stale_until=until)
    return Freshness(None, None, stamps, reading.now)


def _servable_until(entry: Entry, record: EpochRecord, tail: str) -> float:
    if not entry.stamp.endswith(tail):
        return 0.0
    return record.servable_until.get(entry.stamp.removesuffix(tail), 0.0)
