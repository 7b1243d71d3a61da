"""The story of an outage, from the first failure to the healed backend, tells itself right."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fleet.incident import POLICY, PROCESSES, Incident, Line
from tests.support.crew import PATIENCE, Crew
from tests.support.sites import ROOT

STORY = [
    "BACKEND UP",
    "BACKEND DOWN",
    "closed -> open (consecutive_failures)",
    "open -> half_open (wait_over)",
    "half_open -> open (probe_failed)",
    "BACKEND UP",
    "open -> half_open (wait_over)",
    "half_open -> closed (probes_succeeded)",
]


@pytest.fixture(scope="module")
def story() -> Iterator[list[Line]]:
    with Crew(len(PROCESSES)) as crew:
        incident = Incident(crew, lambda line: None)
        incident.unfold()
        yield incident.lines


def events(lines: list[Line]) -> list[str]:
    return [line.event for line in lines if not line.states]


def test_the_backend_fails_the_breaker_trips_probes_and_heals(story: list[Line]) -> None:
    assert events(story) == STORY


def test_every_process_sees_each_state_that_lasts(story: list[Line]) -> None:
    seen = [line.states for line in story if line.states]
    alike = [states[0] for states in seen if len(set(states)) == 1]
    lasting = [state for state in alike if state != "half_open"]
    changes = [new for old, new in zip(["", *lasting], lasting, strict=False) if new != old]
    assert changes == ["closed", "open", "closed"]
    assert seen[-1] == ("closed",) * len(PROCESSES)


def test_it_stays_open_for_the_wait_and_longer_the_second_time(story: list[Line]) -> None:
    moves = [line.at for line in story if "->" in line.event]
    first_wait, second_wait = moves[1] - moves[0], moves[3] - moves[2]
    wait, multiplier = (
        POLICY["wait_duration_in_open_state"],
        POLICY["open_state_backoff_multiplier"],
    )
    assert first_wait >= wait
    assert second_wait >= wait * multiplier


def test_the_program_prints_the_story() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fleet.incident"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = done.stdout.splitlines()
    told = [line.split(" s  ", 1)[1] for line in lines if not any(p in line for p in PROCESSES)]
    assert told == STORY
    assert all(f"{process} closed" in lines[-1] for process in PROCESSES)
