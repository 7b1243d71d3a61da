"""Where a caller waits for the store, and where nothing does."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.control import set_control
from analytics_admin.breakers.reporter_requests import Wish
from analytics_admin.breakers.runtime import registered_names
from analytics_admin.breakers.state import Control
from tests.support.breakers import another, trip
from tests.support.sites import eventually

BLOCKING = {"sleep", "send", "sendall", "sendmsg", "sendto", "recv", "recv_into", "recvmsg"}
BLOCKING |= {"connect", "connect_ex", "getaddrinfo", "poll", "select", "epoll_wait", "fsync"}


@pytest.mark.hurried
def test_the_state_does_not_hold_an_event_loop_up(server, proxy):
    trip("a")
    proxy.delay = 0.1
    breaker = another("a")

    async def look() -> float:
        began = time.monotonic()
        assert breaker.state == "closed"  # for all that is known
        waited = time.monotonic() - began
        while breaker.state == "closed":
            await asyncio.sleep(0.01)
        return waited

    assert asyncio.run(look()) < 0.05
    assert breaker.state == "open"
    other = another("a")
    assert other.state == "open"  # outside of a loop it waits


@pytest.mark.hurried
def test_no_call_of_a_known_breaker_makes_a_blocking_system_call():
    """Also those, once a second, that ask the engine."""
    trip("open")
    holds = [Control.FORCED_OPEN, Control.DISABLED, Control.METRICS_ONLY]
    names = [hold.value for hold in holds]
    for name in names:
        another(name).call(int)
    assert eventually(lambda: set(names) <= set(registered_names()))
    for hold in holds:
        set_control([hold.value], hold, for_seconds=None, actor="sam", reason="")
    engine = another("-").engine
    breakers = [
        CircuitBreaker(name, engine, lambda: BreakerPolicy(failure_threshold=10**6))
        for name in ("open", "closed", "failing", *names)
    ]
    assert [breaker.state for breaker in breakers] == ["open", "closed", "closed", *names]
    made: dict[str, set[str]] = {breaker.name: set() for breaker in breakers}

    def note(frame: Any, event: str, function: Callable[..., Any]) -> None:
        if event == "c_call":
            made[called.name].add(function.__name__)

    called, until = breakers[0], time.monotonic() + 1.2
    sys.setprofile(note)
    try:
        while time.monotonic() < until:
            for called in breakers:
                with suppress(CircuitOpenError):
                    permit = called.acquire()
                    (permit.fail if called.name == "failing" else permit.succeed)()
                    called.call(int)
    finally:
        sys.setprofile(None)
    for name, functions in made.items():
        assert "monotonic" in functions, name
        assert not functions & BLOCKING, name


def test_calls_that_do_not_wait_leave_no_requests_behind():
    breaker = another("loop", failure_threshold=1, wait_duration_in_open_state=0.05)
    breaker.acquire().fail()
    assert breaker.engine.report_all(10)
    time.sleep(0.1)
    asked = []
    submit = breaker.engine.reporter.submit

    def note(request):
        asked.append(request)
        return request if request.wish is Wish.PERMIT else submit(request)

    async def call_often() -> None:
        for _ in range(1000):
            with suppress(CircuitOpenError):
                breaker.acquire().release()

    with patch.object(breaker.engine.reporter, "submit", note):
        asyncio.run(call_often())
    assert 1 <= sum(request.wish is Wish.PERMIT for request in asked) < 100
