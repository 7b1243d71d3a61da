"""The processes that use circuit breakers, and which of them obey an operation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from analytics_admin.breakers import runtime
from analytics_admin.breakers.presence import SILENT_SECONDS, Process
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.services.breakers.types import as_time
from analytics_admin.services.obedience import MAX_MISSING_RECORDED, MissingProcess, Obedience

MAX_WAIT_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.005
MAX_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """A process that uses circuit breakers. Times are the store's."""

    id: str
    """Random; another one for each process, also if host and pid are the same."""
    host: str
    pid: int
    release: str
    """The version of this package that it runs."""
    policies: str
    """A short hash: equal in processes that declare the same breakers with the same policies."""
    since: datetime
    last_heard: datetime
    silent_for: float
    """Seconds since it was last heard of."""
    is_silent: bool
    """Whether that is more than six seconds: operations do not wait for it."""
    is_current: bool
    """Whether it has read the last change of any breaker: its next call obeys it."""
    gets_pushes: bool
    """Whether changes are pushed to it; else it reads them each SYNC_INTERVAL."""


def list_processes() -> list[ProcessStatus]:
    """Return the processes that use circuit breakers, sorted by host and pid.

    A process is listed from its first protected call until it ends, or until 15 seconds after it
    was last heard of.

    Raises:
        StoreUnavailable
    """
    runtime.engine.acknowledge()
    now, sequence, processes = runtime.operator_store().processes()
    return [_status(process, now, sequence) for process in sorted(processes, key=_by_place)]


def await_obedience(sequence: int) -> Obedience:
    """Wait at most a second until all processes that are not silent have read this change.

    A ``sequence`` of 0 stands for the last one. Raises nothing: the change is made.
    """
    store, pause, longest = runtime.operator_store(), FIRST_PAUSE_SECONDS, 0.0
    ends_at = time.monotonic() + MAX_WAIT_SECONDS
    try:
        runtime.engine.acknowledge()
        while True:
            asked_at = time.monotonic()
            obedience, is_settled, sequence = _read_obedience(store, sequence)
            now = time.monotonic()
            longest = max(longest, now - asked_at)
            if is_settled or now + pause + longest > ends_at:
                return obedience
            time.sleep(pause)
            pause = min(1.5 * pause, MAX_PAUSE_SECONDS)
    except StoreUnavailable as error:
        return Obedience(processes=None, obeyed=None, error=error.reason)


def count_current() -> Obedience:
    """Return how many processes have read the last change of any breaker.

    Raises:
        StoreUnavailable
    """
    obedience, _, _ = _read_obedience(runtime.operator_store(), 0)
    return obedience


def count_obedient(processes: Sequence[Process], sequence: int, now: float) -> Obedience:
    """Return how many of these have read the change by the store's time ``now``."""
    missing = _find_missing(processes, sequence)
    return Obedience(
        processes=len(processes),
        obeyed=len(processes) - len(missing),
        missing=_describe_missing(missing, now),
    )


def _find_missing(processes: Sequence[Process], sequence: int) -> list[Process]:
    return [process for process in processes if process.acknowledged < sequence]


def _read_obedience(store: BreakerStore, sequence: int) -> tuple[Obedience, bool, int]:
    """Return who obeys, whether there is nobody to wait for, and the change in question."""
    now, newest, processes = store.processes()
    wanted = sequence or newest
    missing = _find_missing(processes, wanted)
    is_settled = all(now - process.seen_at > SILENT_SECONDS for process in missing)
    return count_obedient(processes, wanted, now), is_settled, wanted


def _describe_missing(processes: Sequence[Process], now: float) -> list[MissingProcess]:
    """Return the first of these, the longest silent ones before the others."""
    longest_first = sorted(processes, key=lambda process: (process.seen_at, _by_place(process)))
    return [
        MissingProcess(
            host=process.host, pid=process.pid, last_heard=max(0.0, now - process.seen_at)
        )
        for process in longest_first[:MAX_MISSING_RECORDED]
    ]


def _status(process: Process, now: float, sequence: int) -> ProcessStatus:
    silent_for = max(0.0, now - process.seen_at)
    return ProcessStatus(
        id=process.process_id,
        host=process.host,
        pid=process.pid,
        release=process.release,
        policies=process.policies,
        since=as_time(process.since),
        last_heard=as_time(process.seen_at),
        silent_for=silent_for,
        is_silent=silent_for > SILENT_SECONDS,
        is_current=process.acknowledged >= sequence,
        gets_pushes=process.gets_pushes,
    )


def _by_place(process: Process) -> tuple[str, int, str]:
    return process.host, process.pid, process.process_id
