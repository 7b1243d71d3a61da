"""Which processes use breakers, and up to which move of the fleet's breakers each has read.

Every move that all processes have to hear of has a number, the store's *sequence*. A process
acknowledges the newest one that it has read: from then on its calls obey it. The store keeps the
list of processes: see ``stores/redis_scripts``. ``services/obedience`` counts who obeys.
"""

import hashlib
import math
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from analytics_admin import __version__
from analytics_admin.breakers.history import MAX_HISTORY_NAME_CHARS
from analytics_admin.stores.threads import allocate_rlock

PRESENT_SECONDS = 5.0
"""Interval at which a process tells that it is there."""
FORGIVEN_SECONDS = 2 * PRESENT_SECONDS
"""The probe permits of a process that was not heard of for longer are forgiven."""
SILENT_SECONDS = 6.0
"""A process that was not heard of for longer is silent: nobody waits for it."""
GONE_SECONDS = 15.0
"""A process that was not heard of for longer is no longer counted."""
MIN_POLL_SECONDS = 0.25
"""A process that gets no pushes asks at most so often for the last move while idle."""
FAR_SECONDS = 0.02
"""A process whose answers take longer tells so at once."""
COMPARE_SECONDS = 30.0
"""Interval at which a process is asked to compare the store with the audit trail."""
WATCH_SECONDS = 90.0
"""Time for which the data of a new server are compared again: for some seconds after a failover
operations may still reach the old primary, which then loses them."""
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
    gets_pushes: bool = False
    """Whether moves are pushed to it; else it reads them each SYNC_INTERVAL."""
    answered_in: float = 0.0
    """Seconds that the store's answers take to it, about. What it reports is as late."""

    @property
    def place(self) -> tuple[str, int, str]:
        """What sorts processes: their host and pid."""
        return self.host, self.pid, self.process_id


class Told(NamedTuple):
    """What the store answers to a process that says that it is there."""

    now: float
    """The store's time."""
    sequence: int
    is_new_server: bool
    """Whether its data are to be compared with the audit trail: the server has restarted, or is
    another. One process is told so at a time."""


class PresenceStore(Protocol):
    """The part of a store that knows the processes."""

    def present(self, process: Process) -> Told:
        """Write down that the process is there.

        A ``since`` of 0 stands for now. Drops processes not heard of for GONE_SECONDS.
        """

    def settle_server(self) -> None:
        """Write down that the data of this server have been compared with the audit trail."""

    def processes(self) -> tuple[float, int, list[Process]]:
        """Return the store's time, its sequence, and the processes heard of in GONE_SECONDS."""

    def withdraw(self, process_id: str) -> None:
        """Forget a process; it has ended."""


class Presence:
    """What this process tells of itself, and when. ``policies`` returns its policies' hash.

    ``compare`` is called, and must not wait, when this process is to compare the store's data with
    the audit trail.
    """

    def __init__(
        self, policies: Callable[[], str] = str, compare: Callable[[], object] = bool
    ) -> None:
        self._policies = policies
        self._compare = compare
        self.after_fork()

    def after_fork(self) -> None:
        """Be another process, which is not written down yet."""
        self._lock = allocate_rlock()  # a signal's handler may come in the middle
        self._process: Process | None = None
        self._written: tuple[int, bool] | None = None
        self.acknowledged = 0
        """The number of the last move of the fleet's breakers that calls here obey."""
        self.has_left = False
        """Whether it has told that it ends."""
        self.is_asked = False
        """Whether somebody waits for it to tell."""
        self._due_at = self._asked_at = float("-inf")
        self._answered_in: float | None = None

    @property
    def process_id(self) -> str:
        """The id under which the store may know this process; "" before it is written down."""
        return "" if (process := self._process) is None else process.process_id

    @property
    def is_written(self) -> bool:
        """Whether the store may know this process."""
        return self._written is not None

    def tell(
        self,
        store: PresenceStore,
        *,
        gets_pushes: bool = False,
        is_idle: Callable[[], bool] = bool,
        interval: float = 0.0,
    ) -> float:
        """Tell the store what is due; return the seconds until something is due again.

        While ``is_idle`` nothing here is read ahead, so calls obey every move at once. Such a
        process only asks for the number of the last one, each ``interval`` seconds.

        Raises:
            StoreUnavailable
        """
        if self.has_left:
            return math.inf
        every = max(interval, MIN_POLL_SECONDS) if is_idle() else math.inf
        for _ in range(2):  # what is learned from the first is told by the second
            now = time.monotonic()
            is_due = self.is_asked or now >= min(self._due_at, self._asked_at + every)
            if not is_due and (self.acknowledged, gets_pushes) == self._written:
                break
            self.is_asked, self._asked_at = False, now
            sequence = self._write(store, now, gets_pushes=gets_pushes)
            if every < math.inf and is_idle():
                self.acknowledged = sequence
        return max(0.0, min(self._due_at, self._asked_at + every) - time.monotonic())

    def _write(self, store: PresenceStore, now: float, *, gets_pushes: bool) -> int:
        with self._lock:
            process = replace(
                self._process or _this_process(),
                policies=self._policies(),
                acknowledged=self.acknowledged,
                gets_pushes=gets_pushes,
                answered_in=self._answered_in or 0.0,
            )
            began = time.monotonic()
            told = store.present(process)
            answered_in = self._note_answer(time.monotonic() - began)
            self._process = process if process.since else replace(process, since=told.now)
            self._written = process.acknowledged, gets_pushes
            self._due_at = now + PRESENT_SECONDS * random.uniform(0.95, 1.1)
            if answered_in > max(FAR_SECONDS, 2 * process.answered_in):
                self._due_at = now  # others are to know that at once
        if told.is_new_server:
            self._compare()
        return told.sequence

    def _note_answer(self, took: float) -> float:
        """Return the mean with the answers before: one may be late by chance."""
        before = self._answered_in
        self._answered_in = took if before is None else (before + took) / 2
        return self._answered_in

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
        host=socket.gethostname()[:MAX_HISTORY_NAME_CHARS],
        pid=os.getpid(),
        release=__version__,
        policies="",
    )
