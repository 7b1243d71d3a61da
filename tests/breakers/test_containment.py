"""An error in the engine is logged, and the protected call goes on as if there were no breaker."""

import asyncio
import ctypes
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, containment
from analytics_admin.breakers.engine import Engine
from tests.support.simulation import SimulatedSite

NAME = "search"
METHODS = ["local_state", "admit", "aadmit", "record", "release"]


class EngineError(Exception):
    pass


# As if the engine, rather than this test, defined it.
EngineError.__module__ = "analytics_admin.breakers.engine"


@pytest.fixture
def site(site: SimulatedSite) -> SimulatedSite:
    containment._logged_at.clear()
    return site


def broken(
    site: SimulatedSite,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[str],
    error: BaseException | type[BaseException] = EngineError,
) -> CircuitBreaker:
    """Return a breaker whose engine raises the error in these methods."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    for method in methods:
        monkeypatch.setattr(Engine, method, fail)
    return site.process(NAME, failure_threshold=2, wait_duration_in_open_state=60)


def in_block(breaker: CircuitBreaker, function: Callable[[], Any]) -> Any:
    with breaker:
        return function()


def in_async_block(breaker: CircuitBreaker, function: Callable[[], Any]) -> Any:
    async def call() -> Any:
        async with breaker:
            return function()

    return asyncio.run(call())


def awaited(breaker: CircuitBreaker, function: Callable[[], Any]) -> Any:
    @breaker
    async def call() -> Any:
        return function()

    return asyncio.run(call())


def released(breaker: CircuitBreaker, function: Callable[[], Any]) -> Any:
    permit = breaker.acquire()
    try:
        return function()
    finally:
        permit.release()


FORMS = {
    "decorator": lambda breaker, function: breaker(function)(),
    "call": lambda breaker, function: breaker.call(function),
    "block": in_block,
    "async block": in_async_block,
    "coroutine function": awaited,
    "permit": released,
}


class BackendError(Exception):
    pass


def fail_so(error: type[BaseException]) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("methods", [*[[method] for method in METHODS], METHODS])
def test_a_broken_engine_changes_no_result_and_no_exception(site, monkeypatch, form, methods):
    breaker = broken(site, monkeypatch, methods)
    assert FORMS[form](breaker, lambda: "result") == "result"
    for error in (BackendError, KeyboardInterrupt):
        with pytest.raises(error):
            FORMS[form](broken(site, monkeypatch, methods), fail_so(error))


@pytest.mark.parametrize("method", ["display_state", "retry_after"])
def test_a_rejection_stays_one_when_the_engine_cannot_say_more(site, monkeypatch, method):
    breaker = broken(site, monkeypatch, [method])
    for _ in range(2):
        breaker.acquire().fail()
    with pytest.raises(CircuitOpenError) as rejected:
        breaker.call(int)
    assert rejected.value.state == "open"
    assert rejected.value.retry_after in (0, 60)


def test_the_error_is_logged_with_the_breakers_name_once_a_minute(site, monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(containment.time, "monotonic", lambda: now)
    breaker = broken(site, monkeypatch, ["record"])
    other = site.process("other")
    for later, lines in ((0, 2), (59, 2), (61, 4)):
        now = 1000.0 + later
        for _ in range(3):
            for each in (breaker, other):
                with pytest.raises(BackendError):
                    each.call(fail_so(BackendError))
        assert len(caplog.records) == lines
    assert caplog.records[0].levelno == logging.ERROR
    assert NAME in caplog.records[0].getMessage()
    assert "EngineError" in caplog.text


def test_a_logging_filter_that_raises_does_no_harm(site, monkeypatch):
    def refuse(record: logging.LogRecord) -> bool:
        raise BackendError

    breaker = broken(site, monkeypatch, ["admit", "record"])
    containment.contained_logger.logger.addFilter(refuse)
    try:
        assert breaker.call(lambda: 1) == 1
    finally:
        containment.contained_logger.logger.removeFilter(refuse)


@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_raised(site, monkeypatch, error):
    breaker = broken(site, monkeypatch, ["admit"], error)
    with pytest.raises(error):
        breaker.call(int)


def test_a_policy_that_the_settings_spoil_lets_calls_pass(site, caplog):
    breaker = site.process(NAME, failure_treshold=5)
    assert breaker.call(lambda: 1) == 1
    assert "did you mean 'failure_threshold'" in caplog.text
    with pytest.raises(TypeError):
        breaker.policy  # noqa: B018


class LimitReached(Exception):
    pass


def test_a_users_time_limit_that_ends_the_engines_work_is_raised(site, monkeypatch):
    def limit(*_: Any) -> None:
        raise TimeoutError("the request's time is up")

    def wait(*_: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, limit)
    try:
        breaker = site.process(NAME)
        for method in ("local_state", "admit"):
            with monkeypatch.context() as patch:
                patch.setattr(Engine, method, wait)
                with pytest.raises(TimeoutError, match="time is up"):
                    breaker.call(int)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_that_another_thread_raises_in_this_one_is_raised(site, monkeypatch):
    """So do packages that limit the time of a thread."""
    engine_code: dict[str, Any] = {"__name__": "analytics_admin.breakers.engine"}
    exec("def admit(*_):\n    entered()\n    while True: pass", engine_code)
    entered = threading.Event()
    engine_code["entered"] = entered.set
    monkeypatch.setattr(Engine, "admit", engine_code["admit"])
    breaker = site.process(NAME)
    raised: list[BaseException] = []

    def call() -> None:
        try:
            breaker.call(int)
        except LimitReached as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    entered.wait(10)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(LimitReached)
    )
    thread.join()
    assert raised
