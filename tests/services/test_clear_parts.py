"""Clearing by function and by key, as operations; over both stores."""

import asyncio
import json
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from analytics_admin.caching import SearchCache
from analytics_admin.caching.stores import memory
from analytics_admin.console.audit.labels import format_target
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    OperationRejected,
    clear_search_cache,
    describe_search_cache,
    undo_clear,
)
from analytics_admin.services.errors import NothingToUndo
from tests.support.search_caches import STORES, Backend, InThread, another, use_store

pytestmark = [STORES, pytest.mark.django_db]

OPERATOR = Actor.system("op")
HERE = __name__


@pytest.fixture
def cache(settings: Any, kind: str) -> SearchCache:
    use_store(settings, kind)
    return another()


def clear(**options: Any) -> Any:
    return clear_search_cache(actor=OPERATOR, **options)


class TestByFunction:
    def test_the_results_of_the_function_go_and_no_others(self, cache: SearchCache) -> None:
        @cache.cached(timeout=60, tags=["products"])
        def find(query: str) -> str:
            return query

        @cache.cached(timeout=60)
        async def count(query: str) -> int:
            return len(query)

        name = f"{HERE}.TestByFunction.test_the_results_of_the_function_go_and_no_others.<locals>"
        for query in ("a", "b"):
            find(query)
            asyncio.run(count(query))
        cache.set("other", 1)
        result = clear(functions=[f"{name}.find"])
        assert result.message == "Search cache cleared for 1 function or tag"
        assert [find.lookup(query).state for query in ("a", "b")] == ["miss", "miss"]
        assert asyncio.run(count.lookup("a")).state == "hit"
        assert cache.get("other") == 1
        assert find.lookup("a").state == "hit"

    def test_equal_keys_are_one_however_they_are_written(self, cache: SearchCache) -> None:
        @cache.cached(timeout=60)
        def find(query: str) -> str:
            return query

        key = find.key("a")
        cache.set(key, "set")
        assert find("a") == "set"
        assert cache.get((key[0], {"query": "a"})) == "set"
        cache.set("other", 1)
        assert cache.get_many(["other"]) == {"other": 1}
        clear(functions=[key[0]])
        assert cache.get(key) is None

    def test_a_computation_under_way_is_not_stored(self, cache: SearchCache) -> None:
        backend = Backend("old")
        backend.go_on.clear()
        key = ["shop.find", {"query": "a"}]
        call = InThread(lambda: cache.get_or_compute(key, backend))
        assert backend.begun.wait(10)
        clear(functions=["shop.find"])
        backend.go_on.set()
        assert call.result() == "old"
        assert another().get(key) is None

    def test_a_tag_of_the_same_name_is_another(self, cache: SearchCache) -> None:
        cache.set(["f", {}], 1)
        cache.set("q", 2, tags=["f"])
        clear(tags=["f"])
        assert (cache.get(["f", {}]), cache.get("q", tags=["f"])) == (1, None)

    def test_the_row_names_it_and_the_last_clear_says_so(self, cache: SearchCache) -> None:
        clear(functions=["b.f", "a.f", "b.f"], tags=["t"])
        row = Operation.objects.get()
        assert row.targets == {"mode": "hard", "tags": ["t"], "functions": ["a.f", "b.f"]}
        assert format_target(row) == "functions a.f, b.f"
        last = describe_search_cache().last_clear
        assert last is not None
        assert last.mode == "functions"

    def test_functions_are_no_tags_of_the_site(self, cache: SearchCache) -> None:
        cache.set(["f", {}], 1, tags=["t"])
        status = describe_search_cache()
        assert (status.tags, status.all_tags) == (("t",), True)


class TestByKey:
    def test_the_results_of_these_keys_go_and_no_others(self, cache: SearchCache) -> None:
        for number in range(3):
            cache.set(["search", "lamp", number], number, tags=["t"])
        plan = clear(keys=[("search", "lamp", 0), ["search", "x", 9]], dry_run=True)
        assert plan.message == "Dry run: the results of 2 keys would be cleared"
        assert (plan.preview["named"], plan.preview["found"]) == (2, 1)
        result = clear(keys=[("search", "lamp", 0), ["search", "x", 9]])
        assert result.message == "Search cache cleared for 2 keys"
        left = [cache.get(["search", "lamp", number], tags=["t"]) for number in range(3)]
        assert left == [None, 1, 2]

    def test_a_computation_under_way_is_not_stored(self, cache: SearchCache) -> None:
        backend = Backend("old")
        backend.go_on.clear()
        call = InThread(lambda: cache.get_or_compute("q", backend))
        assert backend.begun.wait(10)
        clear(keys=["q"])
        backend.go_on.set()
        call.result()
        assert another().get("q") is None

    def test_a_computation_that_ends_during_the_clear_is_not_stored(
        self, cache: SearchCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = Backend("old")
        backend.go_on.clear()
        call = InThread(lambda: cache.get_or_compute("q", backend))
        assert backend.begun.wait(10)
        delete = memory.delete_names

        def delete_and_let_it_end(alias: str, names: Any) -> int:
            number = delete(alias, names)
            backend.go_on.set()
            call.result()
            return number

        monkeypatch.setattr(memory, "delete_names", delete_and_let_it_end)
        clear(keys=["q"])
        backend.go_on.set()
        call.result()
        assert another().get("q") is None

    def test_what_can_be_read_once_only_is_enough(self, cache: SearchCache) -> None:
        cache.set("q", 1, tags=["t"])
        assert clear(mode="soft", tags=iter(["t"])).message.startswith("Search cache cleared")
        assert undo_clear(actor=OPERATOR, tags=iter(["t"])).message.startswith("Soft clear undone")  # type: ignore[arg-type]
        assert clear(keys=iter(["q"])).message == "Search cache cleared for 1 key"

    def test_the_row_names_them(self, cache: SearchCache) -> None:
        clear(keys=[["search", 1]])
        row = Operation.objects.get()
        assert row.targets == {"mode": "hard", "tags": [], "keys": ['["search",1]']}
        assert (row.outcome["named"], row.outcome["found"]) == (1, 0)
        assert format_target(row) == 'key ["search",1]'


def stand_in(cache: SearchCache, key: Any, **options: Any) -> Any:
    """Return what a search that fails gets."""
    failing = Backend()
    failing.error = LookupError()
    try:
        return cache.lookup(key, failing, **options).value
    except LookupError:
        return None


class TestSoftly:
    def test_values_with_the_tag_stand_in_and_no_others(self, cache: SearchCache) -> None:
        cache.set("a", "old", tags=["x", "y"])
        cache.set("b", "kept", tags=["y"])
        result = clear(tags=["x", "unused"], mode="soft")
        assert result.message == (
            "Search cache cleared softly for 2 tags: stale results for at most 60 s"
        )
        assert cache.get("a", tags=["x", "y"]) is None
        assert cache.get("b", tags=["y"]) == "kept"
        assert stand_in(another(), "a", tags=["x", "y"]) == "old"
        assert cache.lookup("a", lambda: "new", tags=["x", "y"]).state == "miss"
        assert cache.get("a", tags=["x", "y"]) == "new"
        row = Operation.objects.get()
        assert (row.targets["mode"], row.outcome["in_use"]) == ("soft", 1)

    def test_functions_too(self, cache: SearchCache) -> None:
        cache.set(["f", {"a": 1}], "old")
        clear(functions=["f"], mode="soft")
        assert cache.get(["f", {"a": 1}]) is None
        assert stand_in(cache, ["f", {"a": 1}]) == "old"

    def test_nothing_stands_in_beyond_the_bound(self, settings: Any, kind: str) -> None:
        use_store(settings, kind, SEARCH_CACHE_SOFT_CLEAR_GRACE=0.01)
        cache = another()
        cache.set("a", "old", tags=["x"])
        clear(tags=["x"], mode="soft")
        time.sleep(0.02)
        assert stand_in(cache, "a", tags=["x"]) is None

    @pytest.mark.parametrize("later", ["hard", "tags"])
    def test_a_later_clear_ends_the_stand_in(self, cache: SearchCache, later: str) -> None:
        cache.set("a", "old", tags=["x"])
        clear(tags=["x"], mode="soft")
        clear(**({"tags": ["x"]} if later == "tags" else {}))
        assert stand_in(cache, "a", tags=["x"]) is None

    def test_both_kinds_of_soft_clear_bound_the_same_value(self, cache: SearchCache) -> None:
        cache.set("a", "old", tags=["x"])
        clear(mode="soft")
        clear(tags=["x"], mode="soft")
        assert cache.get("a", tags=["x"]) is None
        assert stand_in(cache, "a", tags=["x"]) == "old"

    def test_an_undo_makes_them_hits_again_and_what_was_stored_since_goes(
        self, cache: SearchCache
    ) -> None:
        cache.set("a", "old", tags=["x"])
        clear(tags=["x"], mode="soft")
        cache.set("b", "since", tags=["x"])
        plan = undo_clear(actor=OPERATOR, tags=["x", "y"], dry_run=True)
        assert plan.message == "Dry run: the last soft clear of 1 of 2 tags would be undone"
        assert cache.get("a", tags=["x"]) is None
        result = undo_clear(actor=OPERATOR, tags=["x", "y"])
        assert result.message == "Soft clear undone for 1 of 2 tags"
        assert cache.get("a", tags=["x"]) == "old"
        assert cache.get("b", tags=["x"]) is None
        with pytest.raises(NothingToUndo):
            undo_clear(actor=OPERATOR, tags=["x"])
        row = Operation.objects.latest("started_at")
        assert (row.kind, row.targets) == ("undo_clear", {"tags": ["x", "y"]})

    def test_an_undo_of_everything_leaves_tags_alone(self, cache: SearchCache) -> None:
        cache.set("a", "old", tags=["x"])
        clear(tags=["x"], mode="soft")
        with pytest.raises(NothingToUndo):
            undo_clear(actor=OPERATOR)

    def test_the_command_undoes_it(self, cache: SearchCache) -> None:
        cache.set(["f", {}], "old")
        call_command("clear_search_cache", "--no-input", "--soft", "--function", "f")
        out = StringIO()
        call_command("undo_clear", "--no-input", "--function", "f", stdout=out)
        assert out.getvalue() == "Soft clear undone for 1 of 1 tag\n"
        assert cache.get(["f", {}]) == "old"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"functions": []}, "functions: name 1 to 100"),
        ({"functions": [""]}, "functions: name 1 to 100"),
        ({"functions": ["f\0"]}, "functions: contains characters"),
        ({"keys": []}, "keys: name 1 to 100 keys, not 0"),
        ({"keys": ["q"], "mode": "soft"}, "keys: a clear by keys is always hard"),
        ({"keys": ["q"], "tags": ["t"]}, "keys: not together with tags or functions"),
        ({"keys": ["q"], "functions": ["f"]}, "keys: not together with tags or functions"),
    ],
)
def test_what_makes_no_sense_is_rejected_and_nothing_is_done(
    cache: SearchCache, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OperationRejected, match=said):
        clear(**options)
    assert not Operation.objects.exists()


@pytest.mark.parametrize("options", [{"functions": "f"}, {"functions": [1]}, {"keys": "q"}])
def test_a_wrong_type_is_an_error_of_the_code(cache: SearchCache, options: Any) -> None:
    with pytest.raises(TypeError):
        clear(**options)


def test_the_command_takes_both(cache: SearchCache) -> None:
    cache.set(["f", {"a": 1}], 1)
    cache.set(["search", 1], 1)
    out = StringIO()
    call_command("clear_search_cache", "--no-input", "--function", "f", "--json", stdout=out)
    assert json.loads(out.getvalue())["message"] == "Search cache cleared for 1 function or tag"
    out = StringIO()
    call_command("clear_search_cache", "--no-input", "--key", '["search", 1]', stdout=out)
    assert out.getvalue() == "Search cache cleared for 1 key\n"
    assert cache.get(["f", {"a": 1}]) is None
    assert cache.get(["search", 1]) is None
    with pytest.raises(CommandError, match="not JSON"):
        call_command("clear_search_cache", "--no-input", "--key", "[search")
