"""A policy's functions and exception classes: code of the site's, which may do anything."""

import functools
import inspect
from typing import Any

MAX_DOTTED_CHARS = 120


def check_predicate(option: str, predicate: Any) -> None:
    """Check that ``predicate(value)`` can answer, as far as can be known; None passes.

    Raises:
        TypeError: it cannot be called with one value, or its answer would have to be awaited.
    """
    if predicate is None:
        return
    if not callable(predicate):
        raise TypeError(f"{option} must be callable, not {predicate!r}")
    if any(map(_is_deferred, (_unwrap(predicate), type(predicate).__call__))):
        raise TypeError(f"{option} must answer at once, so it cannot be async or a generator")
    try:
        signature = inspect.signature(predicate, follow_wrapped=False)
    # Built-in functions have none, and that of another object may be the work of its own code.
    except Exception:
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"{option} must accept one value: {error}") from None


def is_instance(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Return whether the error is of one of the classes, also if their own check of it fails."""
    try:
        return isinstance(error, classes)
    # A metaclass may define the check. What it raises must not replace the call's own error.
    except Exception:
        return not set(map(id, type(error).__mro__)).isdisjoint(map(id, classes))


def dotted_name(thing: Any) -> str:
    """Return the name of a class or function with its module, if it has one, as printable text."""
    thing = _unwrap(thing)
    try:
        name = thing.__qualname__
    except Exception:  # a callable object has none, or its own code fails
        name = None
    if not isinstance(name, str):
        thing, name = type(thing), type(thing).__qualname__
    try:
        module = thing.__module__
    except Exception:  # methods of built-in objects have none
        module = None
    return printable(f"{module}.{name}" if isinstance(module, str) else name)[-MAX_DOTTED_CHARS:]


def printable(text: str) -> str:
    """Return the text without characters that cannot be stored or shown."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


def _unwrap(predicate: Any) -> Any:
    while isinstance(predicate, functools.partial):
        predicate = predicate.func
    return predicate


def _is_deferred(function: Any) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    try:
        return any(is_kind(function) for is_kind in kinds)
    except Exception:  # the object's own code
        return False
