"""Walking over a live database in steps so small that its other users hardly notice.

Leaves the client's errors to the caller.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from analytics_admin.caching.keyspace import SCAN_COUNT, Keyspace
from analytics_admin.stores.client import load_script

T = TypeVar("T")

REST_SHARE = 0.25
"""After each request the server gets at least this share of its time for itself and others. What
this process does meanwhile with the answer counts as rest, too."""
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
    record, form = keyspace.record, keyspace.form
    cursor, page = client.scan(0, match=keyspace.pattern, count=SCAN_COUNT)
    rest_until = 0.0
    while True:
        kinds: dict[bytes | None, list[bytes]] = {}
        for key in page:
            if (match := form.match(key)) is not None and key != record:
                kinds.setdefault(match[1], []).append(key)
        foreign = kinds.pop(None, [])  # stored by others than the search cache itself
        # The removals and the next SCAN share a round trip: half of the time would be waiting.
        pipeline = client.pipeline(transaction=False)
        for start in range(0, len(foreign), BATCH_KEYS):
            pipeline.unlink(*foreign[start : start + BATCH_KEYS])
        candidates = {kind.decode(): keys for kind, keys in kinds.items() if kind is not None}
        queue_leftovers(pipeline, keyspace, candidates, remove=True)
        if cursor:
            pipeline.scan(cursor, match=keyspace.pattern, count=SCAN_COUNT)
        replies, rest_until = _ask_after(rest_until, pipeline.execute)
        next_page = replies.pop() if cursor else None
        yield Removal(sum(replies), _share(cursor), next_page is None)
        if next_page is None or time.monotonic() >= deadline:
            return
        cursor, page = next_page


def _ask_after(rest_until: float, request: Callable[[], T]) -> tuple[T, float]:
    """Return the answer, and when the server has rested from this request (monotonic seconds)."""
    if (wait := rest_until - time.monotonic()) > 0:
        time.sleep(wait)
    began = time.monotonic()
    answer = request()
    ended = time.monotonic()
    return answer, ended + REST_SHARE * (ended - began)


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
    cursor, rest_until = 0, 0.0
    while True:
        scan = partial(client.scan, cursor, match=keyspace.entries, count=SCAN_COUNT)
        (cursor, page), rest_until = _ask_after(rest_until, scan)
        values = [key for key in page if keyspace.owns(key) and keyspace.kind_of(key) == "value"]
        pipeline = client.pipeline(transaction=False)
        queue_leftovers(pipeline, keyspace, {"value": values}, remove=remove)
        replies, rest_until = _ask_after(rest_until, pipeline.execute)
        yield Step(len(values), sum(replies), not cursor)
        if not cursor or time.monotonic() >= deadline:
            return


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
