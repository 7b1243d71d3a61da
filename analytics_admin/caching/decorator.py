"""The decorator that caches a function's results by its arguments."""

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast
from uuid import UUID

from asgiref.sync import markcoroutinefunction

from analytics_admin.caching.codec import UnstorableValue, encode
from analytics_admin.caching.effects import Lookup, TextLookup
from analytics_admin.caching.keys import MAX_REMEMBERED, REMEMBERED_TYPES, KeyName, name_key

if TYPE_CHECKING:
    from analytics_admin.caching.search_cache import SearchCache

P = ParamSpec("P")
R = TypeVar("R")

OBJECT_KEY = "search_cache_key"
PLAIN = (str, int, float, list, tuple, dict, date, Decimal, UUID)
"""Types that are part of a key unchanged."""


class Decorator:
    """Turns a function into a cached one; ``options`` are those of every call."""

    def __init__(
        self,
        cache: "SearchCache",
        *,
        tags: Iterable[str] | Callable[..., Iterable[str]],
        **options: Any,
    ) -> None:
        self._cache = cache
        self._tags = tags if callable(tags) else tuple(tags) if not isinstance(tags, str) else tags
        self._options = options

    def __call__(self, function: Callable[P, R]) -> "CachedFunction[P, R]":
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator cannot be cached; return a list")
        if getattr(function, "__name__", "<lambda>") == "<lambda>":
            raise TypeError("a cached function needs a name, which is part of its keys; use def")
        return CachedFunction(self._cache, function, self._tags, self._options)


class CachedFunction(Generic[P, R]):
    """A function whose results the search cache keeps."""

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        cache: "SearchCache",
        function: Callable[P, R],
        tags: Iterable[str] | Callable[..., Iterable[str]],
        options: dict[str, Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._function = function
        self._tags = tags
        self._options = options
        self._name = full_name(function)
        self._names: dict[Any, KeyName] = {}
        self._signature = inspect.signature(function)
        self._is_async = inspect.iscoroutinefunction(function)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        lookup: Any = self.lookup(*args, **kwargs)
        result: Any = self._avalue(lookup) if self._is_async else lookup.value
        return cast("R", result)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the Lookup of a call; for an ``async def``, an awaitable of it."""
        lookup: Any = self._cache.alookup if self._is_async else self._cache.lookup
        return self._look(lookup, args, kwargs)

    def lookup_text(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the TextLookup of a call; for an ``async def``, an awaitable of it."""
        lookup: Any = self._cache.alookup_text if self._is_async else self._cache.lookup_text
        return self._look(lookup, args, kwargs)

    def text(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the result of a call as JSON text; for an ``async def``, an awaitable of it."""
        lookup = self.lookup_text(*args, **kwargs)
        return self._atext(lookup) if self._is_async else lookup.text

    def _look(self, lookup: Any, args: Any, kwargs: Any) -> Any:
        """Look the call up by one of the cache's methods, and count it."""
        tags = self._tags(*args, **kwargs) if callable(self._tags) else self._tags
        compute = functools.partial(self._compute, args, kwargs)
        answer = functools.partial(
            lookup, self._key_name(args, kwargs), compute, tags=tags, **self._options
        )
        if self._is_async:
            return self._acounted(answer())
        state = "miss"
        try:
            found = answer()
            state = found.state
        finally:
            self._cache.counter.called(self._name, state)
        return found

    def key(self, *args: P.args, **kwargs: P.kwargs) -> list[Any]:
        """Return the key of a call, for the methods of the cache.

        Raises:
            TypeError: the function does not accept these arguments.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if args:
            first = next(iter(arguments))
            arguments[first] = _key_part(arguments[first])
        return [self._name, arguments]

    def _key_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeyName:
        """Return the name of a call's key; remember those of plain arguments."""
        values = (*args, *kwargs.values())
        types = tuple(map(type, values))
        call = (values, types, tuple(kwargs)) if REMEMBERED_TYPES.issuperset(types) else None
        if call is not None and (name := self._names.get(call)) is not None:
            return name
        key: Any = self.key
        name = KeyName(name_key(key(*args, **kwargs)), self._name)
        if call is not None and name.startswith("k:"):  # not the hash of a long one
            if len(self._names) >= MAX_REMEMBERED:
                self._names.clear()
            self._names[call] = name
        return name

    def delete(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Remove the result of a call; for an ``async def``, return an awaitable."""
        delete = self._cache.adelete if self._is_async else self._cache.delete
        return delete(self.key(*args, **kwargs))

    def _compute(self, args: Any, kwargs: Any) -> Any:
        """Call the function, and count what that takes."""
        started = time.monotonic()
        if self._is_async:
            return self._acompute(args, kwargs, started)
        try:
            result = self._function(*args, **kwargs)
        except Exception:
            self._count_computation(started)
            raise
        self._count_computation(started, result)
        return result

    async def _acompute(self, args: Any, kwargs: Any, started: float) -> Any:
        function: Any = self._function
        try:
            result = await function(*args, **kwargs)
        except Exception:
            self._count_computation(started)
            raise
        self._count_computation(started, result)
        return result

    def _count_computation(self, started: float, result: Any = None) -> None:
        seconds, size = time.monotonic() - started, 0
        if result is not None:
            with suppress(UnstorableValue):
                size = len(encode(result).encode())
        self._cache.counter.computed(self._name, size=size, seconds=seconds)

    async def _acounted(self, answer: Coroutine[Any, Any, Any]) -> Any:
        state = "miss"
        try:
            lookup = await answer
            state = lookup.state
        finally:
            self._cache.counter.called(self._name, state)
        return lookup

    async def _atext(self, lookup: Coroutine[Any, Any, TextLookup]) -> str:
        return (await lookup).text

    async def _avalue(self, lookup: Coroutine[Any, Any, Lookup]) -> Any:
        return (await lookup).value


def _key_part(first: Any) -> Any:
    """Return the key's part for a first argument, which may be a method's object or class."""
    if first is None or isinstance(first, PLAIN):
        return first
    cls = first if isinstance(first, type) else type(first)
    own = None
    if first is not cls:
        try:
            own = getattr(first, OBJECT_KEY)
        except AttributeError:
            raise TypeError(
                f"a {cls.__name__} cannot be part of a key; give it the attribute {OBJECT_KEY}"
            ) from None
    return {"class": full_name(cls), "own": own}


def full_name(thing: Any) -> str:
    """Return the name of a function or class, which no other one has.

    The module of every script is ``__main__``: there the file tells them apart.
    """
    module = thing.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:  # python -m: the module's own name
            module = spec.name
        elif file is not None:
            module = f"{module}:{os.path.realpath(file)}"
    return f"{module}.{thing.__qualname__}"
