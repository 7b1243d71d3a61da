"""Queries on the audit trail: pages of operations, filters, search, and one operation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.text import smart_split, unescape_string_literal

from analytics_admin.models import INTERRUPTED_AFTER, Operation, as_stored
from analytics_admin.services.audit import is_storable
from analytics_admin.services.errors import UnknownOperation
from analytics_admin.services.values import require_choice, require_page

INTERRUPTED = "interrupted"
OPERATION_KINDS = tuple(Operation.Kind.values)
OPERATION_CHANNELS = tuple(Operation.Channel.values)
OPERATION_STATUSES = (*Operation.Status.values, INTERRUPTED)
"""Those of rows, and ``interrupted``, which follows from a row's age."""
SEARCHED_FIELDS = (
    "actor",
    "reason",
    "error",
    "id",
    "targets__names",
    "targets__tags",
    "outcome__results",
)
MAX_OPERATIONS_PER_PAGE = 100
MAX_SEARCH_LENGTH = 254
"""Characters, as for an actor's name."""


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
        """Return the matching operations.

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
        return search_operations(rows, self.search)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPage:
    """One page of the audit trail, newest first; ``count`` is how many rows all ``pages`` have."""

    count: int
    page: int
    pages: int
    operations: Sequence[Operation]


def page_operations(
    *,
    chosen: OperationFilter | None = None,
    page: int = 1,
    page_size: int = MAX_OPERATIONS_PER_PAGE,
) -> OperationPage:
    """Return a page of the operations that match ``chosen``; a page beyond the last is empty.

    New operations shift the pages, unless ``until`` is in the past.

    Raises:
        TypeError, ValueError: an unusable filter or page.
    """
    require_page(page, page_size, max_size=MAX_OPERATIONS_PER_PAGE, of="operations")
    rows = (chosen or OperationFilter()).apply(Operation.objects.all())
    count, begin = rows.count(), (page - 1) * page_size
    return OperationPage(
        count=count,
        page=page,
        pages=max(1, -(-count // page_size)),
        operations=list(rows[begin : begin + page_size]) if begin < count else [],
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


def search_operations(operations: QuerySet[Operation], search: str) -> QuerySet[Operation]:
    """Return operations with every word of ``search`` in some SEARCHED_FIELDS; quotes group words.

    Raises:
        TypeError, ValueError: not storable text of at most MAX_SEARCH_LENGTH characters.
    """
    if not isinstance(search, str):
        raise TypeError(f"search has to be a str, not {search!r}")
    if len(search) > MAX_SEARCH_LENGTH or not is_storable(search):
        raise ValueError(f"search has to be text of at most {MAX_SEARCH_LENGTH} characters")
    for word in smart_split(search):
        quoted = word[0] in "\"'" and word[0] == word[-1]
        operations = operations.filter(_contains(unescape_string_literal(word) if quoted else word))
    return operations


def _contains(word: str) -> Q:
    """Match the word, and its escaped form for databases that store JSON escaped."""
    query = Q()
    for form in dict.fromkeys([word, json.dumps(word)[1:-1]]):
        for field in SEARCHED_FIELDS:
            query |= Q(**{f"{field}__icontains": form})
    return query


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
