"""Walk over a live database in steps so small that its other users hardly notice.

Takes a connected client, and leaves its errors to the caller.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from analytics_admin.caching.keyspace import Keyspace
from analytics_admin.caching.leftovers import find_outdated, remove_outdated

SCAN_COUNT = 400
"""Slots of the key table per SCAN: with the UNLINKs of one page about 0.3 ms of the server."""
REST = 0.25
"""Rest after each step as a share of its time, which others' requests get for themselves."""
UNLINK_KEYS = 100
"""Keys per UNLINK: the server does nothing else while one runs."""
SAMPLE = 4000
"""RANDOMKEYs behind an estimate: about 35 ms, and within 4 % when half of the keys are ours."""
SAMPLE_STEP = 500


def remove(client: Any, keys: Keyspace) -> Iterator[int]:
    """Unlink every key of the keyspace; yield after each step how many it removed.

    Keys written meanwhile may stay; those that were there at the start all go, but for what the
    search cache has stored under tokens that count. A million keys that others have stored take
    about 2 s, and a neighbour's requests wait for less than 1 ms.
    """
    cursor, found = client.scan(0, match=keys.pattern, count=SCAN_COUNT)
    while True:
        began = time.monotonic()
        ours = [key for key in found if keys.owns(key)]
        suspects = [key for key in ours if keys.kind_of(key)]
        doomed = [key for key in ours if not keys.kind_of(key)] if suspects else ours
        # The removals and the next SCAN share a round trip: half of the time would be waiting.
        step = client.pipeline(transaction=False)
        for start in range(0, len(doomed), UNLINK_KEYS):
            step.unlink(*doomed[start : start + UNLINK_KEYS])
        if cursor:
            step.scan(cursor, match=keys.pattern, count=SCAN_COUNT)
        replies = step.execute()
        next_page = replies.pop() if cursor else None
        removed = sum(replies) + remove_outdated(client, keys, suspects)
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
    return _judge_all(client, keys, lambda values: remove_outdated(client, keys, values), start)


def count_leftovers(client: Any, keys: Keyspace) -> Iterator[Page]:
    """Walk as ``remove_leftovers`` does and count what that would remove; change nothing."""
    return _judge_all(client, keys, lambda values: len(find_outdated(client, keys, values)), 0)


def _judge_all(
    client: Any, keys: Keyspace, judge: Callable[[list[bytes]], int], cursor: int
) -> Iterator[Page]:
    while True:
        began = time.monotonic()
        cursor, found = client.scan(cursor, match=keys.entries, count=SCAN_COUNT)
        values = [key for key in found if keys.owns(key) and keys.kind_of(key) == "value"]
        removed = judge(values)
        rest = REST * (time.monotonic() - began)
        yield Page(cursor, len(values), removed)
        if not cursor:
            return
        time.sleep(rest)


def count(client: Any, keys: Keyspace) -> int:
    """Return how many keys a clear would remove. Walks over the whole database."""
    total, cursor = 0, 0
    while True:
        cursor, found = client.scan(cursor, match=keys.pattern, count=SCAN_COUNT)
        total += len({key for key in found if keys.owns(key) and keys.kind_of(key) != "tag"})
        if not cursor:
            return total


def estimate(client: Any, keys: Keyspace, *, size: int) -> int:
    """Return about how many of the database's ``size`` keys are in the keyspace, from a sample."""
    ours = 0
    for _ in range(SAMPLE // SAMPLE_STEP):
        step = client.pipeline(transaction=False)
        for _ in range(SAMPLE_STEP):
            step.randomkey()
        ours += sum(key is not None and keys.owns(key) for key in step.execute())
    return _three_digits(size * ours / SAMPLE)


def _three_digits(number: float) -> int:
    """Round to what the sample can tell, so that the figure does not look exact."""
    return int(float(f"{number:.3g}"))
