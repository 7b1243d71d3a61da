"""What one process asks of the store for all its breakers together."""

import time
from collections.abc import Sequence

import pytest
from django.test import override_settings

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, engine, runtime
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.state import Counts
from analytics_admin.breakers.stores.base import Reading, Report
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import snapshot_of
from tests.support.sites import eventually


class RememberingStore(RedisStore):
    """The real store, which remembers the names that each round trip asked for."""

    def __init__(self) -> None:
        super().__init__("breakers")
        self.asked: list[list[str]] = []

    def add(self, reports: Sequence[Report]) -> Reading:
        self.asked.append([report.name for report in reports])
        return super().add(reports)


@pytest.fixture
def store():
    return RememberingStore()


@pytest.fixture
def breakers(store):
    engine = Engine(lambda: store, runtime.announce)
    return [CircuitBreaker(name, engine, BreakerPolicy) for name in ("a", "b", "c")]


def use(breakers: list[CircuitBreaker]) -> None:
    for breaker in breakers:
        breaker.acquire().succeed()


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 3600})
def test_a_breaker_that_comes_into_use_is_asked_for_alone(store, breakers):
    use(breakers)
    use(breakers)
    assert store.asked == [["a"], ["b"], ["c"]]


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_all_breakers_in_use_are_asked_for_in_one_round_trip(store, breakers):
    use(breakers)
    assert eventually(lambda: sorted(store.asked[-1]) == ["a", "b", "c"])


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_calls_that_asked_nothing_keep_a_breaker_in_the_common_round(store, breakers, monkeypatch):
    monkeypatch.setattr(engine, "IDLE_AFTER_SECONDS", 0.5)
    calls = [breaker(lambda: None) for breaker in breakers]
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        for call in calls:
            call()
        time.sleep(0.001)
    assert sorted(store.asked[-1]) == ["a", "b", "c"]


@override_settings(ANALYTICS_ADMIN={"SYNC_INTERVAL": 0.05})
def test_nothing_is_asked_for_breakers_that_are_not_in_use(store, breakers, monkeypatch):
    monkeypatch.setattr(engine, "IDLE_AFTER_SECONDS", 0.1)
    use(breakers)
    time.sleep(0.5)
    asked = len(store.asked)
    time.sleep(0.5)
    assert len(store.asked) == asked


def test_blocks_of_several_breakers_may_end_in_any_order(breakers):
    first, second = breakers[:2]
    first.__enter__()
    second.__enter__()
    first.__exit__(ValueError, ValueError(), None)
    second.__exit__(None, None, None)
    assert snapshot_of(first).counts == Counts(calls=1, failures=1)
    assert snapshot_of(second).counts == Counts(calls=1)
