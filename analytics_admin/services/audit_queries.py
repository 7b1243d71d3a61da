"""Queries on the audit trail: pages of operations, filters, and one operation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from analytics_admin.models import INTERRUPTED_AFTER, Operation, as_stored
from analytics_admin.services.audit import is_storable
from analytics_admin.services.audit_pages import Position, read_after, read_page
from analytics_admin.services.audit_search import require_search
from analytics_admin.services.errors import UnknownOperation
from analytics_admin.services.values import require_choice, require_page

INTERRUPTED = "interrupted"
OPERATION_KINDS = tuple(Operation.Kind.values)
OPERATION_CHANNELS = tuple(Operation.Channel.values)
OPERATION_STATUSES = (*Operation.Status.values, INTERRUPTED)
"""Those of rows, and ``interrupted``, which follows from a row's age."""
MAX_OPERATIONS_PER_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFilter:
    """Which operations to list: those that match all fields that are set."""

    kind: str | None = None
    channel: str | None = None
    actor: str | None = None
    """The exact name."""
    status: str | None = None
    """One of OPERATION_STATUSES."""
    since: datetime | None = None
    """Aware; operations that started at or after it."""
    until: datetime | None = None
    """Aware; operations that started before it."""
    search: str = ""
    """Words; see ``search_operations``."""

    def apply(self, operations: QuerySet[Operation]) -> QuerySet[Operation]:
        """Return the operations to search: those that match all the other fields.

        Raises:
            TypeError, ValueError: a field is unusable.
        """
        require_choice("kind", self.kind, (None, *OPERATION_KINDS))
        require_choice("channel", self.channel, (None, *OPERATION_CHANNELS))
        exact = {
            "kind": self.kind,
            "channel": self.channel,
            "actor": _require_storable("actor", self.actor),
        }
        rows = operations.filter(
            **{name: value for name, value in exact.items() if value is not None}
        )
        if self.status is not None:
            rows = filter_by_status(rows, self.status)
        if self.since is not None:
            rows = rows.filter(started_at__gte=_row_time("since", self.since))
        if self.until is not None:
            rows = rows.filter(started_at__lt=_row_time("until", self.until))
        require_search(self.search)
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPage:
    """One page of the audit trail, newest first."""

    count: int | None
    """How many rows all ``pages`` have, at most MAX_COUNTED; None for a page by its cursor."""
    count_capped: bool
    """True where more rows match than ``count``."""
    search_capped: bool
    """True where the search stopped after MAX_EXAMINED operations, of which ``count`` match."""
    page: int | None
    """None for a page by its cursor."""
    pages: int | None
    """How many pages ``count`` fills; None for a page by its cursor."""
    next_cursor: str | None
    """Cursor of the page of older rows, after those not searched yet; None at the end."""
    operations: Sequence[Operation]


def page_operations(
    *,
    chosen: OperationFilter | None = None,
    page: int = 1,
    page_size: int = MAX_OPERATIONS_PER_PAGE,
    cursor: str | None = None,
) -> OperationPage:
    """Return a page of the operations that match ``chosen``; a page beyond the last is empty.

    New operations shift the pages, unless ``until`` is in the past. They shift no page that is
    asked for by the ``cursor`` of the one before, and that one costs the same however far it is.

    Raises:
        TypeError, ValueError: an unusable filter, page or cursor.
        PageOutOfReach: only a cursor leads there.
    """
    require_page(page, page_size, max_size=MAX_OPERATIONS_PER_PAGE, of="operations")
    chosen = chosen or OperationFilter()
    rows = chosen.apply(Operation.objects.all())
    if cursor is None:
        part = read_page(rows, search=chosen.search, begin=(page - 1) * page_size, size=page_size)
    elif page == 1:
        position = Position.parse(cursor)
        part = read_after(rows, position, search=chosen.search, size=page_size)
    else:
        raise ValueError("a cursor and a page exclude each other")
    count = part.count
    return OperationPage(
        count=count,
        count_capped=part.count_capped,
        search_capped=part.edge is not None,
        page=page if cursor is None else None,
        pages=None if count is None else max(1, -(-count // page_size)),
        next_cursor=str(part.next) if part.next else None,
        operations=part.operations,
    )


def describe_operation(operation_id: UUID) -> Operation:
    """Return one operation.

    Raises:
        UnknownOperation
    """
    operation = Operation.objects.filter(pk=operation_id).first()
    if operation is None:
        raise UnknownOperation(operation_id)
    return operation


def filter_by_status(operations: QuerySet[Operation], status: str) -> QuerySet[Operation]:
    """Return operations with one of OPERATION_STATUSES; "started" excludes interrupted ones.

    Raises:
        ValueError: no such status.
    """
    require_choice("status", status, OPERATION_STATUSES)
    limit = timezone.now() - INTERRUPTED_AFTER
    if status == INTERRUPTED:
        return operations.filter(status=Operation.Status.STARTED, started_at__lt=limit)
    if status == Operation.Status.STARTED:
        return operations.filter(status=status, started_at__gte=limit)
    return operations.filter(status=status)


def _row_time(what: str, at: datetime) -> datetime:
    if timezone.is_naive(at):
        raise ValueError(f"{what} has to be an aware datetime, not {at!r}")
    return as_stored(at)


def _require_storable(what: str, text: str | None) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{what} has to be a str, not {text!r}")
    if text is not None and not is_storable(text):
        raise ValueError(f"{what} contains characters that are not text")
    return text
