"""What the programs of a run have in common: what they are told at their start, and their end."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.chaos.plan import Plan, draw
from tests.support.history.events import HistoryFile

VARIABLE = "CHAOS"
POLICY: dict[str, Any] = {
    "failure_threshold": 5,
    "wait_duration_in_open_state": 1.0,
    "permitted_number_of_calls_in_half_open_state": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a program is told: its name, where to write, and what the plan is drawn from."""

    process: str
    folder: str
    seed: int
    seconds: float
    busy: float
    calm: float

    def plan(self) -> Plan:
        return draw(self.seed, self.seconds, busy=self.busy, calm=self.calm)

    def history(self) -> HistoryFile:
        return HistoryFile(Path(self.folder) / f"{self.process}.jsonl")


def orders() -> Orders:
    """Return what this program was told."""
    return Orders(**json.loads(os.environ[VARIABLE]))


def ready() -> None:
    """Tell the driver that the program has begun."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


class Health:
    """The second of the round, as the driver last told it, by which backends fail."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._began = plan, time.monotonic()
        self.over = threading.Event()

    def listen(self, heard: Callable[[], None] = lambda: None) -> None:
        """Take what the driver says: when a round began. The end of the input is the end."""
        for line in sys.stdin:
            self._began = float(line)
            heard()
        self.over.set()

    def failing(self, name: str) -> float:
        return self._plan.failing(name, time.monotonic() - self._began)
