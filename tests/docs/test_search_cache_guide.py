"""The guide to the search cache tells the truth: its examples work, its figures are all there."""

import asyncio
import threading
import time
from typing import Any

import pytest
from django.test import RequestFactory

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.caching import search_cache
from analytics_admin.caching.inspection.survey import SIZE_SAMPLE_KEYS
from analytics_admin.caching.statistics import reporter
from analytics_admin.services.search_cache.queries import MAX_HISTORY_MINUTES
from analytics_admin.stores import latency
from analytics_admin.testing import simulated_breakers
from tests.docs.pages import blocks_by_section, read, sections
from tests.support.search_caches import use_store
from tests.support.sites import eventually

GUIDE = read("howto/cache-searches.md")
BLOCKS = blocks_by_section(GUIDE, "python")
# As they are: the tests' fixtures make the engine patient.
MAX_WAIT_SECONDS, SLOW_ANSWER_SECONDS = latency.MAX_WAIT_SECONDS, latency.SLOW_ANSWER_SECONDS
SILENT_SECONDS = latency.SILENT_SECONDS


@pytest.fixture(autouse=True, params=["redis", "memory"])
def _store(request: pytest.FixtureRequest, settings: Any) -> None:
    use_store(settings, request.param)


def example(heading: str) -> dict[str, Any]:
    """Run the section's only example like a module; return the names that it defines."""
    (block,) = BLOCKS[heading]
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block, f"docs, {heading}", "exec"), names)
    return names


def test_every_example_is_run_here() -> None:
    assert {heading for heading, blocks in BLOCKS.items() if blocks} == {
        "Cache one call",
        "Cache a function",
        "Answer with JSON",
        "Clear a part",
        "Keep hot results near",
        "Serve stale values",
        "Refresh in the background",
        "When the store is away",
    }


def test_their_numbers_are_the_codes() -> None:
    outage = " ".join(sections(read("explanation/outages.md"))["The search cache's store"].split())
    assert f"of an answer {SILENT_SECONDS} s at most" in outage
    assert f"for {MAX_WAIT_SECONDS} s in all" in outage
    assert f"first, waits {MAX_WAIT_SECONDS} s at most" in outage
    assert f"each over {SLOW_ANSWER_SECONDS * 1000:.0f} ms" in outage
    figures = read("reference/figures.md")
    assert reporter.INTERVAL == 10
    assert "every ten seconds" in figures
    assert f"from up to {SIZE_SAMPLE_KEYS} of them" in figures
    asked = f"at most {MAX_HISTORY_MINUTES}."
    assert asked in read("reference/commands.md")
    assert f"0 to {MAX_HISTORY_MINUTES}." in read("reference/rest.md")


def test_one_call_is_computed_once() -> None:
    names = example("Cache one call")
    assert names["first"] == names["second"] == {"results": ["lamp"], "page": 1}
    assert names["asked"] == [("lamp", 1)]


def test_a_function_tells_where_its_values_come_from() -> None:
    names = example("Cache a function")
    states = [names[name].state for name in ("first", "again", "after")]
    assert states == ["miss", "hit", "miss"]
    assert names["first"].value == names["again"].value == {"count": 4}
    assert asyncio.run(names["show"]("lamp")) == 4


def test_a_view_answers_with_the_json_that_is_stored() -> None:
    view = example("Answer with JSON")["view"]
    for state in ("miss", "hit"):
        response = view(RequestFactory().get("/", {"q": "lamp"}))
        assert (response.content, response["X-Cache"]) == (b'{"results":["lamp"]}', state)


def test_a_near_result_is_the_stored_one() -> None:
    names = example("Keep hot results near")
    assert names["first"] == names["second"] == ["oslo"]


def test_a_tag_ends_its_values_alone() -> None:
    names = example("Clear a part")
    assert (names["oslo"], names["bergen"]) == (None, ["bergen"])


def test_an_open_circuit_is_answered_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated_breakers() as breakers:
        find = example("Serve stale values")["find"]
        assert find("lamp") == ["lamp"]
        breakers.trip("engine")
        assert find("lamp") == ["lamp"]
        with pytest.raises(CircuitOpenError):
            find("chair")


def test_a_search_in_the_background_is_the_callers_tenants(settings: Any) -> None:
    names = example("Refresh in the background")
    here, found = names["here"], []

    def search() -> str:
        found.append((here.tenant, threading.current_thread() is threading.main_thread()))
        return "rows"

    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_BACKGROUND_CONTEXT": names["in_tenant"]}
    options: dict[str, Any] = {"timeout": 0.001, "stale_for": 60, "background": True}
    here.tenant = "oslo"
    for _ in range(2):
        search_cache.get_or_compute("rows", search, **options)
        time.sleep(0.005)
    assert eventually(lambda: found == [("oslo", True), ("oslo", False)])


def test_a_tag_that_could_not_be_cleared_is_noted(settings: Any) -> None:
    names = example("When the store is away")
    names["note_change"]("oslo")
    assert names["still_old"] == []
    away = {**settings.CACHES["breakers"], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, "search": away}
    names["note_change"]("oslo")
    assert names["still_old"] == ["oslo"]
