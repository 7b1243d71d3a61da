"""The demonstration's search in several processes: one index, shared results, shared faults."""

import http.client
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from project.demo.index import Index
from tests.fleet.deployments import Deployment
from tests.support.crew import Crew

PROCESSES = 6


def build_and_search(folder: str) -> tuple[bool, int, float]:
    began = time.monotonic()
    index = Index(Path(folder))
    built = index.build()
    return built, index.search(["kettle"]).count, time.monotonic() - began


def search(folder: str) -> int:
    return Index(Path(folder)).search(["kettle"]).count


def test_of_several_processes_one_builds_it_and_all_find_the_same(tmp_path: Path) -> None:
    with Crew(PROCESSES) as crew:
        for number in range(5):
            folder = tmp_path / f"demo-{number}"
            seen = crew.ask_all(build_and_search, str(folder))
            assert sorted(built for built, _, _ in seen) == [False] * (PROCESSES - 1) + [True]
            assert {count for _, count, _ in seen} == {search(str(folder))} != {0}
            assert max(seconds for _, _, seconds in seen) < 2
            assert sorted(os.listdir(folder)) == ["products-1.lock", "products-1.sqlite3"]


def test_one_that_is_gone_or_half_there_is_built_anew_for_all(tmp_path: Path) -> None:
    index = Index(tmp_path)
    with Crew(PROCESSES) as crew:
        expected = crew.ask_all(search, str(tmp_path))
        assert set(expected) != {0}
        for _ in range(5):
            index.path.unlink()
            index.path.with_suffix(".draft").write_bytes(b"of a process that was killed")
            assert crew.ask_all(search, str(tmp_path)) == expected


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "site")
    deployment.environment["DEMO_SEARCH"] = "on"
    try:
        deployment.prepare()
        deployment.serve(workers=3)
        yield deployment
    finally:
        deployment.close()


def get(deployment: Deployment, query: str) -> tuple[int, str | None]:
    """Search over HTTP; return the status and where the result is from."""
    connection = http.client.HTTPConnection("127.0.0.1", deployment.port, timeout=20)
    try:
        connection.request("GET", f"/api/v1/search?q={query}")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["X-Cache"]
    finally:
        connection.close()


def test_workers_share_results_clears_and_faults(deployment: Deployment) -> None:
    deployment.manage("reset_circuit_breakers", "--no-input")
    with ThreadPoolExecutor(12) as visitors:
        list(visitors.map(lambda _: get(deployment, "pot"), range(24)))  # all connect
        seen = list(visitors.map(lambda _: get(deployment, "kettle"), range(24)))
    assert sorted(seen) == [(200, "hit")] * 23 + [(200, "miss")]
    assert deployment.post("/api/v1/analytics/cache/clear")[0] == 200
    assert get(deployment, "kettle") == (200, "miss")
    assert deployment.manage("demo_fault", "on").returncode == 0
    assert {get(deployment, f"pan+{number}") for number in range(12)} == {(503, None)}
    assert get(deployment, "kettle") == (200, "hit")
