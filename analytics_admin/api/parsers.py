"""Reads a request's JSON body and rejects anything ambiguous.

A body that the server cannot read completely is an error, never an empty body: an operation must
not run without its options.
"""

import json
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import UnreadablePostError
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.request import Request

from analytics_admin.services.json import from_json

MAX_BODY_BYTES = 64 * 1024


class LengthRequired(APIException):
    status_code = 411
    default_detail = "Send the body with a Content-Length: a chunked one is not read"
    default_code = "length_required"


class BodyTooLarge(APIException):
    status_code = 413
    default_detail = f"The body may have at most {MAX_BODY_BYTES} bytes"
    default_code = "body_too_large"


def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; an empty body of any content type is ``{}``.

    Raises:
        LengthRequired, BodyTooLarge, UnsupportedMediaType, ParseError: the body is unusable.
    """
    length = _declared_length(request)
    if length > MAX_BODY_BYTES:
        raise BodyTooLarge
    if length == 0:
        return {}
    _require_json(request)
    return _parse(_read(request, length))


def _declared_length(request: Request) -> int:
    if "HTTP_TRANSFER_ENCODING" in request.META:
        raise LengthRequired
    declared = request.META.get("CONTENT_LENGTH") or ""
    if declared == "":
        # ASGI and HTTP/2 allow a body without a length; WSGI reads nothing then.
        if request._request.read(1):
            raise LengthRequired
        return 0
    if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
        raise ParseError("Content-Length is not a number", code="invalid")
    return int(declared)


def _require_json(request: Request) -> None:
    plain: Any = request._request
    charset = plain.content_params.get("charset", "utf-8").lower()
    if plain.content_type != "application/json" or charset not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(
            plain.content_type or "",
            detail="Send the body as Content-Type: application/json, in UTF-8",
        )


def _read(request: Request, length: int) -> bytes:
    try:
        body = request._request.body
    except RequestDataTooBig:  # the site's DATA_UPLOAD_MAX_MEMORY_SIZE is lower
        raise BodyTooLarge("The body is larger than this site allows") from None
    except UnreadablePostError:
        raise ParseError("The body ended early", code="truncated") from None
    if len(body) != length:
        raise ParseError("The body ended early", code="truncated")
    return body


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = from_json(
            body.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
        # An escaped lone surrogate cannot be encoded, so nothing could store it.
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ParseError("The body is not valid JSON", code="invalid_json") from None
    if not isinstance(parsed, dict):
        raise ParseError("The body has to be a JSON object", code="invalid_json")
    return parsed


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
