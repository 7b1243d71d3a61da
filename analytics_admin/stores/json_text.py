"""JSON from outside, with a limit of nesting that is the same for every Python.

Up to 3.12 the parser refuses what is nested about a thousand times. 3.14 reads any depth, and what
it returns then fails wherever it is written, compared or shown.
"""

import json
from typing import Any

MAX_DEPTH = 500


def parse(text: str | bytes, **options: Any) -> Any:
    """Return the value, as ``json.loads`` does.

    Raises:
        ValueError, RecursionError: the text is no JSON, or is nested more than 500 times.
    """
    value = json.loads(text, **options)
    require_shallow(text.decode() if isinstance(text, bytes) else text, value)
    return value


def require_shallow(text: str, value: Any) -> None:
    """Raise ValueError if the value, which has this text, is nested more than 500 times."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:  # as a rule, and at no price
        return
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(MAX_DEPTH):
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, list | dict)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")
