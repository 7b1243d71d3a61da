"""Functions and classes of a site's policy: whatever they are, they break no call and no report."""

import functools
import json
import operator
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from analytics_admin.breakers import BreakerPolicy
from analytics_admin.breakers.history import (
    MAX_FAILURE_TEXT_BYTES,
    MAX_HISTORY_NAME_CHARS,
    UNPRINTABLE,
)
from analytics_admin.breakers.policy import decode_policy, encode_policy, plain_policy
from analytics_admin.services import describe_breaker
from tests.support.breakers import another, snapshot_of


def is_bad(result: Any) -> bool:
    return result == 500


class Judge:
    def __call__(self, result: Any) -> bool:
        return is_bad(result)

    def method(self, result: Any) -> bool:
        return is_bad(result)

    @classmethod
    def by_class(cls, result: Any) -> bool:
        return is_bad(result)

    @staticmethod
    def static(result: Any) -> bool:
        return is_bad(result)


class Nameless(Judge):
    """Its attributes raise what nobody expects."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Misnamed(Judge):
    __module__ = None

    def __init__(self) -> None:
        self.__qualname__ = 5


class Verdict:
    """A class as the check: an object of it is the answer."""

    def __init__(self, result: Any) -> None:
        self.is_bad = is_bad(result)

    def __bool__(self) -> bool:
        return self.is_bad


def strangely_named(result: Any) -> bool:
    return is_bad(result)


strangely_named.__qualname__ = "a\ud800\x00\n<b>" + "x" * 10_000

PREDICATES = {
    "tuple": (500, 502).__contains__,
    "list": [500].__contains__,
    "range": range(500, 600).__contains__,
    "dict": {500: 1}.__contains__,
    "set": {500}.__contains__,
    "frozenset": frozenset({500}).__contains__,
    "int": (500).__le__,
    "C function": functools.partial(operator.eq, 500),
    "regular expression": lambda result: re.compile("500").fullmatch(str(result)),
    "method of re": functools.partial(re.fullmatch, "500"),
    "partial": functools.partial(functools.partial(is_bad)),
    "partial of a method": functools.partial(Judge().method),
    "object": Judge(),
    "nameless object": Nameless(),
    "misnamed object": Misnamed(),
    "method": Judge().method,
    "classmethod": Judge.by_class,
    "staticmethod": Judge.static,
    "class": Verdict,
    "mock": Mock(side_effect=is_bad),
    "strangely named": strangely_named,
    "cached": functools.lru_cache(is_bad),
    "dispatched": functools.singledispatch(is_bad),
    "itemgetter": operator.methodcaller("__eq__", 500),
}


@pytest.mark.parametrize("kind", PREDICATES)
def test_a_callable_of_any_kind_judges_results_and_has_a_name(kind):
    predicate = PREDICATES[kind]
    policy = BreakerPolicy(record_result=predicate)
    name = plain_policy(policy)["record_result"]
    assert name
    assert name.isprintable()
    assert json.loads(encode_policy(policy))["record_result"] == name
    decoded = decode_policy(encode_policy(policy))
    assert decoded is not None
    assert decoded[1]["record_result"] == name

    good, bad = ("200", "500") if kind == "method of re" else (200, 500)
    breaker = another("judged", failure_threshold=1, record_result=predicate)
    assert breaker.call(lambda: good) == good
    assert breaker.state == "closed"
    assert breaker.call(lambda: bad) == bad
    assert breaker.state == "open"
    assert describe_breaker("judged").policy["record_result"] == name


async def awaited(result: Any) -> bool:
    return True


def generated(result: Any) -> Iterator[bool]:
    yield True


class AwaitedJudge:
    async def __call__(self, result: Any) -> bool:
        return True


@pytest.mark.parametrize(
    "predicate", [awaited, generated, AwaitedJudge(), functools.partial(awaited)]
)
def test_a_check_whose_answer_is_always_true_is_refused(predicate):
    with pytest.raises(TypeError, match=r"^record_result must answer at once"):
        BreakerPolicy(record_result=predicate)


@pytest.mark.parametrize(
    "predicate", [lambda: True, lambda result, other: True, lambda *, result: True, operator.eq]
)
def test_a_check_that_cannot_take_one_value_is_refused(predicate):
    with pytest.raises(TypeError, match=r"^record_result must accept one value: "):
        BreakerPolicy(record_result=predicate)


@pytest.mark.parametrize("value", [5, "is_bad", [is_bad], {}])
def test_a_check_must_be_callable(value):
    with pytest.raises(TypeError, match=r"^record_result must be callable, not "):
        BreakerPolicy(record_result=value)


def test_a_decorated_check_may_have_another_signature_than_what_it_wraps():
    def wrapped(settings: Any, result: Any) -> bool:
        return is_bad(result)

    @functools.wraps(wrapped)
    def wrapper(result: Any) -> bool:
        return wrapped(None, result)

    assert BreakerPolicy(record_result=wrapper).record_result is wrapper


class Checking(type):
    """Its classes fail when they are asked whether something is of them."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise LookupError("not now")


class Unchecked(Exception, metaclass=Checking):
    pass


class UncheckedChild(Unchecked):
    pass


@pytest.mark.parametrize("error", [Unchecked, UncheckedChild, OSError])
def test_a_class_that_cannot_be_asked_counts_by_its_ancestors(error):
    breaker = another("asked", failure_threshold=1, record_exceptions=(Unchecked,))
    assert type(_caught(breaker.call, _raiser(error))) is error
    assert breaker.state == ("closed" if error is OSError else "open")
    ignoring = another("ignored", failure_threshold=1, ignore_exceptions=(Unchecked,))
    assert type(_caught(ignoring.call, _raiser(error))) is error
    assert ignoring.state == ("open" if error is OSError else "closed")


def _caught(function: Any, *args: Any) -> BaseException | None:
    """Return what the call raises; pytest.raises would ask its class."""
    try:
        function(*args)
    except Exception as error:
        return error
    return None


def _raiser(error: type[BaseException] | BaseException) -> Any:
    def call() -> None:
        raise error

    return call


class Text(str):
    """A str whose methods fail."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError


class Odd(Exception):
    def __init__(self, text: Any) -> None:
        self.text = text

    def __str__(self) -> str:
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


ODD_TEXTS = {
    "raises": RuntimeError(),
    "raises itself": Odd("inner"),
    "no text": None,
    "bytes": b"bytes",
    "10 MB": "x" * 10_000_000,
    "surrogates": "a\ud800b" * 100,
    "control characters": "\x00\x1b[31m" * 100,
    "emoji": "\U0001f600" * 1000,
    "fails when cut": Text("text"),
    "newlines": "a\nb",
}


@pytest.mark.parametrize("kind", ODD_TEXTS)
def test_an_exception_with_an_odd_text_is_counted_and_noted(kind):
    breaker = another("odd", failure_threshold=1)
    with pytest.raises(Odd):
        breaker.call(_raiser(Odd(ODD_TEXTS[kind])))
    assert snapshot_of(breaker).state == "open"
    (failure,) = describe_breaker("odd").failures
    assert failure.error == f"{__name__}.Odd"
    assert len(json.dumps(failure.message, ensure_ascii=False).encode()) <= MAX_FAILURE_TEXT_BYTES
    if kind in ("raises", "no text", "bytes", "fails when cut"):
        assert failure.message == UNPRINTABLE


class Renamed(type):
    __module__ = property(lambda cls: _fail())  # type: ignore[assignment]


def _fail() -> Any:
    raise RuntimeError


def _class_named(name: Any, module: Any = __name__) -> type[Exception]:
    cls = type("Made", (Exception,), {})
    cls.__qualname__ = name
    cls.__module__ = module
    return cls


ODD_CLASSES = {
    "surrogates": _class_named("a\ud800"),
    "control characters": _class_named("a\x00\n\x1b[31m"),
    "long": _class_named("x" * 100_000),
    "no module": _class_named("Made", None),
    "module is a number": _class_named("Made", 5),
    "odd module": _class_named("Made", "a\ud800\n"),
    "module fails": Renamed("Made", (Exception,), {}),
}


@pytest.mark.parametrize("kind", ODD_CLASSES)
def test_an_exception_of_an_odd_class_is_counted_noted_and_part_of_a_policy(kind):
    error = ODD_CLASSES[kind]
    breaker = another("odd", failure_threshold=1, record_exceptions=(error,))
    with pytest.raises(error):
        breaker.call(_raiser(error("text")))
    assert snapshot_of(breaker).state == "open"
    detail = describe_breaker("odd")
    assert detail.failures[0].error.isprintable()
    assert 0 < len(detail.failures[0].error) <= MAX_HISTORY_NAME_CHARS
    (name,) = detail.policy["record_exceptions"]
    assert name.isprintable()
