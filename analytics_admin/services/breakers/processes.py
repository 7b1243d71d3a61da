"""The processes that use circuit breakers."""

from dataclasses import dataclass
from datetime import datetime

from analytics_admin.breakers import runtime
from analytics_admin.breakers.presence import SILENT_SECONDS, Process
from analytics_admin.services.values import as_time


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
    return [
        _status(process, now, sequence)
        for process in sorted(processes, key=lambda process: process.place)
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
