"""The guide to the search cache tells the truth: its examples work, its figures are all there."""

import asyncio
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.caching.inspection.survey import SIZE_SAMPLE_KEYS
from analytics_admin.caching.statistics import reporter
from analytics_admin.caching.statistics.queries import Load
from analytics_admin.services import MAX_HISTORY_MINUTES, SearchCacheCounts, SearchCacheStatus
from analytics_admin.stores import latency
from analytics_admin.testing import simulated_breakers
from tests.support.search_caches import use_store

GUIDE = (Path(__file__).parents[2] / "docs" / "search_cache.md").read_text()
BLOCKS = {
    section.splitlines()[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in re.split(r"^#+ ", GUIDE, flags=re.MULTILINE)[1:]
}
# As they are: the tests' fixtures make the engine patient.
MAX_WAIT_SECONDS, SLOW_ANSWER_SECONDS = latency.MAX_WAIT_SECONDS, latency.SLOW_ANSWER_SECONDS


@pytest.fixture(autouse=True, params=["redis", "memory"])
def _store(request: pytest.FixtureRequest, settings: Any) -> None:
    use_store(settings, request.param)


def example(heading: str) -> dict[str, Any]:
    """Run the section's only example like a module; return the names that it defines."""
    (block,) = BLOCKS[heading]
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block, f"docs/search_cache.md, {heading}", "exec"), names)
    return names


def table(head: str) -> str:
    return GUIDE.split(head)[1].split("\n\n")[0]


def test_every_example_is_run_here() -> None:
    assert {heading for heading, blocks in BLOCKS.items() if blocks} == {
        "Cache one call",
        "Cache a function",
        "Clear a part",
        "Serve stale values",
        "When the store is away",
    }


@pytest.mark.parametrize("figure", [item.name for item in fields(SearchCacheStatus)])
def test_every_figure_has_its_meaning(figure: str) -> None:
    assert f"`{figure}`" in table("| figure | meaning |")


@pytest.mark.parametrize("count", [item.name for item in fields(SearchCacheCounts)])
def test_every_count_has_its_meaning(count: str) -> None:
    assert f"| `{count}` |" in table("| count | meaning |")


@pytest.mark.parametrize("figure", [item.name for item in fields(Load)])
def test_every_figure_of_the_load_has_its_meaning(figure: str) -> None:
    assert f"| `{figure}` |" in table("| `load` | meaning |")


def test_its_figures_are_the_codes() -> None:
    assert f"for the store {MAX_WAIT_SECONDS} s at most" in GUIDE
    assert f"each over {SLOW_ANSWER_SECONDS * 1000:.0f} ms" in GUIDE
    assert reporter.INTERVAL == 10
    assert "every ten seconds" in GUIDE
    assert f"at most {MAX_HISTORY_MINUTES})" in GUIDE
    assert f"up to {SIZE_SAMPLE_KEYS}" in GUIDE


def test_one_call_is_computed_once() -> None:
    names = example("Cache one call")
    assert names["first"] == names["second"] == {"results": ["lamp"], "page": 1}
    assert names["asked"] == [("lamp", 1)]


def test_a_function_tells_where_its_values_come_from() -> None:
    names = example("Cache a function")
    states = [names[name].state for name in ("lookup", "again", "after")]
    assert states == ["miss", "hit", "miss"]
    assert names["lookup"].value == names["again"].value == {"count": 4}
    assert asyncio.run(names["show"]("lamp")) == 4


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


def test_a_tag_that_could_not_be_cleared_is_noted(settings: Any) -> None:
    names = example("When the store is away")
    names["note_change"]("oslo")
    assert names["still_old"] == []
    away = {**settings.CACHES["breakers"], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, "search": away}
    names["note_change"]("oslo")
    assert names["still_old"] == ["oslo"]
