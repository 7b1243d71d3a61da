"""A process that can start no thread: its calls report and read, now and then and not for long."""

import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    reporter,
    runtime,
)
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.state import State, StoreChange
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores import process_hooks, threads
from analytics_admin.stores.ping import Ping
from tests.support.breakers import another, round_trips, state_now
from tests.support.sites import eventually
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.hurried
INTERVAL = 0.2


class Process:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.store = RedisStore("breakers", timeout=1)
        self.engine = Engine(lambda: self.store, self.events.append)

    def breaker(self, name: str, **policy: Any) -> CircuitBreaker:
        options = {"failure_threshold": 3, "wait_duration_in_open_state": 60, **policy}
        return CircuitBreaker(name, self.engine, lambda: BreakerPolicy.from_options(options))

    @property
    def reasons(self) -> list[str | None]:
        return [event.reason for event in self.events if isinstance(event, StoreChange)]


@pytest.fixture(autouse=True)
def no_threads(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(reporter, "start_thread", refuse)
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": INTERVAL, "STORE_RETRY_INTERVAL": 0.3}


def use(breaker: CircuitBreaker, seconds: float, *, fails: bool = False) -> float:
    """Call it all the time; return how long the longest call took."""
    longest, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        watch = Stopwatch()
        try:
            permit = breaker.acquire()
            (permit.fail if fails else permit.succeed)()
        except CircuitOpenError:
            pass
        longest = max(longest, watch.seconds)
        time.sleep(0.002)
    return longest


def test_calls_report_and_read_once_an_interval():
    breaker = Process().breaker("now-and-then", failure_threshold=10**6)
    breaker.call(lambda: None)
    began = time.monotonic()
    with round_trips() as sent:
        while sent["trips"] < 8:  # the process' presence costs some
            use(breaker, INTERVAL / 5, fails=True)
    assert time.monotonic() - began >= 5 * INTERVAL


def test_a_trip_here_and_a_trip_elsewhere_bind_all_after_an_interval():
    here, there = Process().breaker("here"), Process().breaker("there")
    for breaker in (here, there):
        breaker.call(lambda: None)
    for _ in range(3):
        here.acquire().fail()
    use(here, 2 * INTERVAL)
    assert state_now(another("here")) == "open"
    use(there, INTERVAL)
    elsewhere = Process().breaker("there", failure_threshold=1)
    elsewhere.acquire().fail()
    elsewhere.engine.flush()
    use(there, 2 * INTERVAL)
    assert there.state == "open"


def test_a_first_look_and_a_probe_are_answered_in_the_call_itself():
    opener = Process().breaker("probed", failure_threshold=1, wait_duration_in_open_state=0.3)
    opener.acquire().fail()
    opener.engine.flush()
    fresh = Process().breaker("probed", failure_threshold=1, wait_duration_in_open_state=0.3)
    with pytest.raises(CircuitOpenError):
        fresh.acquire()
    time.sleep(0.35)
    permit = fresh.acquire()
    assert fresh.state == "half_open"
    permit.succeed()
    fresh.engine.flush()
    assert state_now(another("probed")) == "closed"


def test_no_call_takes_long_and_none_waits_while_the_store_is_away(server, proxy):
    process = Process()
    breaker = process.breaker("away")
    breaker.call(lambda: None)
    server.freeze()
    try:
        assert use(breaker, 3 * INTERVAL + 0.5) < 0.2
        assert process.reasons == ["the store did not answer in time"]
        assert use(breaker, 1.0) < 0.02
        for _ in range(3):
            breaker.acquire().fail()
        assert breaker.state == "open"
    finally:
        server.thaw()
    assert eventually(lambda: use(breaker, 0.05) < 0.2 and process.reasons[-1] is None)
    snapshot = runtime.operator_store().load_many(["away"]).snapshots["away"]
    assert snapshot is not None
    assert snapshot.state is State.CLOSED


def test_a_store_that_takes_no_connections_is_found_again_without_any_wait(server, proxy):
    process = Process()
    breaker = process.breaker("refused")
    breaker.call(lambda: None)
    server.stop()
    waited: list[float] = []
    assert eventually(lambda: waited.append(use(breaker, INTERVAL)) or process.reasons)
    assert max(waited) < 0.2
    assert len(process.reasons) == 1
    assert use(breaker, 0.5) < 0.02
    server.start()
    assert eventually(lambda: use(breaker, 0.05) < 0.2 and process.reasons[-1] is None)


@pytest.mark.parametrize(
    ("options", "may"),
    [({}, False), ({b"enable-threads": True}, True), ({b"threads": b"4"}, True), (None, True)],
)
def test_uwsgi_runs_threads_with_an_option_alone(monkeypatch, options, may):
    if options is not None:
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    assert threads.may_start_threads() is may


def test_a_fork_that_python_was_not_told_of_is_noticed(monkeypatch):
    process = Process()
    breaker = process.breaker("untold")
    breaker.call(lambda: None)
    before = process.engine.reporter._turn_lock
    monkeypatch.setattr(process_hooks, "_pid", -1)  # as the parent's
    process.engine.reporter._pid = -1
    breaker.engine.expire("untold")
    breaker.call(lambda: None)
    assert process.engine.reporter._turn_lock is not before


def test_a_thread_that_is_to_be_had_again_waits_for_answers_as_long_as_it_should(server, proxy):
    store = Process().store
    with store.within(0.15):
        store.check_writable()
    proxy.delay = 0.12
    store.check_writable()


@pytest.mark.parametrize(("is_tls", "answers"), [(True, True), (False, False)])
def test_a_server_that_speaks_tls_answers_a_ping_by_closing(is_tls: bool, answers: bool):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ping = Ping(socket.AF_INET, listening.getsockname(), is_tls=is_tls)
        assert ping.look() is None
        connection, _ = listening.accept()
        connection.recv(64)
        connection.close()
        assert eventually(lambda: ping.look() is answers)
