"""The audit trail as one JSON document, streamed: its memory does not grow with its rows.

docs/reference/audit.md promises the names and forms of its fields.
"""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from analytics_admin.models import Operation
from analytics_admin.services.audit import describe_database_error
from analytics_admin.services.audit_pages import walk
from analytics_admin.services.errors import get_logger
from analytics_admin.services.json import format_time, to_json

logger = get_logger("analytics_admin.console")


class ExportInterrupted(Exception):
    """The database failed during the export; what was sent is deliberately incomplete JSON."""


def answer_export(
    request: HttpRequest, operations: QuerySet[Operation], *, search: str = ""
) -> StreamingHttpResponse:
    """Return the rows that the search finds as a file to download."""
    parts = export(operations, search=search)
    answer = StreamingHttpResponse(
        # An ASGI server would first collect all of a plain iterator.
        _one_by_one(parts) if isinstance(request, ASGIRequest) else parts,
        content_type="application/json",
    )
    today = datetime.now(UTC).date()
    answer["Content-Disposition"] = f'attachment; filename="operations-{today}.json"'
    return answer


def export(operations: QuerySet[Operation], *, search: str = "") -> Iterator[str]:
    """Yield the document; it is complete only after the last row.

    Raises:
        ExportInterrupted
    """
    yield f'{{"exported_at": "{format_time(timezone.now())}", "operations": ['
    exported = 0
    batches = walk(operations, search=search)
    while (batch := _read(batches, exported)) is not None:
        if batch:
            lines = ",\n".join(json.dumps(to_json(row)) for row in batch)
            yield (",\n" if exported else "\n") + lines
            exported += len(batch)
    yield f'\n], "count": {exported}}}\n'


def _read(batches: Iterator[list[Operation]], exported: int) -> list[Operation] | None:
    try:
        return next(batches, None)
    except DatabaseError as error:
        reason = describe_database_error(error)
    logger.error("export of operations cut off after %d rows: %s", exported, reason)
    raise ExportInterrupted(reason)  # without the driver's error, which may name a host


async def _one_by_one(parts: Iterator[str]) -> AsyncIterator[str]:
    step = sync_to_async(lambda: next(parts, None))
    while (part := await step()) is not None:
        yield part
