"""Soft clear, undo, clear by tags and sweep, as operations; over both stores."""

import time
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard, soft, sweep
from analytics_admin.caching.clear import tags as tag_clear
from analytics_admin.caching.clear.soft import NothingToUndo
from analytics_admin.caching.epochs import RECORD_NAME
from tests.support.search_caches import (
    STORES,
    Backend,
    another,
    record,
    use_store,
)

pytestmark = STORES


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind)
    cache = another()
    cache.set("q", "before")
    return cache


def bound(seconds: float) -> Any:
    return override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_SOFT_CLEAR_GRACE": seconds})


def expire_softly_cleared() -> None:
    """Clear softly with a bound so short that it is over."""
    with bound(0.001):
        soft.clear_softly()
    time.sleep(0.01)


class TestSoftly:
    def test_what_was_there_is_stale_and_not_fresh(self, cache: SearchCache) -> None:
        outcome = soft.clear_softly()
        assert (outcome.alias, outcome.stale_for) == ("search", 60.0)
        assert cache.get("q") is None
        failing = Backend()
        failing.error = LookupError()
        lookup = another().lookup("q", failing)
        assert (lookup.value, lookup.state) == ("before", "stale")

    def test_nothing_is_served_beyond_the_bound_that_the_settings_name(
        self, cache: SearchCache
    ) -> None:
        expire_softly_cleared()
        failing = Backend()
        failing.error = LookupError()
        with pytest.raises(LookupError):
            cache.lookup("q", failing)

    def test_a_failure_that_took_longer_than_the_bound_has_no_stale_value(
        self, cache: SearchCache
    ) -> None:
        with bound(0.3):
            soft.clear_softly()

        def fail_late() -> None:
            time.sleep(0.4)
            raise LookupError

        with pytest.raises(LookupError):
            cache.lookup("q", fail_late)

    def test_an_empty_cache_is_cleared_too(self, settings: Any, kind: str) -> None:
        use_store(settings, kind)
        soft.clear_softly()
        cache = another()
        cache.set("q", 1)
        assert cache.get("q") == 1

    def test_a_second_one_shortens_no_bound_and_lengthens_none_of_the_first(
        self, cache: SearchCache
    ) -> None:
        with bound(30):
            soft.clear_softly()
        first = max(record().servable_until.values())
        soft.clear_softly()
        assert sorted(record().servable_until.values())[0] == first

    def test_removes_no_key(self, cache: SearchCache) -> None:
        before = hard.preview().keys
        soft.clear_softly()
        assert hard.preview().keys == before


class TestUndo:
    def test_values_of_before_are_hits_again_beside_those_since(self, cache: SearchCache) -> None:
        soft.clear_softly()
        cache.set("r", "since")
        found = soft.find_undoable()
        assert found is not None
        assert 55 < found.seconds_left <= 60
        assert 55 < soft.undo().seconds_left <= 60
        assert another().get_many(["q", "r"]) == {"q": "before", "r": "since"}

    def test_takes_back_the_last_one_alone(self, cache: SearchCache) -> None:
        soft.clear_softly()
        cache.set("r", "between")
        soft.clear_softly()
        soft.undo()
        assert cache.get_many(["q", "r"]) == {"r": "between"}
        soft.undo()
        assert cache.get_many(["q", "r"]) == {"q": "before", "r": "between"}

    def test_without_a_soft_clear_there_is_nothing_to_undo(self, cache: SearchCache) -> None:
        before = record()
        assert soft.find_undoable() is None
        with pytest.raises(NothingToUndo):
            soft.undo()
        assert record() == before

    def test_without_a_record_there_is_nothing_to_undo_and_none_is_made(
        self, settings: Any, kind: str
    ) -> None:
        use_store(settings, kind)
        with pytest.raises(NothingToUndo):
            soft.undo()
        with pytest.raises(AssertionError):
            record()

    def test_beyond_the_bound_there_is_nothing_to_undo(self, cache: SearchCache) -> None:
        expire_softly_cleared()
        assert soft.find_undoable() is None
        with pytest.raises(NothingToUndo):
            soft.undo()

    def test_a_hard_clear_ends_it(self, cache: SearchCache) -> None:
        soft.clear_softly()
        hard.clear()
        with pytest.raises(NothingToUndo):
            soft.undo()

    def test_a_sweep_within_the_bound_does_not(self, cache: SearchCache) -> None:
        soft.clear_softly()
        assert sweep.sweep_leftovers().removed == 0
        soft.undo()
        assert cache.get("q") == "before"


class TestTags:
    @pytest.fixture(autouse=True)
    def _tagged(self, cache: SearchCache) -> None:
        cache.set("x", 1, tags=["x"])
        cache.set("xy", 2, tags=["x", "y"])
        cache.set("z", 3, tags=["ä b"])

    def test_results_with_one_of_the_tags_count_no_more_and_all_others_do(
        self, cache: SearchCache
    ) -> None:
        outcome = tag_clear.clear_tags(["y", "ä b"])
        assert (outcome.tags, outcome.in_use) == (2, 2)
        assert cache.get("x", tags=["x"]) == 1
        assert cache.get("xy", tags=["x", "y"]) is None
        assert cache.get("z", tags=["ä b"]) is None
        assert cache.get("q") == "before"

    def test_unknown_tags_are_fine_and_counted(self, cache: SearchCache) -> None:
        assert tag_clear.preview(["x", "typo"]).in_use == 1
        assert cache.get("x", tags=["x"]) == 1
        outcome = tag_clear.clear_tags(["x", "typo"])
        assert (outcome.tags, outcome.in_use) == (2, 1)
        assert tag_clear.clear_tags(["x"]).in_use == 0

    def test_new_results_with_the_tag_count(self, cache: SearchCache) -> None:
        tag_clear.clear_tags(["x"])
        cache.set("x", 4, tags=["x"])
        assert another().get("x", tags=["x"]) == 4


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        ("x", TypeError),
        (b"x", TypeError),
        ([1], TypeError),
        ([None], TypeError),
        ([], ValueError),
        ([""], ValueError),
        (["x" * 501], ValueError),
        ([str(n) for n in range(101)], ValueError),
    ],
)
def test_what_is_no_tag_is_refused(kind: str, tags: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        tag_clear.check_tags(tags)


def test_a_hundred_tags_are_fine_and_one_named_twice_is_one(kind: str) -> None:
    tags = [str(n) for n in range(100)]
    assert tag_clear.check_tags([*tags, "5"]) == sorted(tags)


class TestSweep:
    def test_removes_what_old_generations_left_and_nothing_else(self, cache: SearchCache) -> None:
        cache.set("tagged", 1, tags=["x"])
        expire_softly_cleared()
        cache.set("servable", 2)
        soft.clear_softly()
        cache.set("fresh", 3, tags=["x"])
        for foreign in ("2:value:foreign", "2:values", "2:lease:k:x", "2:tag:k:x"):
            caches["search"].set(foreign, "kept")
        assert (sweep.preview().seen, sweep.preview().removed) == (4, 2)
        outcome = sweep.sweep_leftovers()
        assert (outcome.seen, outcome.removed, outcome.finished) == (4, 2, True)
        assert cache.get("fresh", tags=["x"]) == 3
        soft.undo()
        assert cache.get("servable") == 2
        foreigners = ("2:value:foreign", "2:values", "2:lease:k:x", "2:tag:k:x")
        assert len(caches["search"].get_many(foreigners)) == 4

    def test_removes_damaged_values(self, cache: SearchCache) -> None:
        caches["search"].set("2:value:k:1", "no value of ours")
        assert sweep.sweep_leftovers().removed == 1
        assert cache.get("q") == "before"

    def test_after_a_lost_record_no_value_is_needed(self, cache: SearchCache) -> None:
        caches["search"].delete(RECORD_NAME)
        assert sweep.sweep_leftovers().removed == 1

    def test_finds_nothing_in_a_cache_without_leftovers(self, cache: SearchCache) -> None:
        cache.set("tagged", 1, tags=["x"])
        seen: list[int] = []
        outcome = sweep.sweep_leftovers(on_progress=seen.append)
        assert (outcome.seen, outcome.removed) == (2, 0)
        assert cache.get_many(["q"]) == {"q": "before"}
