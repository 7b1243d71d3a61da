"""JSON from outside, with a limit of nesting that is the same for every Python.

3.11 refuses what is nested about a thousand times, 3.13 ten thousand times. 3.14 reads any depth,
and what it returns then fails wherever it is written, compared or shown.
"""

import json
from gc import get_referents
from typing import Any

MAX_DEPTH = 500


def parse(text: str | bytes, **options: Any) -> Any:
    """Return the value, as ``json.loads`` does.

    Raises:
        ValueError, RecursionError: the text is no JSON, or is nested more than 500 times.
    """
    value = json.loads(text, **options)
    require_shallow(value, len(text))
    return value


def require_shallow(value: Any, length: int) -> None:
    """Raise ValueError if the value, whose JSON has this length, is nested more than 500 times."""
    if length <= 2 * MAX_DEPTH:  # too short to open and close so often
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = get_referents(*level)  # all that these hold; a loop in Python costs ten times that
        if not level:
            return
    if any(isinstance(item, list | dict) for item in level):
        raise ValueError("nested too deeply")
