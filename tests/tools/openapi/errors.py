"""The answers that are errors: which status, which codes, what they mean, which headers."""

from dataclasses import dataclass
from typing import Any

from tests.tools.openapi.answers import TEXT, ref

OPERATION_ID = "X-Operation-Id"
HEADERS = {
    OPERATION_ID: {
        "description": "The id of the act's row in the audit trail; absent without a row.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "ETag": {"description": "The breaker as it is now.", "required": True, "schema": TEXT},
    "Retry-After": {
        "description": "Seconds to wait.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to sign in.",
        "required": True,
        "schema": {"const": "Bearer"},
    },
    "Allow": {
        "description": "The methods that the path takes.",
        "required": True,
        "schema": TEXT,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """One kind of error answer, which several endpoints give."""

    status: int
    codes: tuple[str, ...]
    means: str
    headers: tuple[str, ...] = ()

    def response(self) -> dict[str, Any]:
        """Return what OpenAPI calls a response."""
        code = {"enum": list(self.codes)}
        schema = {**ref("Error"), "properties": {"code": code}}
        headers = {name: HEADERS[name] for name in self.headers}
        return {
            "description": self.means,
            **({"headers": headers} if headers else {}),
            "content": {"application/json": {"schema": schema}},
        }


BROKEN = ("database_unavailable", "internal_error")
ERRORS = {
    "InvalidOption": Error(
        status=400,
        codes=("invalid",),
        means="An unknown option in the URL, or a value that it cannot have.",
    ),
    "InvalidSignIn": Error(
        status=400,
        codes=("invalid", "invalid_json", "truncated"),
        means="The body is no JSON object, or not the one that is asked for.",
    ),
    "InvalidOperation": Error(
        status=400,
        codes=("invalid", "invalid_json", "truncated", "reason_required"),
        means="The act was not asked for properly, or without the reason that this site wants; "
        "nothing was done.",
    ),
    "NoToken": Error(
        status=401,
        codes=("not_authenticated", "token_not_valid"),
        means="No usable token.",
        headers=("WWW-Authenticate",),
    ),
    "NoAccount": Error(
        status=401,
        codes=("authentication_failed",),
        means="No active account with these credentials.",
        headers=("WWW-Authenticate",),
    ),
    "NoRefreshToken": Error(
        status=401,
        codes=("token_not_valid",),
        means="No usable refresh token.",
        headers=("WWW-Authenticate",),
    ),
    "Forbidden": Error(
        status=403, codes=("permission_denied",), means="The user may not see this."
    ),
    "OperationForbidden": Error(
        status=403,
        codes=("permission_denied", "read_only"),
        means="The user may not do this, which is put on record; or the site is read-only.",
        headers=(OPERATION_ID,),
    ),
    "NoSuchPage": Error(status=404, codes=("not_found",), means="A page beyond the last."),
    "NoSuchBreaker": Error(
        status=404,
        codes=("unknown_breaker",),
        means="No circuit breaker of this name is registered; nothing was done.",
    ),
    "NoSuchOperation": Error(
        status=404,
        codes=("unknown_operation", "not_found"),
        means="No operation of this id is on record, or it is no id.",
    ),
    "MethodNotAllowed": Error(
        status=405,
        codes=("method_not_allowed",),
        means="The path does not take the method. Every path can answer so.",
        headers=("Allow",),
    ),
    "BreakerInUse": Error(
        status=409,
        codes=("breaker_kept",),
        means="The breaker is held, or the site declares it: it cannot be forgotten.",
        headers=(OPERATION_ID,),
    ),
    "BreakerNotOpen": Error(
        status=409,
        codes=("breaker_not_open",),
        means="The breaker is not open by its own rules: there is nothing to probe.",
        headers=(OPERATION_ID,),
    ),
    "NothingToUndo": Error(
        status=409,
        codes=("nothing_to_undo",),
        means="There is no soft clear to undo.",
        headers=(OPERATION_ID,),
    ),
    "LengthRequired": Error(
        status=411,
        codes=("length_required",),
        means="The body came without a Content-Length; nothing was done.",
    ),
    "BreakerChanged": Error(
        status=412,
        codes=("breaker_moved",),
        means="The breaker is not what If-Match says any more; nothing was done to it.",
        headers=("ETag", OPERATION_ID),
    ),
    "BodyTooLarge": Error(
        status=413, codes=("body_too_large",), means="A body over 64 KiB; nothing was done."
    ),
    "NotJSON": Error(
        status=415,
        codes=("unsupported_media_type",),
        means="A body that is not JSON in UTF-8; nothing was done.",
    ),
    "TooMany": Error(
        status=429,
        codes=("throttled",),
        means="Over the limit of acts per user, or of logins per address.",
        headers=("Retry-After",),
    ),
    "OperationFailed": Error(
        status=500,
        codes=("store_unavailable", "outcome_unknown", "audit_unavailable", *BROKEN),
        means="The act failed, or is not known to be done; the detail says why.",
        headers=(OPERATION_ID,),
    ),
    "Broken": Error(status=500, codes=BROKEN, means="The database failed, or the site did."),
    "Unknown": Error(
        status=503,
        codes=("store_unavailable",),
        means="The breakers' store does not answer: nothing is known of them now.",
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
    "OperationFailed",
)
