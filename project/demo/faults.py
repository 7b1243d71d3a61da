"""A switch that makes the demo backend fail, for every process on this machine.

The backend reads a small file beside the index with each search; to the cache and the breaker
the fault looks real. The file survives restarts.
"""

import os
import time
from pathlib import Path
from typing import Literal, get_args

from project.files import make_private_folder, open_private

Fault = Literal["off", "on", "slow", "sometimes"]
"""``off``: works. ``on``: each search fails. ``slow``: each search times out. ``sometimes``: fails
for some seconds of each period, counted from when the switch was set."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

TIME_LIMIT = 1.0
"""Seconds until a search without an answer times out."""


class BackendDown(Exception):
    """The backend failed or timed out."""


class FaultSwitch:
    """The switch, a file in the given folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fault"

    def read(self) -> Fault | None:
        """Return the current fault, or None if it was never set."""
        try:
            word = self._path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return next((fault for fault in FAULTS if fault == word), None)

    def set(self, fault: Fault) -> None:
        """Set the fault for all processes, also after restarts.

        Raises:
            OSError: the file cannot be written.
        """
        make_private_folder(self._path.parent)
        draft = self._path.with_suffix(f".{os.getpid()}")
        with open(draft, "w", opener=open_private) as file:
            file.write(f"{fault}\n")
        draft.replace(self._path)

    def raise_fault(self, *, period: float, outage: float) -> None:
        """Raise BackendDown as the switch says; ``slow`` first waits for TIME_LIMIT.

        ``sometimes`` fails for the last ``outage`` seconds of each ``period``.
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
        """Return seconds since the switch was set, the same in all processes; 0 if it never was."""
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
