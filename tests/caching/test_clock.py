"""The store's time as a process derives it between two reads of the store's clock."""

import time
from typing import Any

from analytics_admin.caching.stores.base import EntryKeys
from analytics_admin.caching.stores.redis import RedisStore

LATE = 0.04  # seconds


class LatePool:
    """A store that looks at its clock at once and answers late."""

    def call(self, *command: Any) -> list[None]:
        return [None, None]

    def call_all(self, commands: Any) -> list[Any]:
        now = time.time()
        time.sleep(LATE)
        return [[None, None], (int(now), int(now % 1 * 1_000_000))]

    def close(self) -> None:
        pass


def test_an_answer_that_comes_late_does_not_leave_the_reckoned_time_behind():
    """Else a value would be served beyond its bound by that much."""
    store = RedisStore(LatePool(), probe_key="probe")  # type: ignore[arg-type]
    keys = EntryKeys("record", "entry", "lease", ())
    for _ in range(2):  # the second is reckoned
        assert abs(store.read(keys).now - time.time()) < LATE / 2
