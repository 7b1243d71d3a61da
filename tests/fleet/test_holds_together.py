"""Of two operators who act at the same instant on what both have seen, exactly one is obeyed."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations_with_replacement

import pytest

from tests.fleet import callers
from tests.fleet.deployments import Deployment
from tests.fleet.doors import API, DONE, MOVED, Admin, Answer, Command, Door, Rest

ROUNDS = 10
HEAD_START = 0.02
"""Seconds by which one of the two may be ahead: the doors differ in what comes before the act."""
CONTROLS = ("forced_open", "disabled")
"""What the first and the second operator want."""
PAIRS = list(combinations_with_replacement(("rest", "command", "admin"), 2))
LOST = "the breaker has changed meanwhile"


@pytest.fixture(scope="module")
def operators(staffed: Deployment) -> Iterator[dict[str, tuple[Door, Door]]]:
    """Two operators at each door."""
    with Command(staffed) as first, Command(staffed) as second:
        for pair in PAIRS:
            first.worker.ask(callers.open_for_an_hour, ".".join(pair))
        yield {
            "rest": (Rest(staffed), Rest(staffed, user="olga")),
            "command": (first, second),
            "admin": (Admin(staffed), Admin(staffed, user="olga")),
        }


class Race:
    """Two operators, each ready to hold the same breaker, each in a way of its own."""

    def __init__(self, doors: tuple[Door, Door]) -> None:
        self._doors = doors
        self._together = threading.Barrier(2)

    def run(self, threads: ThreadPoolExecutor, name: str, head_start: float) -> list[Answer]:
        """Return both answers; the first operator acts ``head_start`` seconds earlier."""
        acts = [
            door.ready_to_hold(name, control, 900)
            for door, control in zip(self._doors, CONTROLS, strict=True)
        ]
        delays = (max(0.0, -head_start), max(0.0, head_start))
        return list(threads.map(self._act, acts, delays, timeout=30))

    def _act(self, act: Callable[[], Answer], delay: float) -> Answer:
        self._together.wait(20)
        time.sleep(delay)
        return act()


@pytest.mark.parametrize("pair", PAIRS, ids=".".join)
def test_one_of_two_operators_is_obeyed_and_the_other_is_told_that_it_has_moved(
    staffed: Deployment, operators: dict[str, tuple[Door, Door]], pair: tuple[str, str]
) -> None:
    name = ".".join(pair)
    race = Race((operators[pair[0]][0], operators[pair[1]][1]))
    with ThreadPoolExecutor(2) as threads:
        for _ in range(ROUNDS):
            before = len(staffed.rows())
            answers = race.run(threads, name, random.uniform(-HEAD_START, HEAD_START))
            assert sorted(answer.outcome for answer in answers) == [DONE, MOVED], answers
            wanted = dict(zip((answer.outcome for answer in answers), CONTROLS, strict=True))
            _, _, now = staffed.send("GET", f"{API}/{name}")
            rows = staffed.rows("status", "error", "actor", "targets")[before:]
            (_, _, obeyed, targets), _ = sorted(rows)
            assert sorted(row[:2] for row in rows) == [("done", ""), ("failed", LOST)]
            assert json.loads(targets)["control"] == wanted[DONE]
            assert (now["control"], now["held_by"]) == (wanted[DONE], obeyed)
