"""What a site's own tests may rely on, with and without pytest; no store is ever there."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from analytics_admin.breakers import CircuitOpenError, circuit_breaker, control, get_breaker
from analytics_admin.breakers.state import Control
from analytics_admin.services import Actor, reset_circuit_breakers
from analytics_admin.signals import breaker_state_changed
from analytics_admin.testing import SimulatedBreakers, simulated_breakers
from tests.support.backend import BackendDown
from tests.support.separate_site import NOWHERE

stock = circuit_breaker("shop-stock", failure_threshold=3, wait_duration_in_open_state=30)
prices = circuit_breaker(
    "shop-prices",
    failure_threshold=None,
    failure_rate_threshold=50,
    slow_call_rate_threshold=60,
    slow_call_duration_threshold=2,
    sliding_window_type="time_based",
    sliding_window_size=60,
    minimum_number_of_calls=4,
)


@stock
def look_up(fails: bool = False) -> str:
    if fails:
        raise BackendDown
    return "found"


@stock(fallback="not now")
async def alook_up() -> str:
    return "found"


@pytest.fixture(autouse=True)
def _no_store() -> Iterator[None]:
    with override_settings(CACHES=NOWHERE):
        yield


@pytest.fixture
def breakers(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBreakers]:
    def refuse(*_: Any) -> None:
        raise AssertionError("something was connected to")

    with simulated_breakers() as simulated, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield simulated


def fail(times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(BackendDown):
            look_up(fails=True)


def test_calls_pass_and_fail_by_the_breakers_policy(breakers: SimulatedBreakers) -> None:
    assert look_up() == "found"
    fail(2)
    assert look_up() == "found"  # ends the run
    fail(3)
    with pytest.raises(CircuitOpenError) as caught:
        look_up()
    assert caught.value.retry_after == pytest.approx(30, abs=0.01)


def test_a_tripped_breaker_rejects_calls_until_its_wait_is_over(
    breakers: SimulatedBreakers,
) -> None:
    breakers.trip("shop-stock")
    assert stock.state == "open"
    assert asyncio.run(alook_up()) == "not now"
    breakers.advance(29.9)
    with pytest.raises(CircuitOpenError):
        look_up()
    breakers.advance(timedelta(seconds=0.2))
    assert look_up() == "found"
    assert stock.state == "closed"


def test_a_probe_that_fails_opens_it_for_another_wait(breakers: SimulatedBreakers) -> None:
    breakers.trip("shop-stock")
    breakers.advance(31)
    fail()
    assert stock.state == "open"
    with pytest.raises(CircuitOpenError):
        look_up()


def test_a_healed_breaker_begins_with_no_failures(breakers: SimulatedBreakers) -> None:
    fail(2)
    breakers.heal("shop-stock")
    fail(2)
    breakers.trip("shop-stock")
    breakers.heal("shop-stock")
    assert look_up() == "found"


def test_tripping_again_begins_the_wait_anew(breakers: SimulatedBreakers) -> None:
    breakers.trip("shop-stock")
    breakers.advance(20)
    breakers.trip("shop-stock")
    breakers.advance(20)
    assert stock.state == "open"
    with pytest.raises(CircuitOpenError):
        look_up()


def test_rates_count_from_the_first_call_on(breakers: SimulatedBreakers) -> None:
    for answer in ("found", "found", BackendDown(), BackendDown()):
        assert prices.state == "closed"
        permit = prices.acquire()
        permit.fail(answer) if isinstance(answer, Exception) else permit.succeed()
    assert prices.state == "open"


def test_time_that_passes_within_a_call_makes_it_slow(breakers: SimulatedBreakers) -> None:
    protected = prices(breakers.advance)
    for seconds in (0, 1, 3, 3):
        protected(seconds)
    assert prices.state == "closed"  # half of four
    protected(3)
    assert prices.state == "open"


def test_what_lies_before_the_window_is_forgotten(breakers: SimulatedBreakers) -> None:
    for _ in range(3):
        prices.acquire().fail()
    breakers.advance(61)
    prices.acquire().fail()
    assert prices.state == "closed"


@pytest.mark.parametrize("round_", [1, 2])
def test_no_test_sees_what_another_did(breakers: SimulatedBreakers, round_: int) -> None:
    assert stock.state == "closed"
    fail(2)
    breakers.trip("shop-prices")
    breakers.advance(86_400)


def test_a_name_that_nobody_declared_is_refused(breakers: SimulatedBreakers) -> None:
    for act in (breakers.trip, breakers.heal, breakers.hold):
        with pytest.raises(LookupError, match="shop-stokc"):
            act("shop-stokc")


def test_breakers_of_the_settings_may_be_moved_too(breakers: SimulatedBreakers) -> None:
    with override_settings(ANALYTICS_ADMIN={"BREAKERS": {"of-settings": {}}}):
        breakers.trip("of-settings")
        assert get_breaker("of-settings").state == "open"


def test_settings_changed_meanwhile_hold_at_once(breakers: SimulatedBreakers) -> None:
    breakers.trip("shop-prices")
    with override_settings(ANALYTICS_ADMIN={"BREAKERS": {"shop-stock": {"failure_threshold": 1}}}):
        fail()
        assert stock.state == "open"
        assert prices.state == "open"


def test_breakers_declared_meanwhile_belong_to_it(breakers: SimulatedBreakers) -> None:
    late = circuit_breaker("declared-in-a-test")
    breakers.trip("declared-in-a-test")
    assert late.state == "open"


def test_time_does_not_run_backward(breakers: SimulatedBreakers) -> None:
    for seconds in (-1, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="must be 0 or more"):
            breakers.advance(seconds)


def test_receivers_of_the_signal_hear_of_each_change(breakers: SimulatedBreakers) -> None:
    received = []

    def hear(*, name: str, from_state: str, to_state: str, cause: str, **_: object) -> None:
        received.append((name, from_state, to_state, cause))

    breaker_state_changed.connect(hear)
    try:
        breakers.trip("shop-stock")
        breakers.heal("shop-stock")
    finally:
        breaker_state_changed.disconnect(hear)
    assert received == [
        ("shop-stock", "closed", "open", "consecutive_failures"),
        ("shop-stock", "open", "closed", "reset"),
    ]


@pytest.mark.django_db
def test_an_operators_act_meets_the_simulated_breakers(breakers: SimulatedBreakers) -> None:
    breakers.trip("shop-stock")
    reset_circuit_breakers(actor=Actor.system("a test"), names=["shop-stock"])
    assert look_up() == "found"


def test_an_operators_hold_ends_when_the_test_says_so(breakers: SimulatedBreakers) -> None:
    for end in (breakers.trip, breakers.heal):
        hold = {"for_seconds": None, "actor": "a test", "reason": ""}
        control.set_control(["shop-stock"], Control.FORCED_OPEN, **hold)
        assert stock.state == "forced_open"
        end("shop-stock")
    assert look_up() == "found"


@pytest.mark.parametrize(
    ("hold", "meets"), [("forced_open", "CircuitOpenError"), ("disabled", "BackendDown")]
)
def test_a_test_holds_a_breaker_as_an_operator_does(
    breakers: SimulatedBreakers, hold: Any, meets: str
) -> None:
    breakers.trip("shop-stock")
    breakers.hold("shop-stock", hold)
    assert stock.state == hold
    with pytest.raises((CircuitOpenError, BackendDown)) as caught:
        look_up(fails=True)
    assert caught.type.__name__ == meets
    breakers.advance(timedelta(days=30))
    assert stock.state == hold
    breakers.heal("shop-stock")
    assert look_up() == "found"


def test_there_is_no_other_hold(breakers: SimulatedBreakers) -> None:
    with pytest.raises(ValueError, match="ajar"):
        breakers.hold("shop-stock", "ajar")  # type: ignore[arg-type]


def test_threads_see_the_same_breakers(breakers: SimulatedBreakers) -> None:
    threads = [threading.Thread(target=stock.acquire().fail) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stock.state == "open"


def test_one_within_another_leaves_the_outer_as_it_was(breakers: SimulatedBreakers) -> None:
    breakers.trip("shop-stock")
    with simulated_breakers() as inner:
        assert stock.state == "closed"
        inner.trip("shop-prices")
    assert (stock.state, prices.state) == ("open", "closed")


def test_afterwards_the_engine_is_what_it_was(settings: Any) -> None:
    settings.CACHES = {
        alias: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": alias}
        for alias in NOWHERE
    }
    real = circuit_breaker("real-one", failure_threshold=2)
    engine = real.engine
    real.acquire().fail()
    with simulated_breakers() as simulated:
        simulated.advance(86_400)
        simulated.trip("real-one")
        late = circuit_breaker("real-since")
    assert real.engine is late.engine is engine
    assert real.state == late.state == "closed"
    real.acquire().fail()
    assert real.state == "open"
