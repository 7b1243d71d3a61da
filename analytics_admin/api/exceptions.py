"""Turns errors into HTTP responses; each body is ``{"detail": text, "code": word}``."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError, InterfaceError
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    NotAuthenticated,
    ValidationError,
)
from rest_framework.response import Response

from analytics_admin.api.etags import etag
from analytics_admin.services.audit import describe_database_error
from analytics_admin.services.errors import (
    BreakerChanged,
    OperationFailed,
    OperatorError,
    get_logger,
    log_unexpected,
)

logger = get_logger("analytics_admin.api")

MAX_LISTED_ERRORS = 20
STATUS_BY_CODE = {
    "invalid": 400,
    "reason_required": 400,
    "permission_denied": 403,
    "read_only": 403,
    "unknown_breaker": 404,
    "unknown_operation": 404,
    "breaker_kept": 409,
    "breaker_not_open": 409,
    "nothing_to_undo": 409,
    "operation_under_way": 409,
    "breaker_moved": 412,
    "idempotency_key_reused": 422,
    "store_unavailable": 503,
}
"""Of an OperatorError; an operation that failed is always a 500."""


def error_response(error: Exception, *, failure: str) -> Response:
    """Return the response to a request that raised the error.

    ``failure`` is the view's message with ``%(reason)s``, for errors that have only a reason.
    """
    status, code, detail = _describe(error, failure)
    return Response({"detail": detail, "code": code}, status=status, headers=_headers(error))


def _describe(error: Exception, failure: str) -> tuple[int, str, str]:
    """Return status, code and detail."""
    match error:
        case OperatorError():
            has_failed = isinstance(error, OperationFailed)
            status = 500 if has_failed else STATUS_BY_CODE.get(error.code, 500)
            is_outage = status == 503  # of a read, and with a reason only
            detail = failure % {"reason": error.reason} if is_outage else str(error)
            return status, error.code, detail
        case ValidationError():
            return 400, "invalid", "; ".join(islice(_flatten(error.detail), MAX_LISTED_ERRORS))
        case APIException():
            return error.status_code, str(error.get_codes()), str(error.detail)
        case SuspiciousOperation():
            text = "The request names a host that is not this site's, or is otherwise unusable"
            return 400, "invalid", text
        case DatabaseError() | InterfaceError():
            reason = describe_database_error(DatabaseError(*error.args))
            logger.warning("request failed: %s", reason)
            return 500, "database_unavailable", failure % {"reason": reason}
    reason = log_unexpected(logger, "request broke", error)
    return 500, "internal_error", failure % {"reason": reason}


def _headers(error: Exception) -> dict[str, str]:
    headers = {}
    if isinstance(error, NotAuthenticated | AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if operation_id := getattr(error, "operation_id", None):
        headers["X-Operation-Id"] = str(operation_id)
    if isinstance(error, BreakerChanged):
        headers["ETag"] = etag(error.status.generation)
    return headers


def _flatten(detail: Any, place: str = "") -> Iterator[str]:
    """Yield "field: message" for each message, "names[3]: message" within a list."""
    if isinstance(detail, dict):
        for field, inner in detail.items():
            step = f"[{field}]" if isinstance(field, int) else f".{field}" if place else str(field)
            yield from _flatten(inner, place + step)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flatten(inner, place)
    else:
        yield f"{place}: {detail}" if place else str(detail)
