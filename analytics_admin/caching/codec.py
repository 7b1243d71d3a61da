"""Values as JSON text that reads back unchanged, type by type.

Not pickle: anyone who can write to the store must not be able to run code here.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from analytics_admin.stores.json_text import require_shallow


class UnstorableValue(TypeError):
    """A value that would not come back from the cache unchanged; the message names the place."""

    code = "unstorable_value"


class ValueTooLarge(ValueError):
    """A value larger than SEARCH_CACHE_MAX_VALUE_BYTES."""

    code = "value_too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the value takes {size} bytes; the limit is {limit}")


def encode(value: Any) -> str:
    """Return the value as compact JSON.

    Raises:
        UnstorableValue: a type would come back as another one, or not at all.
    """
    try:
        _check(value, "value")
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), check_circular=False)
    except RecursionError:
        raise UnstorableValue("value is nested too deeply, or contains itself") from None
    except ValueError as error:  # an int with more digits than Python converts
        raise UnstorableValue(f"value cannot be written: {error}") from None
    try:
        require_shallow(value, len(text))
    except ValueError as error:
        raise UnstorableValue(f"value is {error}") from None
    return text


DAMAGED = (ValueError, RecursionError)
"""What ``decode`` raises for a text that ``encode`` cannot have written."""


def decode(text: str) -> Any:
    """Return the value that ``encode`` wrote."""
    # encode escapes no surrogate; one character is looked for many times faster than three
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        return _decode_checked(text)
    value = _decode(text)
    require_shallow(value, len(text))
    return value


def _decode_checked(text: str) -> Any:
    value = _decode(text)
    try:
        encode(value)
    except UnstorableValue as error:
        raise ValueError(str(error)) from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode: Callable[[str], Any] = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _check(value: Any, place: str) -> None:  # noqa: C901  one branch per type that survives
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value, place)
    elif value is None or kind is bool or kind is int:
        return
    elif kind is float:
        if not math.isfinite(value):
            raise UnstorableValue(f"{place} is {value}, which JSON cannot express")
    elif kind is list:
        for number, item in enumerate(value):
            _check(item, f"{place}[{number}]")
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise UnstorableValue(f"{place} has the key {name!r}, which would become a string")
            _check_text(name, place)
            _check(item, f'{place}["{name}"]')
    else:
        raise UnstorableValue(f"{place} is a {kind.__name__}, which JSON cannot restore")


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstorableValue(f"{place} holds half of a surrogate pair") from None
