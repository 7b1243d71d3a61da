"""The ``Idempotency-Key`` of a request, by which it may come again without acting again."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from analytics_admin.services.idempotency import Repeat

MAX_KEY_LENGTH = 255
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def read_repeat(request: Request, body: Mapping[str, Any]) -> Repeat | None:
    """Return what identifies the request if it may come again; None without a key.

    Raises:
        ParseError: the key is unusable.
    """
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        text = f"Idempotency-Key has to be 1 to {MAX_KEY_LENGTH} ASCII characters, without controls"
        raise ParseError(text, code="invalid")
    plain = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
    source = [request.user.pk, request.method, request.path, plain]
    asked = [body, request.META.get("QUERY_STRING", ""), request.META.get("HTTP_IF_MATCH")]
    return Repeat(
        source=json.dumps(source, default=str),
        request=sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
    )
