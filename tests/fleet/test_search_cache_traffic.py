"""The search cache at full traffic: what was computed before a clear is never served after it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import search_cache
from analytics_admin.caching.clear import hard
from analytics_admin.caching.epochs import record_key
from tests.fleet import search_cache_tasks as tasks
from tests.support import search_cache_traffic as traffic
from tests.support.crew import Crew
from tests.support.search_backend import Backend
from tests.support.search_cache_traffic import Request, Traffic

PROCESSES = 4
RATE = 2000
"""Requests per second of all processes."""
CLEARS = 10
PAUSE = 0.3
SOON = 0.02
"""Seconds to every second clear: it catches the computations that the first one caused."""


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        for worker in crew.workers:
            worker.ask(tasks.warm_up)
            worker.ask(traffic.note_grants)
        yield crew


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend(slots=64, seconds=0.015) as backend:
        yield backend


def store() -> Any:
    return caches["search"].client.get_client(write=True)


def begin(crew: Crew, backend: Backend, seconds: float, *tags: tuple[str, ...]) -> float:
    """Have each process begin its traffic, with these tags; return when it starts."""
    for worker in crew.workers:
        worker.ask(traffic.take_grants)
    start = time.monotonic() + 0.3
    for worker, its_tags in zip(crew.workers, tags, strict=True):
        plan = Traffic(
            way="ours",
            backend=backend.path,
            start=start,
            seconds=seconds,
            rate=RATE / PROCESSES,
            queries=50,
            threads=32,
            tags=its_tags,
        )
        worker.tell(traffic.send, plan)
    return start


def clear_again_and_again(
    backend: Backend, start: float, clear: Callable[[], object]
) -> list[tuple[float, int]]:
    """Change the backend's data, then clear, ...; return when each version was the least."""
    done = []
    for version in range(1, CLEARS + 1):
        at = start + (version + 1) // 2 * PAUSE + (version % 2 == 0) * SOON
        time.sleep(max(0.0, at - time.monotonic()))
        backend.version = version
        clear()
        done.append((time.monotonic(), version))
    return done


def answers(crew: Crew) -> list[Request]:
    return [request for worker in crew.workers for request in worker.answer()]


def grants(crew: Crew) -> Counter[tuple[str, str]]:
    return Counter(grant for worker in crew.workers for grant in worker.ask(traffic.take_grants))


def outdated(requests: list[Request], done: list[tuple[float, int]]) -> list[Request]:
    """Return the requests that began after a clear and were answered from before it."""
    return [
        request
        for request in requests
        if request.version < max([0, *(version for at, version in done if at <= request.began)])
    ]


CLEARINGS: dict[str, Callable[[], object]] = {
    "clear": hard.clear,
    "clear by tag": lambda: search_cache.clear_tags(["products"]),
    "flushall": lambda: store().flushall(),
    "record evicted": lambda: store().delete(record_key("search")),
    "tag epoch evicted": lambda: store().delete(*store().keys("*tag:*")),
}


@pytest.mark.parametrize("clearing", CLEARINGS)
def test_nothing_from_before_a_clear_is_served_after_it_at_two_thousand_requests_a_second(
    crew, backend, clearing
):
    tags = ("brands", "products") if "tag" in clearing else ()
    start = begin(crew, backend, CLEARS / 2 * PAUSE + 0.5, *[tags] * PROCESSES)
    done = clear_again_and_again(backend, start, CLEARINGS[clearing])
    requests = answers(crew)
    assert outdated(requests, done) == []
    assert {request.version for request in requests} >= set(range(2, CLEARS + 1, 2))
    assert len(requests) > 0.9 * RATE * CLEARS / 2 * PAUSE
    # One computation for each key and epoch, however many asked.
    taken = grants(crew)
    assert set(taken.values()) == {1}
    assert len(backend.log) == len(taken)


def test_a_caller_that_forgets_a_tag_neither_sees_nor_keeps_the_values_of_those_who_do_not(crew):
    """A call with other tags than the value's is a miss: it cannot serve what a tag cleared."""
    careful, careless = crew.workers[:2]
    careful.ask(tasks.get_or_compute, "q", "old", ("products",))
    assert careless.ask(tasks.get_or_compute, "q", "untagged")[:2] == ("untagged", "miss")
    assert careful.ask(tasks.get, "q", ("products",)) is None
    assert careful.ask(tasks.get_or_compute, "q", "tagged", ("products",))[1] == "miss"
    assert careless.ask(tasks.get, "q") is None
    careless.ask(tasks.clear_tags, ["products"])
    assert careful.ask(tasks.get_or_compute, "q", "new", ("products",))[:2] == ("new", "miss")


def test_of_callers_with_and_without_a_tag_at_traffic_none_meets_what_the_tag_cleared(
    crew, backend
):
    products = ("products",)
    start = begin(crew, backend, CLEARS / 2 * PAUSE + 0.5, products, products, products, ())
    done = clear_again_and_again(backend, start, CLEARINGS["clear by tag"])
    *careful, careless = [worker.answer() for worker in crew.workers]
    assert outdated([request for requests in careful for request in requests], done) == []
    assert {request.version for request in careless} != {0}  # it did not live on its own values
