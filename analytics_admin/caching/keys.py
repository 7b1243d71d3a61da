"""Canonical names of keys and tags: equal keys get one name, different keys never collide.

The cache alias adds its prefix and version to these names.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _

REMEMBERED_TYPES = frozenset({str, int, bool, float, type(None)})
"""Values of these types that are equal, and of one type, have one canonical form."""
MAX_REMEMBERED = 10_000
"""Names of keys that one process remembers for a cache or function, at most."""
MAX_PLAIN_CHARS = 120
"""A canonical form up to this length is the name itself; a longer one is hashed."""
MAX_TAG_CHARS = 500
"""A longer tag is a mistake, such as a whole document."""
MAX_TAGS_PER_VALUE = 50


class KeyName(str):
    """The name of the key of a function's result, made before."""

    __slots__ = ("function",)
    function: str

    def __new__(cls, name: str, function: str) -> "KeyName":
        new = super().__new__(cls, name)
        new.function = function
        return new


def name_key(key: object) -> str:
    """Return the name of a key: at most 122 characters of printable ASCII without a space.

    A key is None, a bool, int, float, str, date, datetime, Decimal or UUID, or a list, tuple or
    dict (with str keys) of such values. Types differ: 1, 1.0, True and "1" are four keys. These
    are one key each: a list and a tuple of the same values, a dict in any order, 0.0 and -0.0,
    one instant in two time zones, Decimal("1.0") and Decimal("1.00").

    Raises:
        TypeError: the key holds another type, or a dict whose key is not a str.
        ValueError: a number is not finite, or the key is nested too deeply.
    """
    if type(key) is KeyName:
        return key
    try:
        return _name(_canonical(key, "key"))
    except RecursionError:
        raise ValueError("key is nested too deeply") from None


def name_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the names of tags, sorted, each once.

    Raises:
        TypeError: ``tags`` is a single str, or a tag is not a str.
        ValueError: a tag is empty or over 500 characters, or there are more than 50 tags.
    """
    if tags == ():
        return ()
    if isinstance(tags, str | bytes):
        raise TypeError(f"tags must be a list of strings, as in [{tags!r}], not one string")
    names = {_name(_canonical(_checked_tag(tag), "tag")) for tag in tags}
    if len(names) > MAX_TAGS_PER_VALUE:
        words = _("a value has at most %(most)s tags, not %(number)s")
        raise ValueError(Message(words, most=MAX_TAGS_PER_VALUE, number=len(names)))
    return tuple(sorted(names))


def name_function(name: str) -> str:
    """Return the name of the implicit tag of a function's results. It is no other tag's."""
    return _name(_canonical(["function", name], "function"))


def function_of(key: object) -> str | None:
    """Return the name of the function whose result has this key; None for other keys."""
    if type(key) is KeyName:
        return key.function
    if isinstance(key, list | tuple) and len(key) == 2:
        name, arguments = key
        if isinstance(name, str) and isinstance(arguments, dict):
            return name
    return None


def _checked_tag(tag: object) -> str:
    if not isinstance(tag, str):
        raise TypeError(f"a tag must be a string, not {type(tag).__name__}")
    if not 0 < len(tag) <= MAX_TAG_CHARS:
        words = _("a tag has 1 to %(most)s characters, not %(number)s")
        raise ValueError(Message(words, most=MAX_TAG_CHARS, number=len(tag)))
    return tag


def _name(text: str) -> str:
    """Return the text itself if it is short, printable ASCII without a space, else its SHA-256."""
    if len(text) <= MAX_PLAIN_CHARS and text.isascii() and text.isprintable() and " " not in text:
        return f"k:{text}"
    # Not "replace" or an escape: a lone surrogate must not collide with another text.
    return f"h:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _canonical(value: Any, place: str) -> str:
    """Write the value as JSON does; each further type starts with a mark that JSON lacks."""
    for types, write in _WRITERS:
        if isinstance(value, types):
            return write(value, place)
    raise TypeError(
        f"{place} is a value of type {type(value).__name__}, which cannot be part of a key"
    )


def _text(value: str, place: str) -> str:
    return json.dumps(str.__str__(value), ensure_ascii=False)


def _constant(value: bool | None, place: str) -> str:
    return {None: "null", False: "false", True: "true"}[value]


def _integer(value: int, place: str) -> str:
    return f"{int(value):x}!" if abs(value) >= 10**18 else int.__repr__(value)


def _float(value: float, place: str) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{place} is not finite")
    return float.__repr__(value + 0.0)  # -0.0 becomes 0.0


def _sequence(value: Iterable[Any], place: str) -> str:
    inner = ",".join([_canonical(item, f"{place}[{n}]") for n, item in enumerate(value)])
    return f"[{inner}]"


def _mapping(value: dict[Any, Any], place: str) -> str:
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"{place} has the key {name!r}, which is not a string")
    parts = [
        f"{_text(name, place)}:{_canonical(value[name], f'{place}[{name!r}]')}"
        for name in sorted(value)
    ]
    return "{" + ",".join(parts) + "}"


def _datetime(value: datetime, place: str) -> str:
    offset = value.utcoffset()
    naive = value.replace(tzinfo=None, fold=0)
    if offset is None:
        return f"@{naive.isoformat()}"
    # By hand: astimezone() fails within a day of the years 1 and 9999.
    since = naive - datetime(1970, 1, 1) - offset  # noqa: DTZ001
    return f"@{since.days}d{since.seconds}.{since.microseconds:06}Z"


def _date(value: date, place: str) -> str:
    return f"@{value.isoformat()}"


def _decimal(value: Decimal, place: str) -> str:
    if not value.is_finite():
        raise ValueError(f"{place} is not finite")
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    shorter = text.rstrip("0")
    if not shorter:
        return "#0"
    return f"#{'-' * sign}{shorter}e{int(exponent) + len(text) - len(shorter)}"


def _uuid(value: UUID, place: str) -> str:
    return f"%{value}"


_WRITERS: tuple[tuple[Any, Callable[[Any, str], str]], ...] = (
    (str, _text),
    (bool | None, _constant),
    (int, _integer),
    ((list, tuple), _sequence),
    (float, _float),
    (dict, _mapping),
    (datetime, _datetime),  # before date, which is its base class
    (date, _date),
    (Decimal, _decimal),
    (UUID, _uuid),
)
