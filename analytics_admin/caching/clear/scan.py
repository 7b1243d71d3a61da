"""Walk over a live database in steps so small that its other users hardly notice.

Takes a connected client, and leaves its errors to the caller.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from analytics_admin.caching.keyspace import Keyspace
from analytics_admin.caching.leftovers import judge

SCAN_COUNT = 400
"""Slots of the key table per SCAN: with the UNLINKs of one page about 0.3 ms of the server."""
REST = 0.25
"""Rest after each step as a share of its time, which others' requests get for themselves."""
UNLINK_KEYS = 100
"""Keys per UNLINK: the server does nothing else while one runs."""


def remove(client: Any, keys: Keyspace) -> Iterator[int]:
    """Unlink every key of the keyspace; yield after each step how many it removed.

    Keys written meanwhile may stay; those that were there at the start all go, but for what the
    search cache has stored under tokens that count. A million keys that others have stored take
    about 2 s, and a neighbour's requests wait for less than 1 ms.
    """
    cursor, found = client.scan(0, match=keys.pattern, count=SCAN_COUNT)
    while True:
        began = time.monotonic()
        suspects: dict[str, list[bytes]] = {}
        for key in found:
            if keys.owns(key):
                suspects.setdefault(keys.kind_of(key), []).append(key)
        doomed = suspects.pop("", [])  # what others than the search cache itself have stored
        # The removals and the next SCAN share a round trip: half of the time would be waiting.
        step = client.pipeline(transaction=False)
        for start in range(0, len(doomed), UNLINK_KEYS):
            step.unlink(*doomed[start : start + UNLINK_KEYS])
        judge(step, keys, suspects, remove=True)
        if cursor:
            step.scan(cursor, match=keys.pattern, count=SCAN_COUNT)
        replies = step.execute()
        next_page = replies.pop() if cursor else None
        removed = sum(replies)
        rest = REST * (time.monotonic() - began)
        if removed:
            yield removed
        if next_page is None:
            return
        cursor, found = next_page
        time.sleep(rest)


class Page(NamedTuple):
    """What one step of ``remove_leftovers`` came to."""

    cursor: int
    """Where the next step begins; 0 after the last."""
    seen: int
    removed: int


def remove_leftovers(client: Any, keys: Keyspace, *, start: int) -> Iterator[Page]:
    """Unlink the search cache's values that count no more, from a cursor on; yield after each step.

    Values whose token is accepted or servable stay, and so does all else. A walk that begins with
    another's cursor looks at the rest of what was there when that one began.
    """
    return _judge_all(client, keys, start, remove=True)


def count_leftovers(client: Any, keys: Keyspace) -> Iterator[Page]:
    """Walk as ``remove_leftovers`` does and count what that would remove; change nothing."""
    return _judge_all(client, keys, 0, remove=False)


def _judge_all(client: Any, keys: Keyspace, cursor: int, *, remove: bool) -> Iterator[Page]:
    while True:
        began = time.monotonic()
        cursor, found = client.scan(cursor, match=keys.entries, count=SCAN_COUNT)
        values = [key for key in found if keys.owns(key) and keys.kind_of(key) == "value"]
        step = client.pipeline(transaction=False)
        judge(step, keys, {"value": values}, remove=remove)
        outdated = sum(step.execute())
        rest = REST * (time.monotonic() - began)
        yield Page(cursor, len(values), outdated)
        if not cursor:
            return
        time.sleep(rest)
