"""PURE: whether what lay in the store counts, and as what. `now` comes with what was read."""

from typing import NamedTuple

from analytics_admin.caching.entries import Entry, TokenRecord, decode_entry, decode_record
from analytics_admin.caching.store import Reading


class Finding(NamedTuple):
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


NOTHING: frozenset[str] = frozenset()


def judge(reading: Reading, stale_for: float = 0) -> Finding:
    """Judge what was read for a call that accepts values ``stale_for`` seconds past their time.

    A value whose token is not accepted, or that carries other tags, is absent, but for one cleared
    softly within its bound.
    """
    record = decode_record(reading.record)
    if record is None:
        return Finding(None, None, NOTHING, reading.now, reading.record or b"")
    tail = ""
    stamps = record.accepted
    if reading.tags:
        if None in reading.tags:
            return Finding(None, None, NOTHING, reading.now)
        tail = "".join([f",{(token or b'').decode(errors='replace')}" for token in reading.tags])
        stamps = frozenset({token + tail for token in record.accepted})
    entry = decode_entry(reading.entry)
    if entry is None:
        return Finding(None, None, stamps, reading.now)
    if entry.stamp in stamps and entry.fresh_until > reading.now:
        return Finding(entry, None, stamps, reading.now)
    in_time = entry.fresh_until + stale_for > reading.now
    if in_time and (entry.stamp in stamps or _is_servable(entry, record, tail, reading.now)):
        return Finding(None, entry, stamps, reading.now)
    return Finding(None, None, stamps, reading.now)


def _is_servable(entry: Entry, record: TokenRecord, tail: str, now: float) -> bool:
    if not entry.stamp.endswith(tail):
        return False
    token = entry.stamp.removesuffix(tail)
    return record.servable_until.get(token, 0) > now
