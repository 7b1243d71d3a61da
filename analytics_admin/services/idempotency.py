"""Requests that come again do not act again: the row of the first is the memory.

A request with an ``Idempotency-Key`` has an operation id of its own: the key, the user, the method
and the path give it. The database admits one row with this id, and the row keeps what the request
asked for and what it was told.
"""

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import router
from django.utils import timezone

from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import describe_database_error
from analytics_admin.services.errors import AuditUnavailable, KeyReused, OperationUnderWay

KEPT = timedelta(hours=24)
MAX_TRIES = 1000
"""Operations of one key in this time: those that failed may be tried again."""
IDS_AT_ONCE = 20
_NAMESPACE = UUID("7f5a2c1e-4a0f-5d57-9d0c-6d1a1f0c3b52")

Status = Operation.Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A request that may come again."""

    source: str
    """The key, and whose it is: user, method and path."""
    request: str
    """A hash of what it asks for."""

    def operation_id(self, number: int) -> UUID:
        """Return the id of the first operation (0), or of a later try."""
        return uuid.uuid5(_NAMESPACE, f"{self.source}\n{number}")

    def to_record(self) -> dict[str, Any]:
        """Return what the row keeps from its beginning."""
        return {"request": self.request, "process": this_process(), "tries": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What to do: answer as ``done`` did, go on with ``interrupted``, or begin under a new id."""

    operation_id: UUID
    done: Operation | None = None
    interrupted: Operation | None = None
    """Its process has ended without a word; this one has taken over."""


def take_turn(repeat: Repeat) -> Turn:
    """Return what this request has to do.

    Raises:
        KeyReused: the key was sent with another request. Nothing is to be done.
        OperationUnderWay: the first request has not ended.
        AuditUnavailable: the audit trail cannot be read.
    """
    try:
        for first in range(0, MAX_TRIES, IDS_AT_ONCE):
            ids = [repeat.operation_id(number) for number in range(first, first + IDS_AT_ONCE)]
            rows = {row.pk: row for row in _rows().filter(pk__in=ids)}
            for operation_id in ids:
                if operation_id not in rows:
                    return Turn(operation_id=operation_id)
                if not _is_over(rows[operation_id]):
                    return _follow(rows[operation_id], repeat)
    except DatabaseError as error:
        raise AuditUnavailable(describe_database_error(error)) from error
    raise OperationUnderWay(repeat.operation_id(0))


def _follow(row: Operation, repeat: Repeat) -> Turn:
    kept = row.replay if isinstance(row.replay, dict) else {}
    if kept.get("request") != repeat.request:
        raise KeyReused(row.pk)
    if row.status == Status.DONE:
        return Turn(operation_id=row.pk, done=row)
    process = kept.get("process")
    if (row.is_interrupted or is_gone(process)) and _take_over(row, process, kept):
        return Turn(operation_id=row.pk, interrupted=row)
    raise OperationUnderWay(row.pk)


def _is_over(row: Operation) -> bool:
    """Return whether the row binds nobody any more: it failed, or a day has gone by."""
    if row.status not in {Status.DONE, Status.STARTED}:
        return True
    return timezone.now() - with_zone(row.started_at) > KEPT


def _take_over(row: Operation, process: Any, kept: dict[str, Any]) -> bool:
    """Make this process the row's; return False if another one was faster."""
    tries = kept.get("tries")
    row.replay = {**kept, "process": this_process(), "tries": (tries or 1) + 1}
    waiting = _rows().filter(pk=row.pk, status=Status.STARTED, replay__tries=tries)
    return bool(waiting.filter(replay__process=process).update(replay=row.replay))


def _rows() -> Any:
    return Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind


def this_process() -> str:
    """Return what identifies this process, now and on all machines."""
    pid = os.getpid()
    return f"{_place()} {pid} {_started(pid)}"


def is_gone(process: Any) -> bool:
    """Return whether the process has ended; False where that cannot be told from here."""
    parts = process.split(" ") if isinstance(process, str) else []
    if len(parts) != 3 or parts[0] != _place() or not parts[1].isdigit():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _started(int(parts[1])) != parts[2]


@cache
def _place() -> str:
    """Return where a process id is unique: a boot of a kernel, and a namespace of its processes."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{socket.gethostname()}/{uuid.getnode()}".replace(" ", "-")


def _started(pid: int) -> str:
    """Return when the process began, as the kernel counts; "" where it does not tell.

    A process that has ended, and whose parent has not looked yet, has not begun at all.
    """
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if fields[0] in "ZX" else fields[19]
    return ""
