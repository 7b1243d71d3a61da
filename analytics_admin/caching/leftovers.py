"""Which keys of the search cache no generation of tokens needs any more, and their removal.

A key is judged by how its value begins, and removed only if it still begins so: a value stored in
between stays. Takes a connected client, and leaves its errors to the caller.
"""

import re
from collections.abc import Sequence
from typing import Any

from analytics_admin.caching.entries import TokenRecord, decode_record
from analytics_admin.caching.keyspace import Keyspace

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

# KEYS: those to go. ARGV: what each began with
_REMOVE = f"""
local gone = 0
for i, key in ipairs(KEYS) do
  local head = redis.pcall('GETRANGE', key, 0, {HEAD_BYTES - 1})
  if type(head) == 'table' then head = '' end
  if head == ARGV[i] then gone = gone + redis.call('UNLINK', key) end
end
return gone
"""


def is_needed(kind: str, head: bytes, record: TokenRecord | None, *, now: float) -> bool:
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


def remove_outdated(client: Any, keys: Keyspace, suspects: Sequence[bytes]) -> int:
    """Unlink those of the keys that are needed no more; return how many."""
    doomed = find_outdated(client, keys, suspects)
    removed = 0
    for start in range(0, len(doomed), BATCH):
        batch = doomed[start : start + BATCH]
        names, heads = zip(*batch, strict=True)
        removed += client.eval(_REMOVE, len(names), *names, *heads)
    return removed


def find_outdated(
    client: Any, keys: Keyspace, suspects: Sequence[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the keys that are needed no more, each with its head."""
    if not suspects:
        return []
    step = client.pipeline(transaction=False)
    for key in suspects:
        step.getrange(key, 0, HEAD_BYTES - 1)
    # After the heads: a token that was drawn in between must not look unknown.
    step.get(keys.record)
    step.time()
    *heads, raw, (seconds, micros) = map(_text_or_nothing, step.execute(raise_on_error=False))
    record, now = decode_record(raw or None), seconds + micros / 1_000_000
    return [
        (key, head)
        for key, head in zip(suspects, heads, strict=True)
        if not is_needed(keys.kind_of(key), head, record, now=now)
    ]


def _text_or_nothing(reply: Any) -> Any:
    """Take a key of another type, which nothing of ours has, for an empty one."""
    if not isinstance(reply, Exception):
        return reply
    if str(reply).startswith("WRONGTYPE"):
        return b""
    raise reply
