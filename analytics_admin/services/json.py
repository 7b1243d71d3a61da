"""Answers of the services as JSON, for the API, the commands and exports; and JSON from clients."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from analytics_admin.models import Operation, with_zone
from analytics_admin.services.breakers.processes import ProcessStatus
from analytics_admin.services.breakers.types import BreakerActivity, BreakerDetail, BreakerStatus
from analytics_admin.services.search_cache.queries import SearchCacheStatus
from analytics_admin.stores.json_text import parse

DIGITS: Mapping[type, int] = {SearchCacheStatus: 4, ProcessStatus: 3}
"""Decimal places of the figures; those of breakers are exact."""


def to_json(
    answer: BreakerStatus | BreakerDetail | ProcessStatus | SearchCacheStatus | Operation,
) -> dict[str, Any]:
    """Return the answer as JSON has it: numbers, null for the unknown, ISO 8601 times in UTC."""
    if isinstance(answer, Operation):
        return _operation(answer)
    if isinstance(answer, BreakerDetail):
        detail = _fields(answer)
        del detail["at"]
        return {**detail.pop("status"), **detail}
    return _fields(answer, digits=DIGITS.get(type(answer)))


def from_json(text: str, **options: Any) -> Any:
    """Return what the text says, as ``json.loads`` does.

    Raises:
        ValueError, RecursionError: it is no JSON, or is nested more than 500 times.
    """
    return parse(text, **options)


def row_to_json(status: BreakerStatus, activity: BreakerActivity) -> dict[str, Any]:
    """Return a breaker of a list as JSON has it, with what it did lately."""
    change = activity.last_change
    return {
        **to_json(status),
        "since": _value(activity.since, None),
        "cause": change.cause if change else "",
        "rejected": activity.rejected,
    }


def format_time(at: datetime) -> str:
    """Return a row's time in UTC, to the microsecond."""
    return _iso(with_zone(at), "microseconds")


def _operation(operation: Operation) -> dict[str, Any]:
    finished_at = operation.finished_at
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "status": operation.status,
        "interrupted": operation.is_interrupted,
        "channel": operation.channel,
        "actor": operation.actor,
        "reason": operation.reason,
        "targets": operation.targets,
        "outcome": operation.outcome,
        "message": operation.message,
        "error": operation.error,
        "client": operation.client if isinstance(operation.client, dict) else None,
        "started_at": format_time(operation.started_at),
        "finished_at": None if finished_at is None else format_time(finished_at),
        "duration_ms": operation.duration_ms,
    }


def _fields(answer: Any, *, digits: int | None = None) -> dict[str, Any]:
    return {item.name: _value(getattr(answer, item.name), digits) for item in fields(answer)}


def _value(value: Any, digits: int | None) -> Any:
    if isinstance(value, datetime):
        return _iso(value, "milliseconds")
    if isinstance(value, float) and digits is not None:
        return round(value, digits)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_value(item, digits) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return _fields(value, digits=digits) if is_dataclass(value) else value


def _iso(at: datetime, precision: str) -> str:
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
