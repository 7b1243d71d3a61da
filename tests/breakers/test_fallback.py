"""What answers in place of a call that a breaker rejects."""

import asyncio
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.state import Counts
from tests.support.breakers import another, snapshot_of, trip


@pytest.fixture
def closed() -> CircuitBreaker:
    return another("closed-one", failure_threshold=3)


@pytest.fixture
def tripped() -> CircuitBreaker:
    return trip("tripped-one")


def fetch(query: str, page: int = 1) -> list[str]:
    return [f"{query} {page}"]


async def afetch(query: str, page: int = 1) -> list[str]:
    await asyncio.sleep(0)
    return fetch(query, page)


@pytest.mark.parametrize("value", [[], None, False, "nothing", 0])
def test_a_value_answers_a_rejected_call(tripped: CircuitBreaker, value: Any) -> None:
    assert tripped(fallback=value)(fetch)("lamp") is value
    assert tripped(fetch, fallback=value)("lamp") is value
    assert tripped.call(fetch, "lamp", fallback=value) is value
    assert asyncio.run(tripped(fallback=value)(afetch)("lamp")) is value
    assert asyncio.run(tripped.acall(afetch, "lamp", fallback=value)) is value


def test_a_callable_answers_with_the_arguments_of_the_call(tripped: CircuitBreaker) -> None:
    def kept(query: str, page: int) -> tuple[str, int]:
        return query, page

    assert tripped(fallback=kept)(fetch)("lamp", page=2) == ("lamp", 2)
    assert tripped.call(fetch, "lamp", 2, fallback=kept) == ("lamp", 2)
    assert asyncio.run(tripped(fallback=kept)(afetch)("lamp", 2)) == ("lamp", 2)


def test_a_coroutine_function_answers_for_a_coroutine_function(tripped: CircuitBreaker) -> None:
    async def kept(query: str, page: int = 1) -> str:
        await asyncio.sleep(0)
        return f"kept {query} {page}"

    assert asyncio.run(tripped(fallback=kept)(afetch)("lamp", page=3)) == "kept lamp 3"
    assert asyncio.run(tripped.acall(lambda: afetch("lamp"), fallback=lambda: kept("lamp"))) == (
        "kept lamp 1"
    )


def test_a_fallback_that_nobody_would_await_is_refused(closed: CircuitBreaker) -> None:
    with pytest.raises(TypeError, match="not async"):
        closed(fallback=afetch)(fetch)
    with pytest.raises(TypeError, match="not async"):
        closed.call(fetch, "lamp", fallback=afetch)


def test_a_call_that_passes_never_meets_the_fallback(closed: CircuitBreaker) -> None:
    protected = closed(fallback=pytest.fail)(fetch)
    assert [protected("lamp") for _ in range(3)] == [["lamp 1"]] * 3
    assert closed.call(fetch, "lamp", fallback=pytest.fail) == ["lamp 1"]
    assert asyncio.run(closed.acall(afetch, "lamp", fallback=pytest.fail)) == ["lamp 1"]


def test_a_call_that_fails_raises_what_it_raised(closed: CircuitBreaker) -> None:
    def broken() -> None:
        raise ConnectionError

    protected = closed(fallback=None)(broken)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            protected()
    assert protected() is None  # open by now


def test_the_rejection_of_another_breaker_within_is_a_failure_not_a_fallback(
    closed: CircuitBreaker, tripped: CircuitBreaker
) -> None:
    protected = closed(fallback=[])(tripped(fetch))
    with pytest.raises(CircuitOpenError) as caught:
        protected("lamp")
    assert caught.value.name == tripped.name
    assert snapshot_of(closed).counts == Counts(calls=1, failures=1)


def test_an_answered_rejection_counts_as_nothing(tripped: CircuitBreaker) -> None:
    tripped(fallback=[])(fetch)("lamp")
    assert snapshot_of(tripped).counts == Counts()


def test_what_a_fallback_raises_is_the_callers(tripped: CircuitBreaker) -> None:
    def broken(query: str) -> None:
        raise LookupError(query)

    with pytest.raises(LookupError, match="lamp") as caught:
        tripped(fallback=broken)(fetch)("lamp")
    assert caught.value.__context__ is None


def test_methods_of_every_kind_have_fallbacks(tripped: CircuitBreaker) -> None:
    class Shop:
        name = "shop"

        def kept(self, query: str) -> str:
            return f"{self.name} {query}"

        @tripped(fallback=kept)
        def method(self, query: str) -> str:
            return query

        @tripped(fallback=lambda cls, query: f"{cls.__name__} {query}")
        @classmethod
        def of_class(cls, query: str) -> str:
            return query

        @tripped(fallback="static")
        @staticmethod
        def static(query: str) -> str:
            return query

    assert Shop().method("lamp") == "shop lamp"
    assert Shop.of_class("lamp") == "Shop lamp"
    assert Shop.static("lamp") == "static"


def test_a_function_keeps_an_argument_called_fallback(
    closed: CircuitBreaker, tripped: CircuitBreaker
) -> None:
    def find(query: str, fallback: str = "none") -> str:
        return f"{query} or {fallback}"

    for breaker in (closed, another("closed-one")):  # asking the store, and then not
        protected = breaker(find)
        assert [protected("lamp", fallback="bulb") for _ in range(2)] == ["lamp or bulb"] * 2
    assert tripped(find, fallback=find)("lamp", fallback="bulb") == "lamp or bulb"


def test_a_breaker_called_with_nothing_is_refused(closed: CircuitBreaker) -> None:
    with pytest.raises(TypeError, match="needs a function"):
        closed()
