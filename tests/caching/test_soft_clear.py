"""What a soft clear and its undo, as changes of the epoch record, do to values."""

import time
from typing import Any

import pytest

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard
from tests.support.search_caches import (
    STORES,
    Backend,
    InThread,
    another,
    record,
    replace_record,
    use_store,
)

pytestmark = STORES


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind)
    cache = another()
    cache.set("q", "before", tags=["x"])
    return cache


def clear_softly(bound: float = 60) -> None:
    replace_record(record().soft_cleared(now=time.time(), bound=bound))


def undo() -> None:
    undone = record().undone(now=time.time())
    assert undone is not None
    replace_record(undone)


def ask(cache: SearchCache, backend: Any) -> tuple[Any, str]:
    lookup = cache.lookup("q", backend, tags=["x"])
    return lookup.value, lookup.state


def test_one_refreshes_and_the_others_are_served_stale(cache):
    clear_softly()
    slow = Backend("after")
    slow.go_on.clear()
    first = InThread(lambda: ask(cache, slow))
    assert slow.begun.wait(20)
    never = Backend("never")
    assert [ask(caller, never) for caller in (cache, another())] == [("before", "stale")] * 2
    slow.go_on.set()
    assert first.result() == ("after", "miss")
    assert ask(another(), never) == ("after", "hit")


def test_get_returns_fresh_values_only(cache):
    clear_softly()
    assert cache.get("q", tags=["x"]) is None


def test_beyond_its_bound_a_value_is_absent(cache):
    clear_softly(bound=0.02)
    time.sleep(0.05)
    failing = Backend()
    failing.error = LookupError()
    with pytest.raises(LookupError):
        ask(cache, failing)


def test_a_stale_value_stands_in_for_a_failed_refresh(cache):
    clear_softly()
    failing = Backend()
    failing.error = LookupError()
    assert ask(cache, failing) == ("before", "stale")


def test_what_was_in_flight_at_a_soft_clear_is_not_stored(cache):
    slow = Backend("in flight")
    slow.go_on.clear()
    call = InThread(lambda: cache.get_or_compute("r", slow))
    assert slow.begun.wait(20)
    clear_softly()
    slow.go_on.set()
    assert call.result() == "in flight"
    assert cache.get("r") is None


def test_undo_brings_back_what_was_and_keeps_what_came(cache):
    cache.set("r", "before")
    clear_softly()
    assert ask(cache, Backend("after")) == ("after", "miss")
    undo()
    assert cache.get("r") == "before"
    assert cache.get("q", tags=["x"]) == "after"
    cache.set("s", "since")
    assert another().get("s") == "since"


def test_a_hard_clear_ends_what_could_be_undone_or_served(cache):
    clear_softly()
    hard.clear()
    assert record().undone(now=time.time()) is None
    assert ask(cache, Backend("after")) == ("after", "miss")


def test_a_cleared_tag_ends_what_was_cleared_softly(cache):
    clear_softly()
    cache.clear_tags(["x"])
    assert ask(cache, Backend("after")) == ("after", "miss")
