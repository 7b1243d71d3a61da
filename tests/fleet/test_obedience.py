"""What an operation says of who obeys is true of eight real processes."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError, circuit_breaker, runtime
from analytics_admin.breakers.presence import GONE_SECONDS, SILENT_SECONDS
from analytics_admin.services import Actor, OperationResult, ProcessStatus
from tests.support.crew import Crew
from tests.support.stored_breakers import key_of_site, raw_client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.hurried]
SHELL = Actor.system("root")
NAME = "obeyed.by.all"
NUMBER = 8


def call() -> str:
    """Call the breaker; return what it met."""
    try:
        return circuit_breaker(NAME, failure_threshold=3).call(lambda: "passed")
    except CircuitOpenError as error:
        return error.state


def read() -> bool:
    """Read the breaker; return whether it has a record."""
    breaker = circuit_breaker(NAME, failure_threshold=3)
    breaker.engine.expire(NAME)
    assert breaker.state
    breaker.engine.report_all(10)
    return breaker.local_state.snapshot is not None


def hold(control: str) -> OperationResult:
    return services.set_breaker_control(actor=SHELL, name=NAME, control=control)


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(NUMBER, settles=False) as crew:
        yield crew


@pytest.fixture
def fleet(crew: Crew) -> Crew:
    """All of the crew that still live use the breaker, and are listed."""
    runtime.engine.flush()  # this process is not one of them
    runtime.engine.reconnect()
    ends_at = time.monotonic() + 10
    while set(crew.ask_all(read)) != {True}:  # the store was emptied, which nobody is told
        assert time.monotonic() < ends_at
    assert set(crew.ask_all(call)) == {"passed"}
    wait_for(NUMBER)
    return crew


def wait_for(number: int) -> list[ProcessStatus]:
    ends_at = time.monotonic() + 10
    while len(listed := services.list_processes()) != number and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert len(listed) == number
    return listed


def pass_time(pid: int, seconds: float) -> None:
    """Have the process be heard of so much earlier."""
    key = key_of_site("processes")
    for process_id, entry in raw_client().hgetall(key).items():
        at, _, rest = entry.decode().partition(" ")
        if f",{pid}," in rest:
            raw_client().hset(key, process_id, f"{float(at) - seconds:.6f} {rest}")


def stop_hearing() -> None:
    """Have this process read what has changed, as one without messages does."""
    listener = runtime.engine.listener
    listener.start = lambda *arguments: None  # type: ignore[method-assign]
    listener.stop()


def hear_again() -> None:
    del runtime.engine.listener.start


@pytest.fixture(params=["busy", "idle", "without messages", "idle without messages"])
def rounds(request: pytest.FixtureRequest, fleet: Crew) -> Iterator[int]:
    """How often to act on processes that are so."""
    if "without" in request.param:
        fleet.ask_all(stop_hearing)
    if "idle" in request.param:
        time.sleep(2.5)
    yield 3 if "without" in request.param else 10
    if "without" in request.param:
        fleet.ask_all(hear_again)


def test_right_after_an_answer_every_next_call_obeys(rounds: int, fleet: Crew) -> None:
    waits = []
    for _ in range(rounds):
        for control, met in (("forced_open", "forced_open"), ("disabled", "passed")):
            began = time.monotonic()
            result = hold(control)
            answers = fleet.ask_all(call)
            waits.append(time.monotonic() - began)
            assert result.acknowledged.figures == f"{NUMBER}/{NUMBER}"
            assert set(answers) == {met}
    assert sorted(waits)[len(waits) // 2] < 0.6


def test_a_process_that_stands_still_is_named_and_obeys_once_it_runs(fleet: Crew) -> None:
    stopped = fleet.workers[3].process.pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        result = hold("forced_open")
        (missing,) = result.acknowledged.missing
        assert (result.acknowledged.figures, missing.pid) == ("7/8", stopped)
        pass_time(stopped, SILENT_SECONDS)
        began = time.monotonic()
        result = hold("disabled")
        assert time.monotonic() - began < 0.9
        assert f"/{stopped} last heard " in result.acknowledged.message
        (silent,) = [process for process in services.list_processes() if process.is_silent]
        assert (silent.pid, silent.is_current) == (stopped, False)
    finally:
        os.kill(stopped, signal.SIGCONT)
    ends_at = time.monotonic() + 10
    while (result := hold("forced_open")).acknowledged.figures != "8/8":
        assert time.monotonic() < ends_at
    assert set(fleet.ask_all(call)) == {"forced_open"}
    hold("disabled")


def test_processes_that_end_leave_at_once_or_are_gone_in_time(fleet: Crew) -> None:
    """The last test: it ends two of the processes."""
    killed, ended = fleet.workers[0], fleet.workers[1]
    ended.leave()
    wait_for(NUMBER - 1)
    killed.kill()
    assert len(services.list_processes()) == NUMBER - 1
    pass_time(killed.process.pid, GONE_SECONDS)
    assert len(wait_for(NUMBER - 2)) == NUMBER - 2
    assert hold("forced_open").acknowledged.figures == "6/6"
