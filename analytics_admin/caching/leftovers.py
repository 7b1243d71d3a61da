"""Which keys of the search cache no generation of tokens needs any more, and their removal.

A key is judged by how its value begins. The server judges and removes in one step, so that a value
stored in between stays; ``is_needed`` says the same for the store in memory. Leaves the client's
errors to the caller.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analytics_admin.caching.entries import EpochRecord
from analytics_admin.caching.keyspace import Keyspace
from analytics_admin.stores.client import load_script

HEAD_BYTES = 64
"""Bytes from a value's beginning that hold its token."""
BATCH = 100
"""Keys per script: the server does nothing else while one runs."""

# What each kind of key begins with while it is whole; the group is its token.
_HEADS = {
    "value": re.compile(rb"([^\s,]+)[ ,]"),
    "lease": re.compile(rb"\S+ [0-9.]+ ([^\s,]+)"),
}
_TAG_TOKEN = re.compile(rb"[A-Za-z0-9_-]{12}\Z")

_JUDGE = load_script("analytics_admin.caching.stores", "leftovers")


def is_needed(kind: str, head: bytes, record: EpochRecord | None, *, now: float) -> bool:
    """Say whether a key that begins like this counts, or may be served, or may come to count.

    A tag's token may be that of a value which counts, so it always is.
    """
    if kind == "tag":
        return _TAG_TOKEN.match(head) is not None
    match = _HEADS[kind].match(head)
    if match is None or record is None:
        return False
    token = match[1].decode(errors="replace")
    return token in record.accepted or record.servable_until.get(token, 0) > now


def judge(
    pipeline: Any, keys: Keyspace, suspects: Mapping[str, Sequence[bytes]], *, remove: bool
) -> None:
    """Have the pipeline count those of the keys that are needed no more, and remove them if asked.

    ``suspects`` are by their kind. Each of the pipeline's further replies is such a number.
    """
    for kind, found in suspects.items():
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            pipeline.eval(_JUDGE, 1 + len(batch), keys.record, *batch, kind, int(remove))
