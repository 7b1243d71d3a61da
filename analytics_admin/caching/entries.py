"""Stored values: how an entry is written and read, and whether anything still needs it.

What lies in the store may be damaged, or of a later release. Then it counts as missing.
"""

import math
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from analytics_admin.caching.epochs import EpochRecord

FORMAT = "1"
"""The first character of an entry. Entries of another format count as missing."""
MAX_HEAD_BYTES = 1024
"""The metadata line of a value with 50 tags takes 800."""
HEAD_BYTES = 96
"""Bytes at the beginning of a stored value or lease that hold its epoch."""

_HEAD = re.compile(rb"1 ([!-~]{1,900}) (\d{1,15}) (\d{1,15}) (\d{1,15}) ([0-9a-f]{8})\n")
# The beginning of each kind of key's value while it is intact; the group is its epoch.
_HEADS = {
    "value": re.compile(rb"1 ([^\s,]+)[ ,]"),
    "lease": re.compile(rb"\S+ \S+ [0-9.]+ ([^\s,]+)"),
}
# The epoch; after a soft clear the one before it, and until when (ms) its values may be served.
_TAG_EPOCH = re.compile(rb"([A-Za-z0-9_-]{12})(?: ([A-Za-z0-9_-]{12}):([0-9]{1,15}))?\Z")


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


def encode_entry(
    text: str, *, epochs: str, stored_ms: int, fresh_until_ms: int, computed_ms: int
) -> bytes:
    """Return the entry of a value; ``fresh_until_ms`` 0 means that it never expires."""
    body = text.encode()
    head = f"{FORMAT} {epochs} {stored_ms} {fresh_until_ms} {computed_ms} {checksum(body)}\n"
    return head.encode() + body


def checksum(body: bytes) -> str:
    """Return the checksum of an encoded value, as its head carries it."""
    return f"{zlib.crc32(body):08x}"


def decode_entry(raw: bytes | None) -> Entry | None:
    """Return the entry, or None for a missing or damaged one, or one of another format."""
    if not raw or (match := _HEAD.match(raw)) is None:
        return None
    epochs, stored, fresh, computed, check = match.groups()
    body = raw[match.end() :]
    if zlib.crc32(body) != int(check, 16):
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return Entry(
        epochs.decode(),
        int(stored) / 1000,
        int(fresh) / 1000 if fresh != b"0" else math.inf,
        int(computed) / 1000,
        text,
    )


def head_of(raw: bytes | None) -> bytes:
    """Return the metadata line of an entry, damaged or not; b"" if it is not to be seen as one."""
    head, end, _ = (raw or b"")[:MAX_HEAD_BYTES].partition(b"\n")
    return head + end if end else b""


def join_epochs(epoch: str, tag_epochs: Iterable[str]) -> str:
    """Return what an entry stored under these epochs carries."""
    return ",".join((epoch, *tag_epochs))


def is_tag_epoch(raw: bytes | None, era: str = "") -> bool:
    """Say whether this is the epoch of a tag, not damaged, and of this era."""
    return raw is not None and _TAG_EPOCH.match(raw) is not None and raw.startswith(era.encode())


def tag_epoch_of(raw: bytes | None) -> str:
    """Return a tag's epoch, "" for a missing or damaged one."""
    match = _TAG_EPOCH.match(raw or b"")
    return match[1].decode() if match else ""


def softly_cleared(raw: bytes | None) -> tuple[str, float] | None:
    """Return the epoch of a tag before its last soft clear, and the time until when it counts."""
    match = _TAG_EPOCH.match(raw or b"")
    return (match[2].decode(), int(match[3]) / 1000) if match and match[2] else None


def is_needed(kind: str, head: bytes, record: EpochRecord | None, *, now: float) -> bool:
    """Say whether a key that begins with ``head`` counts, may be served, or may come to count.

    ``leftovers.lua`` decides the same on the server. A tag's epoch is needed until the next hard
    clear: a value that counts may carry it.
    """
    if kind == "tag":
        return is_tag_epoch(head, record.era if record is not None else "")
    match = _HEADS[kind].match(head)
    if match is None or record is None:
        return False
    epoch = match[1].decode(errors="replace")
    if epoch in record.accepted or epoch in record.suspended:
        return True
    return record.servable_until.get(epoch, 0) > now
