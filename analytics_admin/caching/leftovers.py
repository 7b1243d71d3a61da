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

# KEYS: the record, then keys of one kind. ARGV: the kind, 1 to remove those that are needed no
# more. Answers how many these are.
_JUDGE = f"""
local record = redis.pcall('GET', KEYS[1])
local known, accepted, servable = pcall(cjson.decode, type(record) == 'string' and record or '')
local tokens = {{}}
if known and type(accepted) == 'table' then
  servable = type(accepted.servable_until) == 'table' and accepted.servable_until or {{}}
  local now = redis.call('TIME')
  now = now[1] + now[2] / 1000000
  for token, till in pairs(servable) do tokens[token] = type(till) == 'number' and till > now end
  if type(accepted.accepted) == 'table' then
    for _, token in ipairs(accepted.accepted) do tokens[token] = true end
  end
end
local function is_needed(head)
  if ARGV[1] == 'tag' then return #head == 12 and not string.find(head, '[^%w_-]') end
  local form = ARGV[1] == 'value' and '^([^%s,]+)[ ,]' or '^%S+ [%d.]+ ([^%s,]+)'
  return tokens[string.match(head, form) or ''] == true
end
local outdated = {{}}
for i = 2, #KEYS do
  local head = redis.pcall('GETRANGE', KEYS[i], 0, {HEAD_BYTES - 1})
  if not is_needed(type(head) == 'string' and head or '') then
    outdated[#outdated + 1] = KEYS[i]
  end
end
if #outdated == 0 then return 0 end
return redis.call(ARGV[2] == '1' and 'UNLINK' or 'EXISTS', unpack(outdated))
"""


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
