"""The switch by which the demonstration's backend fails, for every process on this machine.

A small file beside the index: the backend itself reads it with each search, so neither the cache
nor the breaker knows that the fault is on purpose. What it says is kept until it is set anew.
"""

import os
import time
from pathlib import Path
from typing import Literal, get_args

from project.files import make_private_folder

Fault = Literal["off", "on", "slow", "sometimes"]
"""``off``: it works. ``on``: each search fails. ``slow``: none answers in time. ``sometimes``: it
fails for some seconds of each minute or so, from when the switch was set."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

TIME_LIMIT = 1.0
"""Seconds after which a search that has no answer is given up."""


class BackendDown(Exception):
    """The backend does not answer, or not in time."""


class FaultSwitch:
    """The switch in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fault"

    def read(self) -> Fault | None:
        """Return how it stands, None if nobody has set it; the backend works then."""
        try:
            word = self._path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return next((fault for fault in FAULTS if fault == word), None)

    def set(self, fault: Fault) -> None:
        """Have it stand so from now on, also after restarts.

        Raises:
            OSError: the file cannot be written.
        """
        make_private_folder(self._path.parent)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(f"{fault}\n")
        draft.replace(self._path)

    def raise_fault(self, *, period: float, outage: float) -> None:
        """Fail if the switch says so; ``sometimes`` in the outage (seconds) that ends each period.

        Raises:
            BackendDown
        """
        match self.read():
            case "on":
                raise BackendDown("the backend is switched off (manage.py demo_fault)")
            case "slow":
                time.sleep(TIME_LIMIT)
                raise BackendDown(f"no answer within {TIME_LIMIT:g} s (manage.py demo_fault)")
            case "sometimes" if self._age() % period > period - outage:
                raise BackendDown("the backend is down, as it is now and then")

    def _age(self) -> float:
        """Return seconds since it was set: for all processes alike, and healthy at first."""
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
