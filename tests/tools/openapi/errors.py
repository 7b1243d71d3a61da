"""Error responses: status, codes, meaning and headers."""

from dataclasses import dataclass
from typing import Any

from tests.tools.openapi.responses import TEXT, ref

OPERATION_ID = "X-Operation-Id"
ACKNOWLEDGED = "X-Acknowledged"
WARNING = "X-Warning"
REPLAYED = "Idempotency-Replayed"
RATE = ("RateLimit", "RateLimit-Policy")
HEADERS = {
    OPERATION_ID: {
        "description": "The operation's id in the audit trail; absent if none was recorded.",
        "schema": {"type": "string", "format": "uuid"},
    },
    ACKNOWLEDGED: {
        "description": "How many processes obey the change, of how many; absent from a dry run.",
        "schema": {"type": "string", "pattern": "^([0-9]+/[0-9]+|unknown)$"},
    },
    WARNING: {
        "description": "What to know of an operation that is done; absent if there is nothing.",
        "schema": TEXT,
    },
    REPLAYED: {
        "description": "Present where an earlier request with this Idempotency-Key had acted.",
        "schema": {"const": "true"},
    },
    "RateLimit": {
        "description": "Requests that are left, and seconds until there are more.",
        "schema": {"type": "string", "examples": ['"write";r=29;t=60']},
    },
    "RateLimit-Policy": {
        "description": "Requests that are allowed in so many seconds.",
        "schema": {"type": "string", "examples": ['"write";q=30;w=60']},
    },
    "ETag": {"description": "The breaker's current entity tag.", "required": True, "schema": TEXT},
    "Retry-After": {
        "description": "Seconds to wait.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme.",
        "required": True,
        "schema": {"const": "Bearer"},
    },
    "Allow": {
        "description": "The methods that the path allows.",
        "required": True,
        "schema": TEXT,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """One error response, shared by endpoints."""

    status: int
    codes: tuple[str, ...]
    description: str
    headers: tuple[str, ...] = ()

    def response(self) -> dict[str, Any]:
        """Return the OpenAPI response object."""
        code = {"enum": list(self.codes)}
        schema = {**ref("Error"), "properties": {"code": code}}
        headers = {name: HEADERS[name] for name in self.headers}
        return {
            "description": self.description,
            **({"headers": headers} if headers else {}),
            "content": {"application/json": {"schema": schema}},
        }


UNDER_WAY = ("operation_under_way",)
BROKEN = ("database_unavailable", "internal_error")
ERRORS = {
    "InvalidOption": Error(
        status=400,
        codes=("invalid",),
        description="The URL has an unknown option or an invalid value.",
    ),
    "InvalidSignIn": Error(
        status=400,
        codes=("invalid", "invalid_json", "truncated"),
        description="The body is not a valid JSON object with the expected fields.",
    ),
    "InvalidOperation": Error(
        status=400,
        codes=("invalid", "invalid_json", "truncated", "reason_required"),
        description="The request is invalid, or lacks a required reason; nothing was done.",
    ),
    "NoToken": Error(
        status=401,
        codes=("not_authenticated", "token_not_valid"),
        description="No usable token.",
        headers=("WWW-Authenticate",),
    ),
    "NoAccount": Error(
        status=401,
        codes=("authentication_failed",),
        description="No active account with these credentials.",
        headers=("WWW-Authenticate",),
    ),
    "NoRefreshToken": Error(
        status=401,
        codes=("token_not_valid",),
        description="No usable refresh token.",
        headers=("WWW-Authenticate",),
    ),
    "Forbidden": Error(
        status=403, codes=("permission_denied",), description="The user may not read this."
    ),
    "OperationForbidden": Error(
        status=403,
        codes=("permission_denied", "read_only"),
        description="The user is not permitted, which is recorded; or the site is read-only.",
        headers=(OPERATION_ID,),
    ),
    "NoSuchPage": Error(
        status=404, codes=("not_found",), description="The page is beyond the last one."
    ),
    "NoSuchBreaker": Error(
        status=404,
        codes=("unknown_breaker",),
        description="No circuit breaker of this name is registered; nothing was done.",
    ),
    "NoSuchOperation": Error(
        status=404,
        codes=("unknown_operation", "not_found"),
        description="No operation with this id is recorded, or the id is malformed.",
    ),
    "MethodNotAllowed": Error(
        status=405,
        codes=("method_not_allowed",),
        description="The path does not allow the method. Any path can respond so.",
        headers=("Allow",),
    ),
    "UnderWay": Error(
        status=409,
        codes=UNDER_WAY,
        description="The first request with this Idempotency-Key has not ended.",
        headers=(OPERATION_ID, "Retry-After"),
    ),
    "BreakerInUse": Error(
        status=409,
        codes=("breaker_kept", *UNDER_WAY),
        description="The breaker is held or declared by the site: it cannot be forgotten.",
        headers=(OPERATION_ID,),
    ),
    "BreakerNotOpen": Error(
        status=409,
        codes=("breaker_not_open", *UNDER_WAY),
        description="The breaker is closed, half-open or held: there is nothing to probe.",
        headers=(OPERATION_ID,),
    ),
    "NothingToUndo": Error(
        status=409,
        codes=("nothing_to_undo", *UNDER_WAY),
        description="There is no soft clear to undo.",
        headers=(OPERATION_ID,),
    ),
    "LengthRequired": Error(
        status=411,
        codes=("length_required",),
        description="The body came without a Content-Length; nothing was done.",
    ),
    "BreakerChanged": Error(
        status=412,
        codes=("breaker_moved",),
        description="The breaker no longer matches If-Match; nothing was done.",
        headers=("ETag", OPERATION_ID),
    ),
    "BodyTooLarge": Error(
        status=413,
        codes=("body_too_large",),
        description="The body is over 64 KiB; nothing was done.",
    ),
    "NotJSON": Error(
        status=415,
        codes=("unsupported_media_type",),
        description="The body is not JSON in UTF-8; nothing was done.",
    ),
    "KeyReused": Error(
        status=422,
        codes=("idempotency_key_reused",),
        description="The Idempotency-Key was sent with another request; nothing was done.",
        headers=(OPERATION_ID,),
    ),
    "TooMany": Error(
        status=429,
        codes=("throttled",),
        description="Too many operations by this user, or logins from this address.",
        headers=("Retry-After",),
    ),
    "OperationFailed": Error(
        status=500,
        codes=("store_unavailable", "outcome_unknown", "audit_unavailable", *BROKEN),
        description="The operation failed, or its outcome is unknown; the detail says why.",
        headers=(OPERATION_ID,),
    ),
    "Broken": Error(status=500, codes=BROKEN, description="The database or the site failed."),
    "Unknown": Error(
        status=503,
        codes=("store_unavailable",),
        description="The breakers' store does not answer.",
    ),
}
OF_A_BODY = ("LengthRequired", "BodyTooLarge", "NotJSON", "TooMany")
LOGIN_ERRORS = ("InvalidSignIn", *OF_A_BODY, "Broken")
READ_ERRORS = ("InvalidOption", "NoToken", "Forbidden", "Broken")
OPERATION_ERRORS = (
    "InvalidOperation",
    "NoToken",
    "OperationForbidden",
    *OF_A_BODY,
    "UnderWay",
    "KeyReused",
    "OperationFailed",
)
