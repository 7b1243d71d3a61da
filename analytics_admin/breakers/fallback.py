"""What answers in place of a call that a breaker rejects. Knows no breaker."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

RAISE: Final = object()
"""No fallback: a rejected call raises. None is a value like any other."""


def make_fallback(fallback: Any, *, awaited: bool) -> Callable[..., Any] | None:
    """Return what to call with the arguments of a rejected call; None if it is to raise.

    A fallback that cannot be called is a value, handed out as it is.

    Raises:
        TypeError: a coroutine function where nobody awaits what it returns.
    """
    if fallback is RAISE:
        return None
    if not callable(fallback):
        return lambda *args, **kwargs: fallback
    if not awaited and is_kind_of(fallback, inspect.iscoroutinefunction):
        raise TypeError(f"the fallback of a function that is not async cannot be {fallback!r}")
    given: Callable[..., Any] = fallback
    return given


def is_kind_of(function: Any, kind: Callable[[Any], bool]) -> bool:
    """Say whether a call runs a function of this kind, be it in a partial or an object's own."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(type(function).__call__)


def is_generator(function: Any) -> bool:
    """Say whether this is a generator function, async or not."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
