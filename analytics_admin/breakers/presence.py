"""Which processes use breakers, and up to which move of the fleet's breakers each has read.

Every move that all processes have to hear of has a number, the store's *sequence*. A process
acknowledges the newest one that it has read: from then on its calls obey it.
"""

import hashlib
import os
import random
import socket
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from analytics_admin import __version__
from analytics_admin.breakers.history import MAX_NAME_CHARS

PRESENT_SECONDS = 5.0
"""Interval at which a process tells that it is there."""
SILENT_SECONDS = 6.0
"""A process that was not heard of for longer is silent: nobody waits for it."""
GONE_SECONDS = 15.0
"""A process that was not heard of for longer is no longer counted."""
MAX_PROCESSES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that uses breakers. Times are the store's, in seconds."""

    process_id: str
    host: str
    pid: int
    release: str
    """Version of this package."""
    policies: str
    """A short hash: equal in processes that declare the same breakers with the same policies."""
    since: float = 0.0
    """When it was first heard of; 0 before that."""
    seen_at: float = 0.0
    acknowledged: int = 0
    """The newest move that it has read."""
    hears: bool = False
    """Whether it gets moves pushed; else it reads them each SYNC_INTERVAL."""


class PresenceStore(Protocol):
    """The part of a store that knows the processes."""

    def present(self, process: Process) -> tuple[float, int]:
        """Write down that the process is there; return the store's time and its sequence.

        A ``since`` of 0 stands for now. Drops processes not heard of for GONE_SECONDS.
        """

    def processes(self) -> tuple[float, int, list[Process]]:
        """Return the store's time, its sequence, and the processes heard of in GONE_SECONDS."""

    def withdraw(self, process_id: str) -> None:
        """Forget a process; it has ended."""


class Presence:
    """What this process tells of itself, and when. ``policies`` returns its policies' hash."""

    def __init__(self, policies: Callable[[], str] = str) -> None:
        self._policies = policies
        self.after_fork()

    def after_fork(self) -> None:
        """Be another process, which is not written down yet."""
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._written: tuple[int, bool] | None = None
        self.has_left = False
        """Whether it has told that it ends."""
        self.due_at = float("-inf")
        """When to tell again what is known already (monotonic)."""

    @property
    def is_written(self) -> bool:
        """Whether the store may know this process."""
        return self._written is not None

    def due(self, now: float, acknowledged: int, *, hears: bool = False) -> bool:
        """Return whether there is something to tell at monotonic ``now``."""
        return now >= self.due_at or (acknowledged, hears) != self._written

    def write(self, store: PresenceStore, now: float, acknowledged: int, *, hears: bool) -> int:
        """Tell the store, and return its sequence.

        Raises:
            StoreUnavailable
        """
        with self._lock:
            told = replace(
                self._process or _this_process(),
                policies=self._policies(),
                acknowledged=acknowledged,
                hears=hears,
            )
            store_now, sequence = store.present(told)
            self._process = told if told.since else replace(told, since=store_now)
            self._written = acknowledged, hears
            self.due_at = now + PRESENT_SECONDS * random.uniform(0.95, 1.1)
            return sequence

    def forget(self) -> None:
        """Tell the store again: it may have changed."""
        self._written, self.has_left = None, False

    def withdraw(self, store: PresenceStore) -> None:
        """Tell the store, if it knows this process, that it ends; nothing more is told.

        Raises:
            StoreUnavailable
        """
        with self._lock:
            process, was_written = self._process, self.is_written
            self._written, self.has_left = None, True
            if process is not None and was_written:
                store.withdraw(process.process_id)


def hash_policies(declared: Iterable[str]) -> str:
    """Return a short hash of these texts, in whatever order they come."""
    digest = hashlib.sha1(usedforsecurity=False)
    for text in sorted(declared):
        digest.update(text.encode(errors="replace") + b"\0")
    return digest.hexdigest()[:8]


def _this_process() -> Process:
    return Process(
        process_id=uuid.uuid4().hex,
        host=socket.gethostname()[:MAX_NAME_CHARS],
        pid=os.getpid(),
        release=__version__,
        policies="",
    )
