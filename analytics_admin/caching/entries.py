"""Stored values: how an entry is written and read, and whether anything still needs it."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from analytics_admin.caching.epochs import EpochRecord

HEAD_BYTES = 96
"""Bytes at the beginning of a stored value or lease that hold its epoch."""

# The beginning of each kind of key's value while it is intact; the group is its epoch.
_HEADS = {
    "value": re.compile(rb"([^\s,]+)[ ,]"),
    "lease": re.compile(rb"\S+ \S+ [0-9.]+ ([^\s,]+)"),
}
_TAG_EPOCH = re.compile(rb"[A-Za-z0-9_-]{12}\Z")


class Entry(NamedTuple):
    """A stored value: one line of metadata, then the value itself.

    A plain tuple, because every hit creates one.
    """

    epochs: str
    """The epoch under which it was stored, then those of its tags, joined by commas."""
    stored_at: float
    """Unix time of the store."""
    fresh_until: float
    """Unix time of the store; infinite for a value that never expires."""
    computed_in: float
    """Seconds that its computation took."""
    text: str
    """The encoded value."""


def entry_head(*, epochs: str, stored_ms: int, fresh_until_ms: int, computed_ms: int) -> str:
    """Return the metadata line; ``fresh_until_ms`` 0 means that the value never expires."""
    return f"{epochs} {stored_ms} {fresh_until_ms} {computed_ms}\n"


def decode_entry(raw: bytes | None) -> Entry | None:
    """Return the entry, or None for a missing or damaged one."""
    if raw is None:
        return None
    try:
        head, _, text = raw.decode().partition("\n")
        epochs, stored, fresh, computed = head.split(" ")
        return Entry(
            epochs,
            int(stored) / 1000,
            int(fresh) / 1000 if fresh != "0" else math.inf,
            int(computed) / 1000,
            text,
        )
    except ValueError:  # includes bytes that are not UTF-8
        return None


def join_epochs(epoch: str, tag_epochs: Iterable[str]) -> str:
    """Return what an entry stored under these epochs carries."""
    return ",".join((epoch, *tag_epochs))


def is_needed(kind: str, head: bytes, record: EpochRecord | None, *, now: float) -> bool:
    """Say whether a key that begins with ``head`` counts, may be served, or may come to count.

    ``leftovers.lua`` decides the same on the server. A tag's epoch is always needed: a value that
    counts may carry it.
    """
    if kind == "tag":
        return _TAG_EPOCH.match(head) is not None
    match = _HEADS[kind].match(head)
    if match is None or record is None:
        return False
    epoch = match[1].decode(errors="replace")
    return epoch in record.accepted or record.servable_until.get(epoch, 0) > now
