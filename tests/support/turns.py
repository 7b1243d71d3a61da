"""Turns on one machine: processes run tests side by side, but for those that go by short waits.

It knows nothing of what is tested.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """One process' part in the turns of all that name the same folder."""

    def __init__(self, folder: Path) -> None:
        self._queue = (folder / "queue").open("a")
        self._machine = (folder / "machine").open("a")

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait until the machine is free: of every other turn, or of those that want it alone."""
        fcntl.flock(self._queue, fcntl.LOCK_EX)  # while one waits, none comes in before it
        fcntl.flock(self._machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._machine, fcntl.LOCK_UN)
