"""Seconds that something took, whatever else the machine was about."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Counts from its making; not while the test's processes waited for a processor.

    So a bound says how long the code itself takes or waits, on a busy machine as on a quiet one.
    Where the kernel tells nothing of such waits, it counts all seconds.
    """

    def __init__(self) -> None:
        self._waited = _waited_for_a_processor()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        took = time.monotonic() - self._began
        return took - max(0.0, _waited_for_a_processor() - self._waited)


def _waited_for_a_processor() -> float:
    """Return for how many seconds the threads of this process and its children waited so far."""
    waited = 0
    for schedstat in _threads(os.getpid()):
        with suppress(OSError):  # one that has ended meanwhile
            waited += int(schedstat.read_text().split()[1])
    return waited / 1e9


def _threads(process: int) -> Iterator[Path]:
    for thread in Path(f"/proc/{process}/task").glob("*"):
        yield thread / "schedstat"
        with suppress(OSError):
            for child in (thread / "children").read_text().split():
                yield from _threads(int(child))
