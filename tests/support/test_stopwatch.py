"""A bound on time holds on a busy machine too: all counts but the wait for a processor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.stopwatch import Stopwatch


@pytest.fixture
def a_busy_core() -> Iterator[None]:
    """Leave this process one core, which others use too."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    program = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(program) for _ in range(3)]
    yield
    for other in others:
        other.kill()
        other.wait()
    os.sched_setaffinity(0, cores)


def test_it_counts_what_the_test_itself_waits_for() -> None:
    watch = Stopwatch()
    time.sleep(0.3)
    assert watch.seconds > 0.2  # other threads of the process wait for a processor meanwhile


@pytest.mark.usefixtures("a_busy_core")
def test_it_does_not_count_the_wait_for_a_processor() -> None:
    watch, began, worked = Stopwatch(), time.monotonic(), time.process_time()
    while time.process_time() - worked < 0.2:
        pass
    assert time.monotonic() - began > 0.3
    assert watch.seconds < 0.3
