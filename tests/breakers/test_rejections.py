"""A call that an open breaker rejects asks nobody, says why, and counts."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, state_machine
from analytics_admin.breakers.state import Control, Hold, Snapshot
from analytics_admin.breakers.stores.base import Move
from tests.support.simulation import SimulatedSite

NAME = "search"
WAIT = 60.0


def decorated(breaker: CircuitBreaker) -> None:
    breaker(int)()


def decorated_coroutine(breaker: CircuitBreaker) -> None:
    @breaker
    async def nothing() -> None:
        return None

    asyncio.run(nothing())


def called(breaker: CircuitBreaker) -> None:
    breaker.call(int)


def entered(breaker: CircuitBreaker) -> None:
    with breaker:
        pass


def entered_asynchronously(breaker: CircuitBreaker) -> None:
    async def enter() -> None:
        async with breaker:
            pass

    asyncio.run(enter())


def acquired(breaker: CircuitBreaker) -> None:
    breaker.acquire()


WAYS = [decorated, decorated_coroutine, called, entered, entered_asynchronously, acquired]


def opened(site: SimulatedSite) -> CircuitBreaker:
    breaker = site.process(NAME, failure_threshold=1, wait_duration_in_open_state=WAIT)
    breaker.call(int)
    breaker.acquire().fail()
    return breaker


def rejection(breaker: CircuitBreaker, way: Callable[[CircuitBreaker], Any] = called) -> Any:
    with pytest.raises(CircuitOpenError) as raised:
        way(breaker)
    return raised.value


def asks(breaker: CircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the questions that calls ask the engine from now on."""
    asked: list[str] = []
    real = breaker.engine.admit

    def admit(state: Any, claim: Any) -> Any:
        asked.append(state.name)
        return real(state, claim)

    monkeypatch.setattr(breaker.engine, "admit", admit)
    return asked


@pytest.mark.parametrize("way", WAYS)
def test_a_rejection_says_how_long_the_breaker_is_open_by_now(site, way):
    breaker = opened(site)
    for passed in (0.0, 0.1, 30.0, 29.0):
        site.clock.now += passed
        error = rejection(breaker, way)
        left = breaker.engine.retry_after(breaker.local_state)
        assert (error.name, error.state) == (NAME, "open")
        assert error.retry_after == pytest.approx(left)
        assert 0 < left <= WAIT
    site.clock.now += 1.0
    way(breaker)  # the probe


def test_rejections_within_one_reading_ask_nobody_and_are_all_counted(site, monkeypatch):
    breaker = opened(site)
    rejection(breaker)
    asked = asks(breaker, monkeypatch)
    for way in (decorated, called, entered):
        for _ in range(10):
            rejection(breaker, way)
    assert asked == []
    breaker.engine.expire(NAME)
    rejection(breaker)
    assert asked == [NAME]
    assert breaker.local_state.rejections.take() + rejected(site) == 32


def change(site: SimulatedSite, change: Callable[[Snapshot], Snapshot]) -> None:
    """Have an operator change the breaker in the store."""
    snapshot = site.store.load_many([NAME]).snapshots[NAME]
    assert snapshot is not None
    (outcome,) = site.store.compare_and_set(
        [Move(name=NAME, expected=snapshot, new=change(snapshot), cause="control")]
    )
    assert outcome.won


def hold(site: SimulatedSite, *, until: float | None) -> None:
    forced = Hold(control=Control.FORCED_OPEN, until=until)
    change(site, lambda snapshot: state_machine.control(snapshot, forced))


def rejected(site: SimulatedSite) -> int:
    return sum(period.rejected for period in site.store.inspect(NAME).history.periods)


def test_a_held_breaker_says_when_its_hold_ends_or_to_try_again_in_a_minute(site):
    breaker = site.process(NAME)
    breaker.call(int)
    hold(site, until=site.clock.time() + 20.0)
    site.clock.now += 0.3
    for passed in (0.0, 0.0, 5.0, 0.0):
        site.clock.now += passed
        error = rejection(breaker)
        left = breaker.engine.retry_after(breaker.local_state)
        assert (error.state, error.retry_after) == ("forced_open", pytest.approx(left))
    hold(site, until=None)
    site.clock.now += 0.3
    assert {rejection(breaker).retry_after for _ in range(3)} == {60.0}


def test_calls_pass_once_their_process_has_read_a_reset(site):
    breaker = opened(site)
    rejection(breaker)
    change(site, state_machine.reset)
    breaker.engine.expire(NAME)
    breaker.call(int)


def test_rejections_keep_a_breaker_in_use(site):
    breaker = opened(site)
    rejection(breaker)
    for _ in range(3):
        site.clock.now += 0.1
        rejection(breaker)
        assert breaker.local_state.last_used_at() == site.clock.monotonic()


def test_a_rejection_can_be_pickled_however_it_was_made():
    for error in (
        CircuitOpenError("search", "open", 2.5),
        CircuitOpenError(name="search", state="open", retry_after=2.5),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.name, copy.state, copy.retry_after) == ("search", "open", 2.5)
        assert str(copy) == str(error)
