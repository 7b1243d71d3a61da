"""An answer that is lost, or an error for one breaker, costs neither the store nor a result."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis._parsers.hiredis import _HiredisParser

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    control,
    runtime,
)
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.state import Control, Snapshot, State, StateChange, StoreChange
from analytics_admin.breakers.stores import redis as redis_store
from analytics_admin.breakers.stores.base import Report, StoreUnavailable
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import trip
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually
from tests.support.stored_breakers import raw_client

TIMEOUT = 0.3
PATIENCE = 10.0
"""Seconds for the answer to what is sent again: a busy machine is no outage."""
NAMES = ["good", "bad", "fine"]


class PatientStore(RedisStore):
    """The real store; it waits longer for what it sends again."""

    patience = PATIENCE

    def renew(self) -> None:
        super().renew()
        self._client.connection_pool.connection_kwargs["socket_timeout"] = self.patience


class Process:
    """A process of the fleet that reaches the store through a proxy."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.store = PatientStore("breakers", timeout=TIMEOUT)
        self.engine = Engine(lambda: self.store, self.events.append)

    def breaker(self, name: str = "good", **policy: Any) -> CircuitBreaker:
        options = {"failure_threshold": 2, "wait_duration_in_open_state": 60, **policy}
        breaker = CircuitBreaker(name, self.engine, lambda: BreakerPolicy.from_options(options))
        breaker.call(lambda: None)
        self.settle()
        return breaker

    def fail(self, breaker: CircuitBreaker, times: int = 1) -> None:
        for _ in range(times):
            breaker.acquire().fail()
        self.settle()

    def settle(self) -> None:
        assert self.engine.report_all(10)

    @property
    def losses(self) -> list[str | None]:
        return [event.reason for event in self.events if isinstance(event, StoreChange)]

    @property
    def transitions(self) -> list[tuple[str, str]]:
        changes = [event for event in self.events if isinstance(event, StateChange)]
        return [(change.to_state, change.cause) for change in changes]


@pytest.fixture
def process(proxy: Proxy, settings: Any) -> Iterator[Process]:
    settings.ANALYTICS_ADMIN = {"STORE_TIMEOUT": TIMEOUT, "STORE_RETRY_INTERVAL": 0.1}
    process = Process()
    yield process
    process.engine.reconnect()


def stored(name: str = "good") -> Snapshot:
    snapshot = runtime.operator_store().load_many([name]).snapshots[name]
    assert snapshot is not None
    return snapshot


def strike(proxy: Proxy, word: bytes, *, deliver: bool, cut: bool, deaf: bool = False) -> None:
    proxy.fault = Fault(word=word, deliver=deliver, cut=cut, deaf_afterwards=deaf)


HOW_LOST = [
    pytest.param({"deliver": True, "cut": True}, id="answer cut"),
    pytest.param({"deliver": True, "cut": False}, id="answer lost"),
    pytest.param({"deliver": False, "cut": False}, id="request lost"),
]


@pytest.mark.parametrize("how", HOW_LOST)
def test_results_are_counted_once_whichever_way_their_answer_is_lost(process, proxy, how):
    breaker = process.breaker(failure_threshold=100)
    strike(proxy, b"failed_at", **how)
    process.fail(breaker, 3)
    process.fail(breaker)
    assert (proxy.faults, stored().counts.failures, process.losses) == (1, 4, [])


@pytest.mark.parametrize("how", HOW_LOST)
def test_a_trip_whose_answer_is_lost_is_made_and_announced_once(process, proxy, how):
    breaker = process.breaker()
    strike(proxy, b"consecutive_failures", **how)
    process.fail(breaker, 2)
    assert (proxy.faults, stored().state, process.losses) == (1, State.OPEN, [])
    assert process.transitions == [("open", "consecutive_failures")]
    assert len(runtime.operator_store().transitions("good")) == 1


@pytest.mark.parametrize("how", HOW_LOST)
def test_a_permit_whose_answer_is_lost_is_granted_once_and_used(process, proxy, how):
    breaker = process.breaker(wait_duration_in_open_state=0.01)
    process.fail(breaker, 2)
    strike(proxy, b"wait_over", **how)
    permits: list[Any] = []

    def is_admitted() -> bool:
        try:
            permits.append(breaker.acquire())
        except CircuitOpenError:
            return False
        return True

    assert eventually(is_admitted)
    assert (proxy.faults, stored().state, stored().permits) == (1, State.HALF_OPEN, 1)
    permits[0].succeed()
    process.settle()
    assert (stored().state, process.losses) == (State.CLOSED, [])


def test_two_silences_in_a_row_are_an_outage(process, proxy):
    breaker = process.breaker(failure_threshold=100)
    process.store.patience = TIMEOUT
    strike(proxy, b"failed_at", deliver=True, cut=False, deaf=True)
    breaker.acquire().fail()
    assert eventually(lambda: process.losses != [])


def test_a_call_that_arrives_after_it_was_sent_again_is_not_counted(process):
    breaker = process.breaker(failure_threshold=100)
    report: list[Report] = []
    real = process.store.add
    process.store.add = lambda reports: report.extend(reports) or real(reports)
    process.fail(breaker)
    late = next(it for it in report if it.results.all_failures)
    command = redis_store._command(*process.store._adding([late], 0))
    assert stored().counts.failures == 1
    process.store._exchange([command])
    process.store._exchange([command])
    assert stored().counts.failures == 2


@pytest.mark.parametrize("damage", ["9007199254740993", "2000 1", "9" * 400, "-1", "nan", "x"])
def test_damage_of_what_the_store_has_seen_of_a_process_mutes_it_for_no_call(process, damage):
    breaker = process.breaker(failure_threshold=100)
    (key,) = raw_client().keys("*:sent:*")
    for number in range(1, 4):
        raw_client().set(key, damage)
        process.fail(breaker)
        assert stored().counts.failures == number
    assert 0 < raw_client().ttl(key) <= 60


def test_idle_connections_that_are_dead_cost_neither_the_store_nor_a_result(process, proxy):
    breaker = process.breaker(failure_threshold=100)
    process.store._used_at -= redis_store.MAX_IDLE_SECONDS + 1
    connections = proxy.connections
    process.fail(breaker)
    assert proxy.connections == connections + 1
    proxy.cut_all()
    process.fail(breaker)
    assert (stored().counts.failures, process.losses) == (2, [])


def test_a_server_that_closes_idle_connections_costs_nothing(process, server):
    breaker = process.breaker(failure_threshold=100)
    admin = redis.Redis(unix_socket_path=server.socket_path)
    for failures in range(1, 4):
        admin.client_kill_filter(_type="normal", skipme=True)
        process.fail(breaker)
        assert (stored().counts.failures, process.losses) == (failures, [])


def test_the_primary_is_found_behind_the_same_address_without_an_outage(process, server, proxy):
    breaker = process.breaker(failure_threshold=100)
    assert stored().state is State.CLOSED  # operators have a connection, too
    with StoreServer() as successor:
        proxy._socket_path = successor.socket_path
        redis.Redis(unix_socket_path=server.socket_path).replicaof("127.0.0.1", 1)
        process.fail(breaker)
        assert process.losses == []
        (change,) = control.reset(["good"], only_open=False)
        assert (change.name, stored().state) == ("good", State.CLOSED)
        assert redis.Redis(unix_socket_path=successor.socket_path).dbsize() > 0


def test_an_answer_that_lies_in_the_socket_of_a_late_thread_counts(process, monkeypatch):
    breaker = process.breaker(failure_threshold=100)
    real, late = _HiredisParser.read_from_socket, [True]

    def read_from_socket(parser: Any, *arguments: Any, **options: Any) -> Any:
        if late and eventually(lambda: parser.can_read(0)):
            late.clear()
            raise TimeoutError
        return real(parser, *arguments, **options)

    monkeypatch.setattr(_HiredisParser, "read_from_socket", read_from_socket)
    sent_again: list[Any] = []
    monkeypatch.setattr(process.store, "renew", lambda: sent_again.append(1))
    process.fail(breaker)
    assert (late, sent_again, stored().counts.failures, process.losses) == ([], [], 1, [])


def allow_all_but_bad() -> None:
    shared = ("index", "not_closed", "probe", "processes", "sequence")
    names = [f"~*:{name}" for name in ("good", "fine", *shared)]
    rights = ["on", "nopass", "resetkeys", *names, "~*:sent:*", "allchannels", "+@all"]
    raw_client().execute_command("ACL", "SETUSER", "default", *rights)


def test_a_breaker_whose_requests_are_refused_goes_without_the_store_alone(process, caplog):
    breakers = {name: process.breaker(name, failure_threshold=100) for name in NAMES}
    with caplog.at_level(logging.ERROR, "analytics_admin.breakers"):
        allow_all_but_bad()
        for _ in range(3):
            for breaker in breakers.values():
                breaker.acquire().fail()
            process.settle()
    assert breakers["bad"].call(lambda: "passes") == "passes"
    assert breakers["bad"].state == "unknown"
    assert process.losses == []
    assert [stored(name).counts.failures for name in ("good", "fine")] == [3, 3]
    assert len(caplog.records) == 1
    assert "circuit breaker bad: the store's user lacks a permission" in caplog.text


def test_a_server_that_refuses_all_that_is_written_is_lost(process):
    breaker = process.breaker(failure_threshold=100)
    raw_client().execute_command("ACL", "SETUSER", "default", "-set")
    breaker.acquire().fail()
    assert eventually(lambda: process.losses != [])
    assert process.losses == ["the store's user lacks a permission that this needs"]


def odd(real: Callable[..., Any]) -> Callable[..., Any]:
    """Have a request that names the bad breaker answered with what nobody can read."""

    @redis_store.translate_errors
    def ask(items: Any) -> Any:
        if any(item.name == "bad" for item in items):
            raise ValueError("of another layout")
        return real(items)

    return ask


@pytest.mark.parametrize("method", ["add", "compare_and_set"])
def test_an_answer_that_cannot_be_read_concerns_its_breaker_alone(process, method):
    breakers = {name: process.breaker(name, failure_threshold=2) for name in NAMES}
    setattr(process.store, method, odd(getattr(process.store, method)))
    for breaker in breakers.values():
        for _ in range(2):
            breaker.acquire().fail()
    process.settle()
    assert process.losses == []
    assert [breakers[name].state for name in NAMES] == ["open", "unknown", "open"]
    assert [stored(name).state for name in ("good", "fine")] == [State.OPEN, State.OPEN]


def test_an_operators_request_is_sent_once(proxy):
    strike(proxy, b"good", deliver=True, cut=True)
    with pytest.raises(StoreUnavailable):
        runtime.operator_store().load_many(["good"])


def test_acts_are_done_while_each_answer_takes_half_a_second(proxy):
    trip("good")
    proxy.delay = 0.5
    control.set_control(["good"], Control.FORCED_OPEN, for_seconds=None, actor="", reason="")
    proxy.delay = 0.0
    assert stored().hold is not None
