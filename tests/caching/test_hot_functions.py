"""Each cached function is counted by name, in all processes together."""

import asyncio
import json
import time
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command

from analytics_admin.caching import SearchCache
from analytics_admin.caching.statistics import counters
from analytics_admin.services import list_hot_functions
from tests.support.search_caches import STORES

pytestmark = STORES


class Functions:
    """Cached functions of one process."""

    def __init__(self, cache: SearchCache) -> None:
        @cache.cached(timeout=60)
        def slow(query: str) -> str:
            time.sleep(0.02)
            return query

        @cache.cached(timeout=60)
        async def quick(query: str) -> str:
            return query

        @cache.cached(timeout=60)
        def failing() -> str:
            raise LookupError

        self.slow, self.quick, self.failing = slow, quick, failing


def names() -> dict[str, Any]:
    return {each.name.rpartition(".")[2]: each for each in list_hot_functions()}


@pytest.fixture(autouse=True)
def _counts(cache: SearchCache) -> None:
    caches["breakers"].clear()


def test_the_calls_of_all_processes_are_added_up_and_the_costliest_is_first(
    cache: SearchCache, other: SearchCache
) -> None:
    for process in (cache, other):
        functions = Functions(process)
        for _ in range(3):
            functions.slow("lamp")
            asyncio.run(functions.quick.lookup("é"))
        with pytest.raises(LookupError):
            functions.failing()
        process.reporter.report()
    assert next(iter(names())) == "slow"
    slow, quick, failing = (names()[name] for name in ("slow", "quick", "failing"))
    assert (slow.calls, slow.hits, slow.misses, slow.bytes) == (6, 5, 1, 6)
    assert 0.02 <= slow.compute_seconds < 5
    assert (quick.calls, quick.hits, quick.misses, quick.bytes) == (6, 5, 1, 4)
    assert (failing.calls, failing.misses, failing.bytes) == (2, 2, 0)
    assert slow.name.startswith(f"{__name__}.Functions.")


def test_a_report_that_is_repeated_counts_once(cache: SearchCache) -> None:
    Functions(cache).slow("lamp")
    cache.reporter.report()
    cache.reporter.report()
    assert names()["slow"].calls == 1


def test_a_process_counts_so_many_functions_and_no_more(
    cache: SearchCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "MAX_FUNCTIONS", 1)
    functions = Functions(cache)
    functions.slow("lamp")
    asyncio.run(functions.quick.lookup("lamp"))
    assert len(cache.counter.take().functions) == 1


@pytest.mark.django_db
def test_the_command_shows_them(cache: SearchCache) -> None:
    Functions(cache).slow("lamp")
    cache.reporter.report()
    out = StringIO()
    call_command("search_cache", "--functions", stdout=out)
    (line,) = (line for line in out.getvalue().splitlines() if ".slow" in line)
    assert line.split()[1:5] == ["1", "0", "1", "0"]
    out = StringIO()
    call_command("search_cache", "--functions", "--json", stdout=out)
    (function,) = json.loads(out.getvalue())["functions"]
    assert (function["calls"], function["bytes"]) == (1, 6)
    out = StringIO()
    call_command("search_cache", "--json", stdout=out)
    assert "functions" not in json.loads(out.getvalue())
