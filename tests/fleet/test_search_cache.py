"""The search cache of several real processes: one computes, and nothing outdated comes back."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching.epochs import record_key
from tests.fleet import search_cache_tasks as tasks
from tests.support.crew import Crew

PROCESSES = 4


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        yield crew


@pytest.fixture(autouse=True)
def _ready(crew: Crew) -> None:
    for worker in crew.workers:
        worker.ask(tasks.configure)
        worker.ask(tasks.warm_up)
        worker.ask(tasks.counts)


def store() -> Any:
    return caches["search"].client.get_client(write=True)


@pytest.mark.parametrize("call", [tasks.call_from_threads, tasks.call_from_tasks])
def test_one_of_two_hundred_callers_computes_and_all_are_served_soon(crew, call):
    seen = crew.ask_all(call, "cold", 0.2)
    assert sum(each["computed"] for each in seen) == 1
    assert set().union(*(each["values"] for each in seen)) == {"found"}
    assert max(each["slowest"] for each in seen) < 0.4 + 0.3  # the machine's own slack
    counts = [worker.ask(tasks.counts) for worker in crew.workers]
    assert sum(each.fills for each in counts) == 1
    assert sum(each.hits for each in counts) == PROCESSES * tasks.THREADS - 1


@pytest.mark.parametrize("tags", [(), ("x", "y")])
@pytest.mark.parametrize("act", ["clear", "clear tags", "flushall", "record lost"])
def test_a_result_in_flight_is_refused_after_a_clear(crew, act, tags):
    one, other = crew.workers[:2]
    one.ask(tasks.begin_to_compute, "q", "old", 0.3, tags)
    match act:
        case "clear":
            other.ask(tasks.clear)
        case "clear tags":
            other.ask(tasks.clear_tags, list(tags) or ["none"])
        case "flushall":
            store().flushall()
        case "record lost":
            store().delete(record_key("search"))
    assert one.ask(tasks.end_computing) == ["old"]
    kept = act == "clear tags" and not tags
    assert other.ask(tasks.get, "q", tags) == ("old" if kept else None)
    assert one.ask(tasks.counts).refused_fills == (not kept)


def test_a_value_from_before_a_lost_record_never_counts_again(crew):
    one, other = crew.workers[:2]
    assert one.ask(tasks.get_or_compute, "q", "old")[:2] == ("old", "miss")
    store().delete(record_key("search"))
    assert other.ask(tasks.get, "q") is None
    assert other.ask(tasks.get_or_compute, "r", 1)[1] == "miss"
    assert one.ask(tasks.get, "q") is None
    assert one.ask(tasks.get_or_compute, "q", "new")[:2] == ("new", "miss")
    assert other.ask(tasks.get_or_compute, "q", "never")[:2] == ("new", "hit")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"accepted": []}', b"[1]", b"\xff"])
def test_a_damaged_record_is_drawn_anew(crew, damage):
    one, other = crew.workers[:2]
    one.ask(tasks.get_or_compute, "q", "old")
    store().set(record_key("search"), damage)
    assert other.ask(tasks.get_or_compute, "q", "new")[:2] == ("new", "miss")
    assert one.ask(tasks.get_or_compute, "q", "never")[:2] == ("new", "hit")


def test_keys_of_another_type_are_replaced(crew):
    worker = crew.workers[0]
    worker.ask(tasks.get_or_compute, "q", "old", ("x",))
    for key in store().keys("*"):
        store().delete(key)
        store().lpush(key, "damage")
    assert worker.ask(tasks.get_or_compute, "q", "new", ("x",))[:2] == ("new", "miss")
    assert worker.ask(tasks.get_or_compute, "q", "never", ("x",))[:2] == ("new", "hit")


def test_a_lost_tag_epoch_makes_its_values_absent_for_good(crew):
    one, other = crew.workers[:2]
    one.ask(tasks.get_or_compute, "q", "old", ("x",))
    for key in store().keys("*tag:*"):
        store().delete(key)
    assert other.ask(tasks.get, "q", ("x",)) is None
    assert other.ask(tasks.get_or_compute, "r", 1, ("x",))[1] == "miss"
    assert other.ask(tasks.get, "q", ("x",)) is None


def test_when_the_owner_of_a_lease_is_killed_another_takes_over():
    with Crew(3) as crew:
        for worker in crew.workers:
            worker.ask(tasks.configure)
            worker.ask(tasks.warm_up)
            worker.ask(_short_lease)
        doomed, *others = crew.workers
        doomed.ask(tasks.begin_to_compute, "q", "never", 60)
        doomed.kill()
        for worker in others:
            worker.tell(tasks.get_or_compute, "q", "second")
        answers = [worker.answer() for worker in others]
    assert [answer[0] for answer in answers] == ["second"] * 2
    assert sorted(answer[1] for answer in answers) == ["hit", "miss"]
    assert max(answer[2] for answer in answers) < 3


def _short_lease() -> None:
    tasks.configure(SEARCH_CACHE_LEASE=1)


def test_no_version_goes_back_over_twenty_clears_at_traffic(crew, tmp_path: Path):
    for name in ("version", "cleared"):
        (tmp_path / name).write_text("0")
    *searching, clearing = crew.workers
    for worker in searching:
        worker.tell(tasks.search_while_cleared, 4.0, str(tmp_path))
    for version in range(1, 21):
        time.sleep(0.15)
        clearing.ask(tasks.raise_version_and_clear, str(tmp_path), version)
    seen = [worker.answer() for worker in searching]
    assert sum(each["outdated"] for each in seen) == 0
    assert sum(each["calls"] for each in seen) > 1000
    # Up to two per version: one that a clear caught in flight, and one under the new epoch.
    computed = [path.read_text().split() for path in tmp_path.glob("computed-*")]
    assert len(computed) == 20
    assert max(versions.count(each) for versions in computed for each in versions) <= 2
