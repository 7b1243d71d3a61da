"""Entity tags and ``If-Match`` (RFC 9110, 8.8.3 and 13.1.1): a breaker's tag is its generation."""

import re
from urllib.parse import quote, unquote

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_EMPTY_TAG = '""'


def etag(generation: str) -> str:
    """Return the strong entity tag of a breaker's generation."""
    return f'"{quote(generation, safe=":")}"'


def if_match_generations(request: Request) -> list[str] | None:
    """Return the generations that ``If-Match`` accepts; None accepts any.

    A weak tag never matches: it is returned as a generation that no breaker has.

    Raises:
        ParseError: the header is neither ``*`` nor a list of entity tags.
    """
    header = request.META.get("HTTP_IF_MATCH")
    if header is None or header.strip(" \t") == "*":
        return None
    elements = [element.strip(" \t") for element in _TAG.sub(_EMPTY_TAG, header).split(",")]
    tags = _TAG.findall(header)
    if not tags or any(element not in ("", _EMPTY_TAG) for element in elements):
        raise ParseError('If-Match has to be * or entity tags, like "abc:1"', code="invalid")
    return [tag if tag.startswith("W/") else unquote(tag[1:-1]) for tag in tags]
