"""Walking over a live database in steps so small that its other users hardly notice.

Leaves the client's errors to the caller.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from analytics_admin.caching.keyspace import SCAN_COUNT, Keyspace
from analytics_admin.stores.client import load_script

REST_SHARE = 0.25
"""Rest after each step, as a share of its time: others' requests have the server to themselves."""
BATCH_KEYS = 100
"""Keys per UNLINK or script: the server does nothing else while one runs."""

_LEFTOVERS = load_script("analytics_admin.caching.stores", "leftovers")


class Removal(NamedTuple):
    """One step of a removal."""

    removed: int
    share: float
    """Of the database's keys, about how many have been looked at, 0 to 1."""
    is_last: bool


def remove_keys(client: Any, keyspace: Keyspace, *, seconds: float) -> Iterator[Removal]:
    """Unlink every key of the keyspace; yield after each step. Ends early when time is over.

    Keys written meanwhile may stay. All that were there at the start go, except what the search
    cache has stored under epochs that count. A million keys that others have stored take about
    2 s, and a neighbour's requests wait for less than 1 ms.
    """
    deadline = time.monotonic() + seconds
    cursor, page = client.scan(0, match=keyspace.pattern, count=SCAN_COUNT)
    while True:
        started = time.monotonic()
        candidates: dict[str, list[bytes]] = {}
        for key in page:
            if keyspace.owns(key):
                candidates.setdefault(keyspace.kind_of(key), []).append(key)
        foreign = candidates.pop("", [])  # stored by others than the search cache itself
        # The removals and the next SCAN share a round trip: half of the time would be waiting.
        pipeline = client.pipeline(transaction=False)
        for start in range(0, len(foreign), BATCH_KEYS):
            pipeline.unlink(*foreign[start : start + BATCH_KEYS])
        queue_leftovers(pipeline, keyspace, candidates, remove=True)
        if cursor:
            pipeline.scan(cursor, match=keyspace.pattern, count=SCAN_COUNT)
        replies = pipeline.execute()
        next_page = replies.pop() if cursor else None
        removed = sum(replies)
        rest = REST_SHARE * (time.monotonic() - started)
        yield Removal(removed, _share(cursor), next_page is None)
        if next_page is None or time.monotonic() >= deadline:
            return
        cursor, page = next_page
        time.sleep(rest)


def _share(cursor: int) -> float:
    """Return about how much of the key table lies behind SCAN's cursor, which counts in reverse."""
    return int(f"{cursor:064b}"[::-1], 2) / 2**64 if cursor else 1.0


class Step(NamedTuple):
    """What one step of a scan of the search cache's values found."""

    examined: int
    outdated: int
    is_last: bool


def scan_leftovers(
    client: Any, keyspace: Keyspace, *, remove: bool, seconds: float | None = None
) -> Iterator[Step]:
    """Find the search cache's values that count no more, and unlink them if asked to.

    Yields after each step; ends early when ``seconds`` are over.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    cursor = 0
    while True:
        started = time.monotonic()
        cursor, page = client.scan(cursor, match=keyspace.entries, count=SCAN_COUNT)
        values = [key for key in page if keyspace.owns(key) and keyspace.kind_of(key) == "value"]
        pipeline = client.pipeline(transaction=False)
        queue_leftovers(pipeline, keyspace, {"value": values}, remove=remove)
        outdated = sum(pipeline.execute())
        rest = REST_SHARE * (time.monotonic() - started)
        yield Step(len(values), outdated, not cursor)
        if not cursor or time.monotonic() >= deadline:
            return
        time.sleep(rest)


def queue_leftovers(
    pipeline: Any, keyspace: Keyspace, candidates: Mapping[str, Sequence[bytes]], *, remove: bool
) -> None:
    """Queue the scripts that count, and with ``remove`` unlink, the candidates not needed any more.

    ``candidates`` are keys by kind. Each of the pipeline's further replies is such a number. The
    server decides and removes in one step, so a value stored in between stays.
    """
    for kind, keys in candidates.items():
        for start in range(0, len(keys), BATCH_KEYS):
            batch = keys[start : start + BATCH_KEYS]
            pipeline.eval(_LEFTOVERS, 1 + len(batch), keyspace.record, *batch, kind, int(remove))
