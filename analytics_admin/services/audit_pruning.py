"""Removes old rows of the audit trail, in batches and on record itself."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import router, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import ngettext_lazy

from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation, as_stored, with_zone
from analytics_admin.services.audit import Actor, describe_database_error
from analytics_admin.services.breakers.reconciliation import MAX_ROWS, reached_by
from analytics_admin.services.errors import AuditUnavailable, OperationRejected
from analytics_admin.services.idempotency import KEPT
from analytics_admin.services.runner import Command, OperationResult, perform

BATCH = 500
MAX_AGE_SECONDS = 100 * 366 * 86_400.0

Kind, Status = Operation.Kind, Operation.Status
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOutcome:
    removed: int
    kept: int
    """Older rows that something still depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOperations(Command[PruneOutcome]):
    kind = Kind.PRUNE_OPERATIONS

    older_than: float
    on_progress: Progress | None

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"older_than": self.older_than}

    def validate(self) -> None:
        age = self.older_than
        if isinstance(age, bool) or not isinstance(age, int | float):
            raise OperationRejected(Message(_("older_than: has to be a number of seconds")))
        if not 0 < age <= MAX_AGE_SECONDS:
            raise OperationRejected(
                Message(_("older_than: more than 0 seconds, at most a century"))
            )

    def preview(self) -> OperationResult:
        now = timezone.now()
        kept = _find_kept(now)
        rows = _older(self.older_than, now)
        number = rows.exclude(pk__in=kept).count()
        template = ngettext_lazy(
            "Dry run: %(number)d operation would be removed",
            "Dry run: %(number)d operations would be removed",
            "number",
        )
        preview = {"removed": number, "kept": rows.filter(pk__in=kept).count()}
        return OperationResult(message=Message(template, number=number), preview=preview)

    def execute(self) -> PruneOutcome:
        now, removed = timezone.now(), 0
        try:
            kept = _find_kept(now)
            rows = _older(self.older_than, now)
            oldest = rows.exclude(pk__in=kept).order_by("started_at", "id")
            while batch := list(oldest.values_list("pk", flat=True)[:BATCH]):
                with transaction.atomic(using=rows.db):
                    rows.filter(pk__in=batch).delete()
                removed += len(batch)
                if self.on_progress is not None:
                    self.on_progress(removed)
            return PruneOutcome(removed=removed, kept=rows.count())
        except DatabaseError as error:
            reason = describe_database_error(error)
            raise AuditUnavailable(reason, partial_outcome={"removed": removed}) from error

    def record(self, outcome: PruneOutcome) -> dict[str, Any]:
        return asdict(outcome)

    def message(self, outcome: PruneOutcome) -> str:
        template = ngettext_lazy(
            "%(number)d operation removed from the audit trail",
            "%(number)d operations removed from the audit trail",
            "number",
        )
        return Message(template, number=outcome.removed)


def prune_operations(
    *,
    older_than: float,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Progress | None = None,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Remove the operations that began more than ``older_than`` seconds ago, oldest first.

    Those of the last 24 hours stay, as does what a store that comes back is compared with: the
    newest clear and the holds in force.

    Raises:
        OperatorError: as for ``perform``.
    """
    return perform(
        PruneOperations(older_than=older_than, on_progress=on_progress),
        actor=actor,
        reason=reason,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def _older(seconds: float, now: datetime) -> QuerySet[Operation]:
    before = now - max(timedelta(seconds=seconds), KEPT)
    return _rows().filter(started_at__lt=as_stored(before))


def _find_kept(now: datetime) -> set[UUID]:
    """Return the operations that stay however old they are."""
    clears = _rows().filter(kind=Kind.CLEAR_SEARCH_CACHE)
    clears = clears.exclude(status__in=[Status.DENIED, Status.FAILED])
    return {*clears.values_list("pk", flat=True)[:1], *_find_holds(now)}


def _find_holds(now: datetime) -> set[UUID]:
    """Return the holds in force, and what ended one of them for some of its breakers.

    Without the latter a breaker that was released would seem to be held.
    """
    kinds = [
        Kind.RESET_CIRCUIT_BREAKERS,
        Kind.CONTROL_CIRCUIT_BREAKERS,
        Kind.FORGET_CIRCUIT_BREAKER,
    ]
    last: dict[str, Operation] = {}
    of_others: Operation | None = None
    for row in _rows().filter(kind__in=kinds).exclude(status=Status.DENIED)[:MAX_ROWS]:
        names, is_all = reached_by(row)
        for name in names:
            last.setdefault(name, row)
        if is_all:
            of_others = row
            break
    holds = {row.pk: row for row in last.values() if _is_in_force(row, now)}
    needed = {last[name].pk for row in holds.values() for name in reached_by(row)[0]}
    return needed | ({of_others.pk} if holds and of_others is not None else set())


def _is_in_force(row: Operation, now: datetime) -> bool:
    if row.kind != Kind.CONTROL_CIRCUIT_BREAKERS or row.control in {"", "automatic"}:
        return False
    seconds = row.target_fields.get("for_seconds")
    if not isinstance(seconds, int | float):
        return True  # until it is released
    return with_zone(row.finished_at or row.started_at) + timedelta(seconds=seconds) > now


def _rows() -> QuerySet[Operation]:
    return Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind
