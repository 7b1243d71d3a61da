"""Pages of a long audit trail at a bounded cost: counts, page numbers and searches have limits.

A million rows cost no more than some ten thousand. Whoever needs all of them walks by positions.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Window
from django.utils import timezone

from analytics_admin.models import Operation
from analytics_admin.services.audit_search import search_operations

MAX_COUNTED = 10_000
MAX_EXAMINED = 10_000
"""How many operations one search, or one sort by anything but time, looks at."""
MAX_PAGED = 100_000
"""How many operations have a page number. All have a position."""
ROWS_AT_ONCE = 500
"""Of a walk through all operations."""
NEWEST_FIRST = ("-started_at", "-id")
_FEW_TO_SKIP = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = re.compile(r"(-?[0-9]{1,18})-([0-9a-f]{32})")


class PageOutOfReach(ValueError):
    """The page's number is beyond MAX_PAGED operations."""

    def __init__(self) -> None:
        super().__init__(
            f"Pages reach the newest {MAX_PAGED:,} operations; go on with a cursor or an earlier"
            " until."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the audit trail, newest first: that of one operation. As a text it is a cursor."""

    started_at: datetime
    """As the row has it."""
    id: UUID

    @classmethod
    def of(cls, operation: Operation) -> "Position":
        return cls(started_at=operation.started_at, id=operation.pk)

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Return the position of a cursor.

        Raises:
            ValueError: there is no such cursor.
        """
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError("There is no such cursor.")
        try:
            started_at = _EPOCH + timedelta(microseconds=int(match[1]))
        except OverflowError:
            raise ValueError("There is no such cursor.") from None
        if not settings.USE_TZ:
            started_at = started_at.replace(tzinfo=None)
        return cls(started_at=started_at, id=UUID(match[2]))

    def __str__(self) -> str:
        # A time without a zone is taken for UTC, here and in ``parse``: it comes back as it was.
        at = self.started_at
        at = at if timezone.is_aware(at) else at.replace(tzinfo=UTC)
        return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{self.id.hex}"

    def older(self) -> Q:
        """Select the operations after it, which are older."""
        is_older = Q(started_at__lt=self.started_at) | Q(id__lt=self.id)
        return Q(started_at__lte=self.started_at) & is_older

    def not_older(self) -> Q:
        """Select the operation itself, and those before it."""
        is_not_older = Q(started_at__gt=self.started_at) | Q(id__gte=self.id)
        return Q(started_at__gte=self.started_at) & is_not_older


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPage:
    """Some of the operations that were asked for, in the order of the query."""

    operations: Sequence[Operation]
    count: int | None
    """How many there are, but at most MAX_COUNTED; None where nobody counted."""
    count_capped: bool
    """True where there are more than ``count``."""
    edge: Position | None
    """Where a search or a sort stopped looking; None where it saw all operations."""
    next: Position | None
    """After which operation to go on; None at the end. Without meaning where others are sorted."""


def read_page(rows: QuerySet[Operation], *, search: str = "", begin: int, size: int) -> TrailPage:
    """Return ``size`` operations from the one at ``begin``, which counts from 0.

    A search, and a sort by anything but time, looks at the newest MAX_EXAMINED of the rows.

    Raises:
        PageOutOfReach: more operations than that come before the page.
    """
    if search.strip() or not _goes_by_time(rows):
        return _read_examined(rows, search=search, begin=begin, size=size)
    count = rows.order_by()[: MAX_COUNTED + 1].count()
    count_capped = count > MAX_COUNTED
    if count_capped and begin + size > MAX_PAGED:
        raise PageOutOfReach
    found = _slice(rows, begin, size + 1) if count_capped or begin < count else []
    return TrailPage(
        operations=found[:size],
        count=min(count, MAX_COUNTED),
        count_capped=count_capped,
        edge=None,
        next=Position.of(found[size - 1]) if len(found) > size else None,
    )


def read_after(
    rows: QuerySet[Operation], position: Position | None, *, search: str = "", size: int
) -> TrailPage:
    """Return up to ``size`` operations older than the position, newest first and uncounted.

    A search looks at MAX_EXAMINED operations. It may find none of them, and yet there is more.
    """
    rows = rows.order_by(*NEWEST_FIRST)
    if position is not None:
        rows = rows.filter(position.older())
    edge = _find_edge(rows) if search.strip() else None
    found = list(search_operations(_until(rows, edge), search)[: size + 1])
    return TrailPage(
        operations=found[:size],
        count=None,
        count_capped=False,
        edge=edge,
        next=Position.of(found[size - 1]) if len(found) > size else edge,
    )


def walk(rows: QuerySet[Operation], *, search: str = "") -> Iterator[list[Operation]]:
    """Yield all operations, a few at a time, each few by a query of their own.

    No cursor stays open in between. They come in the order of the query if there are at most
    MAX_EXAMINED to sort, else newest first.
    """
    if _order(rows)[:2] != NEWEST_FIRST and _find_edge(rows) is None:
        keys = list(search_operations(rows, search).values_list("pk", flat=True)[:MAX_EXAMINED])
        for start in range(0, len(keys), ROWS_AT_ONCE):
            few = keys[start : start + ROWS_AT_ONCE]
            yield _fetch(few, rows.db)
        return
    position = None
    while True:
        part = read_after(rows, position, search=search, size=ROWS_AT_ONCE)
        yield list(part.operations)
        if part.next is None:
            return
        position = part.next


def _read_examined(rows: QuerySet[Operation], *, search: str, begin: int, size: int) -> TrailPage:
    edge = _find_edge(rows)
    matching = search_operations(_until(rows, edge), search)
    # All of them are looked at for a page, so that they are counted on the way.
    counted: QuerySet[Any] = matching.annotate(matches=Window(Count("*")))
    if search.strip():
        found = list(counted[begin : begin + size + 1])
        count = found[0].matches if found else 0
    else:  # the database would sort whole rows, all of them: it sorts their keys
        keys = list(counted.values_list("pk", "matches")[begin : begin + size + 1])
        found = _fetch([key for key, _ in keys], rows.db)
        count = keys[0][1] if keys else 0
    if not found and begin:
        count = matching[:MAX_EXAMINED].count()
    next_position = Position.of(found[size - 1]) if len(found) > size else edge
    return TrailPage(
        operations=found[:size], count=count, count_capped=False, edge=edge, next=next_position
    )


def _slice(rows: QuerySet[Operation], begin: int, size: int) -> list[Operation]:
    """Return the rows; those to skip are counted off in an index, without their contents."""
    if begin > _FEW_TO_SKIP:
        keys = rows.values("pk")[begin : begin + size]
        # No filter beside the keys: a database without statistics might go by the filter's index.
        return list(_all(rows.db).filter(pk__in=keys).order_by(*_order(rows))[:size])
    return list(rows[begin : begin + size])


def _fetch(keys: Sequence[UUID], database: str) -> list[Operation]:
    """Return the operations of the keys that are still there, in the keys' order."""
    by_key = {row.pk: row for row in _all(database).filter(pk__in=keys).order_by()[: len(keys)]}
    return [by_key[key] for key in keys if key in by_key]


def _all(database: str) -> QuerySet[Operation]:
    return Operation.objects.using(database)


def _goes_by_time(rows: QuerySet[Operation]) -> bool:
    return _order(rows)[0] in {"started_at", "-started_at"}


def _order(rows: QuerySet[Operation]) -> tuple[Any, ...]:
    return tuple(rows.query.order_by or NEWEST_FIRST)  # the model's own order


def _find_edge(rows: QuerySet[Operation]) -> Position | None:
    """Return the last of the newest MAX_EXAMINED operations; None where there are no more."""
    keys = rows.order_by(*NEWEST_FIRST).values_list("started_at", "id")
    edge = list(keys[MAX_EXAMINED - 1 : MAX_EXAMINED + 1])
    return Position(started_at=edge[0][0], id=edge[0][1]) if len(edge) == 2 else None


def _until(rows: QuerySet[Operation], edge: Position | None) -> QuerySet[Operation]:
    return rows if edge is None else rows.filter(edge.not_older())
