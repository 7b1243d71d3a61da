"""What a site's own tests may rely on for a fleet of processes; no store is ever there."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.services import (
    Actor,
    reset_circuit_breakers,
    set_breaker_control,
)
from analytics_admin.signals import breaker_state_changed, breaker_store_changed
from analytics_admin.testing import SimulatedFleet, simulated_fleet
from tests.support.separate_site import NOWHERE

OPERATOR = Actor.system("a test")

orders = circuit_breaker("fleet-orders", failure_threshold=3, wait_duration_in_open_state=30)


@orders(fallback="not now")
def order(fails: bool = False) -> str:
    if fails:
        raise ConnectionError
    return "ordered"


@orders(fallback="not now")
async def aorder() -> str:
    return "ordered"


def fail(times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            order(fails=True)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedFleet]:
    def refuse(*_: Any) -> None:
        raise AssertionError("something was connected to, or a thread was started")

    with (
        override_settings(CACHES=NOWHERE),
        simulated_fleet() as simulated,
        monkeypatch.context() as patch,
    ):
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(threading.Thread, "start", refuse)
        yield simulated


def test_what_one_process_opens_rejects_calls_in_another(fleet: SimulatedFleet) -> None:
    with fleet.process("web-2"):
        assert order() == "ordered"
    with fleet.process("web-1"):
        fail(3)
        assert order() == "not now"
    with fleet.process("web-2"):
        assert order() == "not now"
        assert asyncio.run(aorder()) == "not now"
    with fleet.process("web-3"), pytest.raises(CircuitOpenError):
        orders.acquire()
    assert order() == "not now"


def test_failures_of_several_processes_count_together(fleet: SimulatedFleet) -> None:
    for name in ("web-1", "web-2", "web-3"):
        with fleet.process(name):
            assert orders.state == "closed"
            fail()
    assert orders.state == "open"


def test_a_success_in_one_process_ends_the_run_of_another(fleet: SimulatedFleet) -> None:
    web_1, web_2 = fleet.process("web-1"), fleet.process("web-2")
    for _ in range(3):
        with web_1:
            fail(2)
        with web_2:
            assert order() == "ordered"
            assert order() == "ordered"
        fleet.advance(1)
    assert orders.state == "closed"


def test_one_process_probes_for_all(fleet: SimulatedFleet) -> None:
    fleet.trip("fleet-orders")
    fleet.advance(30)
    with fleet.process("web-1"):
        probe = orders.acquire()
    with fleet.process("web-2"):
        assert order() == "not now"
        probe.succeed()
        assert order() == "ordered"


@pytest.mark.django_db
def test_an_operators_hold_reaches_every_process(fleet: SimulatedFleet) -> None:
    with fleet.process("web-1"):
        assert order() == "ordered"
    set_breaker_control(actor=OPERATOR, name="fleet-orders", control="forced_open")
    for name in ("web-1", "web-2"):
        with fleet.process(name):
            assert orders.state == "forced_open"
            assert order() == "not now"
    reset_circuit_breakers(actor=OPERATOR, names=["fleet-orders"])
    with fleet.process("web-1"):
        assert order() == "ordered"


def test_a_process_without_the_store_goes_on_alone(fleet: SimulatedFleet) -> None:
    """From the state that the fleet had; in the end that of the fleet counts."""
    web_1, web_2 = fleet.process("web-1"), fleet.process("web-2")
    with web_2:
        assert order() == "ordered"
    with web_2.outage():
        with web_1:
            fail(3)
            assert order() == "not now"
        with web_2:
            assert order() == "ordered"
            fail(3)
            assert order() == "not now"
        fleet.heal("fleet-orders")
        with web_1:
            assert order() == "ordered"
        with web_2:
            assert order() == "not now"
            fleet.advance(30)
            assert order() == "ordered"  # it probes for itself
            fail(3)
        assert orders.state == "closed"
    with web_2:
        assert orders.state == "closed"
        fail(2)
        assert order() == "ordered"


def test_an_open_breaker_stays_open_in_a_process_without_the_store(fleet: SimulatedFleet) -> None:
    web_1 = fleet.process("web-1")
    fleet.trip("fleet-orders")
    with web_1, web_1.outage():
        assert order() == "not now"
        fleet.heal("fleet-orders")
        assert order() == "not now"
        fleet.advance(29)
        assert order() == "not now"
    with web_1:
        assert order() == "ordered"


def test_signals_tell_of_the_outage_and_of_what_was_local(fleet: SimulatedFleet) -> None:
    told: list[Any] = []

    def note_change(*, to_state: str, cause: str, **_: object) -> None:
        told.append((to_state, cause))

    def note_store(*, reason: str | None, **_: object) -> None:
        told.append(reason and str(reason))

    breaker_state_changed.connect(note_change)
    breaker_store_changed.connect(note_store)
    try:
        web_1 = fleet.process("web-1")
        with web_1, web_1.outage():
            fail(3)
        with web_1:
            fail(3)
    finally:
        breaker_state_changed.disconnect(note_change)
        breaker_store_changed.disconnect(note_store)
    unreachable = "the store cannot be reached"
    assert told == [unreachable, ("open", "local"), None, ("open", "consecutive_failures")]


def test_a_process_keeps_its_name_and_its_memory(fleet: SimulatedFleet) -> None:
    web_1 = fleet.process("web-1")
    assert fleet.process("web-1") is web_1
    assert "web-1" in repr(web_1)
    with web_1, fleet.process("web-2"), web_1:
        fail(2)
    with web_1:
        fail()
        assert orders.state == "open"


def test_after_an_error_within_a_process_the_test_is_itself_again(fleet: SimulatedFleet) -> None:
    own = orders.engine
    with fleet.process("web-1"):
        assert orders.engine is not own
    with pytest.raises(LookupError), fleet.process("web-1"):
        raise LookupError
    assert orders.engine is own


def test_fleets_share_nothing(fleet: SimulatedFleet) -> None:
    with fleet.process("web-1"):
        fail(3)
    with simulated_fleet() as other, other.process("web-1"):
        assert order() == "ordered"
    with fleet.process("web-1"):
        assert order() == "not now"
