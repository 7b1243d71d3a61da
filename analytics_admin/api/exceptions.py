"""The one table from errors to HTTP answers; each body is ``{"detail": text, "code": word}``."""

import logging
import math
import traceback
from collections.abc import Callable, Iterator
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
from analytics_admin.services.errors import BreakerChanged, OperationFailed, OperatorError

logger = logging.getLogger("analytics_admin.api")

MAX_LISTED_ERRORS = 20


def error_response(error: Exception, *, failure: str) -> Response:
    """Return the answer to a request that ended in this error.

    ``failure`` is the view's sentence with ``%(reason)s``, for errors that no service foresaw.
    """
    status, describe = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    code, detail = describe(error, failure)
    if isinstance(error, OperatorError) and not isinstance(error, OperationFailed):
        status = STATUS_BY_CODE.get(code, 500)
    status = status or getattr(error, "status_code", 500)
    return Response({"detail": detail, "code": code}, status=status, headers=_headers(error))


def _headers(error: Exception) -> dict[str, str]:
    headers = {}
    if isinstance(error, NotAuthenticated | AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if operation_id := getattr(error, "operation_id", None):
        headers["X-Operation-Id"] = str(operation_id)
    if isinstance(error, BreakerChanged):
        headers["ETag"] = etag(error.status)
    return headers


def _of_operator(error: OperatorError, failure: str) -> tuple[str, str]:
    """A read leaves the bare reason of an outage; an operation says itself what failed."""
    is_read = error.code in OUTAGES and not isinstance(error, OperationFailed)
    return error.code, failure % {"reason": error.reason} if is_read else str(error)


def _of_rest_framework(error: APIException, failure: str) -> tuple[str, str]:
    return str(error.get_codes()), str(error.detail)


def _of_validation(error: ValidationError, failure: str) -> tuple[str, str]:
    return "invalid", "; ".join(islice(_flatten(error.detail), MAX_LISTED_ERRORS))


def _of_suspicious(error: SuspiciousOperation, failure: str) -> tuple[str, str]:
    return "invalid", "The request names a host that is not this site's, or is otherwise unusable"


def _of_database(error: Exception, failure: str) -> tuple[str, str]:
    reason = describe_database_error(DatabaseError(*error.args))
    logger.warning("request failed: %s", reason)
    return "database_unavailable", failure % {"reason": reason}


def _of_unforeseen(error: Exception, failure: str) -> tuple[str, str]:
    """Log where it broke, without the error's text, which may hold a secret."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request broke: %s\n%s", type(error).__name__, places)
    reason = f"unexpected error ({type(error).__name__})"
    return "internal_error", failure % {"reason": reason}


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


# By the code of an OperatorError. An operation that failed is always a 500.
STATUS_BY_CODE = {
    "invalid": 400,
    "reason_required": 400,
    "permission_denied": 403,
    "read_only": 403,
    "unknown_breaker": 404,
    "unknown_operation": 404,
    "already_on_record": 409,
    "another_clear": 409,
    "breaker_kept": 409,
    "breaker_not_open": 409,
    "nothing_to_undo": 409,
    "breaker_moved": 412,
    "audit_unavailable": 503,
    "store_unavailable": 503,
}
OUTAGES = {"audit_unavailable", "store_unavailable"}
# Of other errors the nearest class counts. None as status: the error brings its own.
TABLE: dict[type, tuple[int | None, Callable[[Any, str], tuple[str, str]]]] = {
    OperatorError: (500, _of_operator),
    ValidationError: (400, _of_validation),
    APIException: (None, _of_rest_framework),
    SuspiciousOperation: (400, _of_suspicious),
    DatabaseError: (500, _of_database),
    InterfaceError: (500, _of_database),
    Exception: (500, _of_unforeseen),
}
