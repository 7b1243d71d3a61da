"""How the audit trail reads on a terminal, in a pipe and as CSV.

Names and reasons come from others: control characters are escaped, and no cell is a formula.
"""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from analytics_admin.management.base import printable
from analytics_admin.management.tables import align
from analytics_admin.models import Operation
from analytics_admin.services.json import to_json

COLUMNS = ("STARTED", "KIND", "STATUS", "CHANNEL", "ACTOR", "ID", "REASON")
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to spreadsheets."""


def format_operations(operations: Sequence[Operation]) -> str:
    """Return aligned columns without frames; the reason, which may have spaces, is the last."""
    return align([COLUMNS, *map(_cells, operations)])


def format_operation(operation: Operation) -> str:
    """Return one operation, a field a line."""
    return align([(name, _shown(value)) for name, value in to_json(operation).items()])


def format_csv(operations: Sequence[Operation]) -> str:
    """Return the rows as CSV with REST's field names."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    rows = [to_json(operation) for operation in operations]
    writer.writerow(to_json(Operation()))
    writer.writerows([_csv_cell(value) for value in row.values()] for row in rows)
    return written.getvalue().removesuffix("\n")


def _cells(operation: Operation) -> tuple[str, ...]:
    row = to_json(operation)
    status = "interrupted" if row["interrupted"] else row["status"]
    begin = row["started_at"][:19] + "Z"
    cells = (row["kind"], status, row["channel"], row["actor"] or "-", row["id"], row["reason"])
    return (begin, *map(printable, cells))


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _csv_cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(FORMULA_SIGNS):
        return f"'{value}"
    return value
