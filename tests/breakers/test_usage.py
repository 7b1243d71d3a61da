"""What may be protected, what is refused, and what wrong use comes to."""

import asyncio
import functools
import inspect
from typing import Any

import pytest

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    circuit_breaker,
)
from analytics_admin.breakers.state import Counts
from tests.support.backend import BackendDown
from tests.support.breakers import another, snapshot_of


@pytest.fixture
def breaker() -> CircuitBreaker:
    return another("in-use", failure_threshold=3, wait_duration_in_open_state=60)


def counts(breaker: CircuitBreaker) -> Counts:
    return snapshot_of(breaker).counts


def fetch(query: str) -> str:
    if query == "bad":
        raise BackendDown
    return query.upper()


async def afetch(query: str) -> str:
    await asyncio.sleep(0)
    return fetch(query)


class Fetcher:
    def __call__(self, query: str) -> str:
        return fetch(query)

    def method(self, query: str) -> str:
        return fetch(query)


class AsyncFetcher:
    async def __call__(self, query: str) -> str:
        return await afetch(query)

    async def method(self, query: str) -> str:
        return await afetch(query)


CALLABLES = {
    "function": fetch,
    "partial": functools.partial(fetch),
    "partial of a partial": functools.partial(functools.partial(fetch)),
    "bound method": Fetcher().method,
    "object": Fetcher(),
    "partial of an object": functools.partial(Fetcher()),
    "coroutine function": afetch,
    "partial of a coroutine function": functools.partial(afetch),
    "bound coroutine method": AsyncFetcher().method,
    "object with an async call": AsyncFetcher(),
    "partial of an object with an async call": functools.partial(AsyncFetcher()),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_whatever_can_be_called_is_protected_while_it_runs(
    breaker: CircuitBreaker, kind: str
) -> None:
    protected: Any = breaker(CALLABLES[kind])

    def use(query: str) -> Any:
        result = protected(query)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    assert use("ok") == "OK"
    for _ in range(3):
        with pytest.raises(BackendDown):
            use("bad")
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError):
        use("ok")


def test_class_methods_and_static_methods_are_protected_from_either_side(
    breaker: CircuitBreaker,
) -> None:
    class Client:
        @breaker
        @classmethod
        def outside(cls) -> type:
            return cls

        @classmethod
        @breaker
        def inside(cls) -> type:
            return cls

        @breaker
        @staticmethod
        def static_outside() -> str:
            return "static"

        @staticmethod
        @breaker
        async def static_inside() -> str:
            return "static"

    class Heir(Client):
        pass

    for user in (Heir, Heir()):
        assert (user.outside(), user.inside()) == (Heir, Heir)
        assert (user.static_outside(), asyncio.run(user.static_inside())) == ("static", "static")
    breaker.engine.flush()
    assert counts(breaker) == Counts(calls=8)


def rows() -> Any:
    yield 1


async def arows() -> Any:
    yield 1


class Rows:
    def __call__(self) -> Any:
        yield 1


class AsyncRows:
    async def __call__(self) -> Any:
        yield 1


@pytest.mark.parametrize("function", [rows, arows, functools.partial(rows), Rows(), AsyncRows()])
def test_whatever_yields_is_refused_at_declaration(breaker: CircuitBreaker, function: Any) -> None:
    with pytest.raises(TypeError, match="generator function cannot be protected"):
        breaker(function)


@pytest.mark.parametrize("given", [None, 5, "fetch", afetch.__name__])
def test_what_cannot_be_called_is_refused_at_declaration(
    breaker: CircuitBreaker, given: Any
) -> None:
    with pytest.raises(TypeError, match="can protect only a callable, not"):
        breaker(given)


@pytest.mark.parametrize("first", ["succeed", "fail", "release"])
@pytest.mark.parametrize("second", ["succeed", "fail", "release"])
def test_the_first_report_of_a_permit_stands(
    breaker: CircuitBreaker, first: str, second: str
) -> None:
    assert breaker.state == "closed"
    permit = breaker.acquire()
    getattr(permit, first)()
    getattr(permit, second)()
    breaker.engine.flush()
    expected = {"succeed": Counts(calls=1), "fail": Counts(calls=1, failures=1)}
    assert counts(breaker) == expected.get(first, Counts())


@pytest.mark.parametrize("first", ["asucceed", "afail", "arelease"])
def test_the_first_report_of_a_permit_stands_in_a_task_too(
    breaker: CircuitBreaker, first: str
) -> None:
    async def use() -> None:
        permit = await breaker.aacquire()
        await getattr(permit, first)()
        for again in (permit.asucceed, permit.afail, permit.arelease):
            await again()

    assert breaker.state == "closed"
    asyncio.run(use())
    breaker.engine.flush()
    expected = {"asucceed": Counts(calls=1), "afail": Counts(calls=1, failures=1)}
    assert counts(breaker) == expected.get(first, Counts())


def test_a_permit_reported_inside_its_block_counts_once(breaker: CircuitBreaker) -> None:
    def use() -> None:
        with breaker as permit:
            permit.fail()
            raise BackendDown

    with pytest.raises(BackendDown):
        use()
    assert counts(breaker) == Counts(calls=1, failures=1)


def test_blocks_of_one_breaker_nest_and_interleave_with_others(breaker: CircuitBreaker) -> None:
    other = another("other", failure_threshold=3)
    assert (breaker.state, other.state) == ("closed", "closed")
    with breaker:
        with pytest.raises(BackendDown), other, breaker:
            raise BackendDown
        with breaker:
            pass
    for each in (breaker, other):
        each.engine.flush()
    assert counts(breaker) == Counts(calls=3, failures=1)
    assert counts(other) == Counts(calls=1, failures=1)


def test_tasks_in_blocks_of_one_breaker_do_not_mix_their_ends(breaker: CircuitBreaker) -> None:
    async def call(number: int) -> None:
        async with breaker:
            await asyncio.sleep(0.001 * (number % 5))
            if number % 4 == 0:
                raise BackendDown

    async def use() -> None:
        await asyncio.gather(*(call(number) for number in range(40)), return_exceptions=True)

    breaker = another("in-tasks", failure_threshold=1000)
    assert breaker.state == "closed"
    asyncio.run(use())
    breaker.engine.flush()
    assert counts(breaker) == Counts(calls=40, failures=10)


@pytest.mark.parametrize(
    ("policy", "error", "text"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold must be at least 1"),
        ({"wait_duration_in_open_state": "1m"}, TypeError, "wait_duration_in_open_state"),
        ({"wait": 5}, TypeError, "no option 'wait'"),
    ],
)
def test_an_unusable_policy_is_refused_where_the_breaker_is_declared(
    policy: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        circuit_breaker("never-declared", **policy)
    assert circuit_breaker("never-declared").policy == BreakerPolicy()


@pytest.mark.parametrize(
    "kind", [kind for kind in CALLABLES if "corout" in kind or "async" in kind]
)
def test_call_refuses_what_has_to_be_awaited_and_counts_nothing(breaker, kind):
    with pytest.raises(TypeError, match="acall"):
        breaker.call(CALLABLES[kind], "ok")
    assert counts(breaker) == Counts()
    assert asyncio.run(breaker.acall(CALLABLES[kind], "ok")) == "OK"
