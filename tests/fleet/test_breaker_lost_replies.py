"""A reply that is lost on its way: what the store did stands, and is done, said, counted once."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Snapshot, State
from analytics_admin.signals import breaker_state_changed
from tests.support import breakers
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually

NAME = "lost-replies"


pytestmark = pytest.mark.usefixtures("reported_before_going_on")


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """Put the breakers' store behind a proxy, for protected calls and for the tests' own look."""
    with StoreServer() as server, Proxy(server.socket_path) as proxy:
        caches = deepcopy(settings.CACHES)
        caches["breakers"]["LOCATION"] = f"{proxy.url}/0"
        settings.CACHES = caches
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.1}
        yield proxy


@pytest.fixture
def signals() -> Iterator[list[tuple[str, str, str]]]:
    seen: list[tuple[str, str, str]] = []

    def note(from_state: str, to_state: str, cause: str, **_: object) -> None:
        seen.append((from_state, to_state, cause))

    breaker_state_changed.connect(note)
    yield seen
    breaker_state_changed.disconnect(note)


def in_store() -> Snapshot:
    snapshot = operator_store().load_many([NAME]).snapshots[NAME]
    assert snapshot is not None
    return snapshot


def moves() -> list[tuple[str, str, str]]:
    found = operator_store().transitions(NAME)
    return [(move.from_state, move.to_state, move.cause) for move in found]


def is_back(process: CircuitBreaker) -> bool:
    return process.engine.outage.stand_in is None


def process(**policy: Any) -> CircuitBreaker:
    policy = {"failure_threshold": 2, "wait_duration_in_open_state": 60, **policy}
    made = breakers.another(NAME, **policy)
    assert made.state == "closed"
    return made


def test_a_trip_whose_reply_is_lost_is_recorded_once_and_holds(
    proxy: Proxy, signals: list[tuple[str, str, str]]
) -> None:
    here, there = process(), process()
    here.acquire().fail()
    proxy.fault = Fault(word=b"consecutive_failures", cut=True)
    here.acquire().fail()
    assert proxy.faults == 1
    assert here.state == "open"
    assert eventually(lambda: is_back(here))
    assert (here.state, breakers.state_now(there)) == ("open", "open")
    there.engine.flush()
    assert moves() == [("closed", "open", "consecutive_failures")]
    shared = [signal for signal in signals if signal[2] != "local"]
    assert len(shared) <= 1


def test_a_failure_whose_reply_is_lost_is_counted_once(proxy: Proxy) -> None:
    here = process(failure_threshold=100)
    here.acquire().fail()
    proxy.fault = Fault(word=here.local_state.counter.generation.encode(), cut=True)
    here.acquire().fail()
    assert proxy.faults == 1
    assert eventually(lambda: is_back(here))
    assert in_store().counts.failures == 2
    here.acquire().fail()
    assert in_store().counts.failures == 3


def test_a_probe_whose_permit_is_lost_has_failed_after_the_half_open_wait(
    proxy: Proxy,
) -> None:
    waits = {"wait_duration_in_open_state": 0.01, "max_wait_duration_in_half_open_state": 0.3}
    here, there = process(**waits), process(**waits)
    for _ in range(2):
        here.acquire().fail()
    assert eventually(lambda: bool(here.state) and here.engine.retry_after(here.local_state) == 0)
    proxy.fault = Fault(word=b"wait_over", cut=True, times=2)
    with suppress(CircuitOpenError):
        here.acquire()
    assert proxy.faults == 2
    assert (in_store().state, in_store().permits) == (State.HALF_OPEN, 1)
    breakers.snapshot_of(there)
    with pytest.raises(CircuitOpenError):
        there.acquire()

    def probed() -> bool:
        try:
            there.acquire().succeed()
        except CircuitOpenError:
            return False
        return True

    assert eventually(probed)
    assert in_store().state is State.CLOSED
    assert moves() == [
        ("half_open", "closed", "probes_succeeded"),
        ("open", "half_open", "wait_over"),
        ("half_open", "open", "probe_failed"),
        ("open", "half_open", "wait_over"),
        ("closed", "open", "consecutive_failures"),
    ]
