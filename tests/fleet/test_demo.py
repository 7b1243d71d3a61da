"""The demonstration's index is built once, whoever wants it and however many they are."""

import os
import time
from pathlib import Path

from project.demo.index import Index
from tests.fleet.crew import Crew

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
