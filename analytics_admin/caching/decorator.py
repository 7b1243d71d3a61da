"""Functions whose results are cached by their arguments. Knows the cache by its methods alone."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from datetime import date
from decimal import Decimal
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast
from uuid import UUID

from asgiref.sync import markcoroutinefunction

from analytics_admin.caching.effects import Lookup

if TYPE_CHECKING:
    from analytics_admin.caching.search_cache import SearchCache

P = ParamSpec("P")
R = TypeVar("R")

OBJECT_KEY = "search_cache_key"
PLAIN = (str, int, float, list, tuple, dict, date, Decimal, UUID)
"""What is in a key as it is."""


class Decorator:
    """What makes a function a cached one, on these terms."""

    def __init__(
        self,
        cache: "SearchCache",
        *,
        tags: Iterable[str] | Callable[..., Iterable[str]],
        **terms: Any,
    ) -> None:
        self._cache = cache
        self._tags = tags if callable(tags) else tuple(tags) if not isinstance(tags, str) else tags
        self._terms = terms

    def __call__(self, function: Callable[P, R]) -> "CachedFunction[P, R]":
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("what a generator yields cannot be cached; return a list")
        if getattr(function, "__name__", "<lambda>") == "<lambda>":
            raise TypeError("a cached function needs a name, which is in its keys; define it")
        return CachedFunction(self._cache, function, self._tags, self._terms)


class CachedFunction(Generic[P, R]):
    """A function in front of which the search cache stands."""

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        cache: "SearchCache",
        function: Callable[P, R],
        tags: Iterable[str] | Callable[..., Iterable[str]],
        terms: dict[str, Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._function = function
        self._tags = tags
        self._terms = terms
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._signature = inspect.signature(function)
        self._is_async = inspect.iscoroutinefunction(function)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: Any = self.lookup(*args, **kwargs)
        result: Any = self._value_later(found) if self._is_async else found.value
        return cast("R", result)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the Lookup of a call; of an ``async def`` an awaitable of it."""
        terms = {**self._terms, "tags": self._tags_of(args, kwargs)}
        compute = functools.partial(self._function, *args, **kwargs)
        lookup = self._cache.alookup if self._is_async else self._cache.lookup
        return lookup(self.key(*args, **kwargs), compute, **terms)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> list[Any]:
        """Return the key of a call, as the cache's own methods take it.

        Raises:
            TypeError: the function does not take these arguments.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if args:
            first = next(iter(arguments))
            arguments[first] = _part_of(arguments[first])
        return [self._name, arguments]

    def delete(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Remove the result of a call; of an ``async def`` an awaitable. See SearchCache."""
        delete = self._cache.adelete if self._is_async else self._cache.delete
        return delete(self.key(*args, **kwargs))

    def _tags_of(self, args: Any, kwargs: Any) -> Iterable[str]:
        return self._tags(*args, **kwargs) if callable(self._tags) else self._tags

    async def _value_later(self, found: Coroutine[Any, Any, Lookup]) -> Any:
        return (await found).value


def _part_of(first: Any) -> Any:
    """Return what of a first argument enters the key, which may be a method's object or class."""
    if first is None or isinstance(first, PLAIN):
        return first
    kind = first if isinstance(first, type) else type(first)
    own = None
    if first is not kind:
        try:
            own = getattr(first, OBJECT_KEY)
        except AttributeError:
            raise TypeError(
                f"a {kind.__name__} cannot be in a key; its attribute {OBJECT_KEY} would"
            ) from None
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "own": own}
