"""Reads the store all the time, as another process of the site; it is never disturbed."""

import threading
import time
from contextlib import suppress

import django

if __name__ == "__main__":
    django.setup()

from redis.exceptions import RedisError

from analytics_admin.breakers import runtime
from analytics_admin.breakers.state_machine import control_in_force
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.caching.epochs import decode_record, record_key
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable, operation_client
from tests.support.chaos.events import Receipt, Seen
from tests.support.chaos.plan import NAMES, SHARED
from tests.support.chaos.program import Health, orders, ready
from tests.support.history.events import HistoryFile

LOOK_EVERY = 0.1
"""Seconds between two readings."""


def main() -> None:
    given = orders()
    history, health = given.history(), Health(given.plan())
    threading.Thread(target=health.listen, daemon=True).start()
    ready()
    seen: set[str] = set()
    while not health.over.wait(LOOK_EVERY):
        with suppress(StoreUnavailable, OutcomeUnknown):
            began = time.monotonic()
            _note_breakers(
                history, began, runtime.operator_store().read_transitions((*NAMES, SHARED))
            )
        with suppress(StoreUnavailable, RedisError, OSError):
            _note_receipt(history, seen)


def _note_breakers(history: HistoryFile, began: float, reading: Reading) -> None:
    ended = time.monotonic()
    for name, snapshot in reading.snapshots.items():
        if snapshot is None:
            continue
        history.write(
            Seen(
                name=name,
                began=began,
                ended=ended,
                generation=snapshot.generation,
                state=snapshot.state.value,
                control=control_in_force(snapshot, reading.now).value,
                calls=snapshot.counts.calls,
                failures=snapshot.counts.failures,
                permits=snapshot.permits,
                reason=snapshot.hold.reason if snapshot.hold else "",
            )
        )


def _note_receipt(history: HistoryFile, seen: set[str]) -> None:
    alias, began = app_settings().search_cache, time.monotonic()
    with operation_client(alias, timeout=1.0) as client:
        record = decode_record(client.get(record_key(alias)))
    if record is not None and record.receipt and record.receipt not in seen:
        seen.add(record.receipt)
        ended = time.monotonic()
        history.write(Receipt(began=began, ended=ended, operation_id=record.receipt))


if __name__ == "__main__":
    main()
