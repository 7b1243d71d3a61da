"""What the tests of the search cache's page share: counts to draw, leftovers, its parts."""

import re
import time
from typing import Any

from django.core.cache import caches

from analytics_admin.caching import search_cache
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.caching.statistics.store import Batch, open_statistics_store

PAGE = "/admin/analytics_admin/searchcache/"


def tell(*by_minutes_ago: tuple[int, Counts], now: float | None = None) -> None:
    minute = int((time.time() if now is None else now) // 60)
    ledger = open_statistics_store("breakers", "search", timeout=5)
    ledger.add("test", [Batch(str(ago), minute - ago, counts) for ago, counts in by_minutes_ago])


def part(page: Any, name: str) -> str:
    """Return the module of this id, up to the next one."""
    found = re.search(rf'id="{name}".*?(?=<div class="module"|<!-- END Content)', page.text, re.S)
    assert found, name
    return found[0]


def leave_behind(number: int) -> None:
    search_cache.set("fresh", 1)
    step = caches["search"].client.get_client(write=True).pipeline(transaction=False)
    for n in range(number):
        step.set(caches["search"].make_key(f"2:value:k:{n}"), "1 gone-by 1 0 1\n1")
    step.execute()
