"""Four processes of a site that call and search all the time, while a test troubles their store."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.ways import Way, start_program

RETRY = 1.0
"""STORE_RETRY_INTERVAL of these sites."""
FIRST_CALLS = 2
"""Rounds of a process that look at the store for the first time."""
OWN_SETTINGS = f"ANALYTICS_ADMIN['STORE_RETRY_INTERVAL'] = {RETRY}"


class Fleet:
    """The processes; ``end`` returns what each has met, round by round."""

    def __init__(self, folder: Path, way: Way, processes: int) -> None:
        way = replace(way, more=f"{way.more}\n{OWN_SETTINGS}")
        module = "tests.support.steady_calls"
        self._processes = [start_program(folder, way, module) for _ in range(processes)]
        self._first = [_line(process) for process in self._processes]

    def end(self) -> list[list[dict[str, Any]]]:
        logs = []
        for process, first in zip(self._processes, self._first, strict=True):
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
            logs.append([json.loads(line) for line in (first, *out.splitlines())])
        return logs

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def fleet_of(folder: Path, way: Way, *, processes: int = 4) -> Iterator[Fleet]:
    fleet = Fleet(folder, way, processes)
    try:
        yield fleet
    finally:
        fleet.close()


def _line(process: "subprocess.Popen[str]") -> str:
    """Return what the process tells of its first round, by which it has begun."""
    assert process.stdout is not None
    return process.stdout.readline()


def slowest(log: list[dict[str, Any]], part: str) -> float:
    """Return the longest that a call took, less what the machine kept its process from running."""
    return max(round_[part] - round_["waited"] for round_ in log[FIRST_CALLS:])


def last_without_store(log: list[dict[str, Any]], *, after: float) -> float:
    """Return when the last round began that went without one of the stores."""
    lost = [it["at"] for it in log if it["at"] > after and (it["alone"] or it["met"] == "bypass")]
    return max([after, *lost])
