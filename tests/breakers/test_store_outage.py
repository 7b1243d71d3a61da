"""A store that answers late, never, or not at all harms neither calls nor the shared state."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from analytics_admin.breakers import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpenError,
    control,
    runtime,
)
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.outage import Outage
from analytics_admin.breakers.state import State, StoreChange
from analytics_admin.breakers.stores.base import Reading, StoreUnavailable
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores.latency import MAX_WAIT_SECONDS
from tests.support.breakers import another
from tests.support.sites import eventually
from tests.support.stopwatch import Stopwatch
from tests.support.stored_breakers import raw_client

pytestmark = pytest.mark.hurried

RETRY = 0.1
MOMENT = 0.05
"""Seconds within which a call is over that waits for nothing, on a machine that has much to do."""


class HeldStore(RedisStore):
    """The real store, on a line where requests can be held up or refused."""

    def __init__(self) -> None:
        super().__init__("breakers")
        self.before: Callable[[], object] = lambda: None
        self.requests = 0

    def add(self, reports: Any) -> Reading:
        self.requests += 1
        self.before()
        return super().add(reports)

    def check_writable(self) -> None:
        self.before()
        super().check_writable()


def refuse() -> None:
    raise StoreUnavailable("the store cannot be reached")


class Site:
    """Processes on such a line, each with its own, and all that they announced."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.engines: list[Engine] = []

    def process(self, name: str, **policy: Any) -> tuple[CircuitBreaker, HeldStore]:
        store = HeldStore()
        engine = Engine(lambda: store, self.events.append)
        self.engines.append(engine)
        options = {"failure_threshold": 3, "wait_duration_in_open_state": 60, **policy}
        breaker = CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(options))
        breaker.call(lambda: None)
        assert engine.report_all(10)
        return breaker, store

    def losses(self) -> list[StoreChange]:
        return [it for it in self.events if isinstance(it, StoreChange) and it.reason is not None]


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02, "STORE_RETRY_INTERVAL": RETRY}
    site = Site()
    yield site
    for engine in site.engines:
        engine.reconnect()


@pytest.fixture
def held(site: Site) -> Iterator[threading.Event]:
    """What is held up goes on when this is set, at the latest at the end of the test."""
    event = threading.Event()
    yield event
    for engine in site.engines:
        engine.reconnect()
    event.set()


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.acquire().fail()


def at_once(number: int, call: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def is_lost(breaker: CircuitBreaker) -> bool:
    return breaker.engine.outage.stand_in is not None


def is_back(breaker: CircuitBreaker) -> bool:
    return eventually(lambda: not is_lost(breaker))


def shared_state(name: str) -> str:
    snapshot = runtime.operator_store().load_many([name]).snapshots[name]
    return "" if snapshot is None else snapshot.state.value


def hold_up(store: HeldStore, held: threading.Event) -> None:
    """Hold the next request up, and wait until the reporter has run into it."""
    before = store.requests
    store.before = held.wait
    assert eventually(lambda: store.requests > before)


def test_many_callers_lose_the_store_once(site):
    breaker, store = site.process("once")
    store.before = refuse
    permits = [breaker.acquire() for _ in range(50)]
    at_once(50, lambda: permits.pop().fail())
    assert eventually(site.losses)
    assert len(site.losses()) == 1


def test_no_call_waits_for_a_silent_store_whatever_becomes_of_it(site, held):
    breaker, store = site.process("silent", failure_threshold=1000)
    protected = breaker(lambda: None)
    hold_up(store, held)
    longest = 0.0
    for _ in range(50):
        watch = Stopwatch()
        protected()
        fail(breaker)
        longest = max(longest, watch.seconds)
    assert longest < MOMENT
    assert site.losses() == []


def test_what_was_counted_while_the_store_was_silent_is_all_told_when_it_answers(site, held):
    breaker, store = site.process("all-told", failure_threshold=1000)
    hold_up(store, held)
    fail(breaker, 150)
    held.set()
    store.before = lambda: None
    assert breaker.engine.report_all(10)
    snapshot = runtime.operator_store().load_many(["all-told"]).snapshots["all-told"]
    assert snapshot is not None
    assert (snapshot.counts.calls, snapshot.counts.failures) == (151, 150)


def test_a_breaker_opens_for_its_process_before_the_store_knows(site, held):
    breaker, store = site.process("at-once")
    hold_up(store, held)
    fail(breaker, 3)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert shared_state("at-once") == "closed"
    assert site.events == []
    held.set()
    store.before = lambda: None
    assert eventually(lambda: shared_state("at-once") == "open")
    assert eventually(lambda: site.events)
    assert [(event.to_state, event.cause) for event in site.events] == [
        ("open", "consecutive_failures")
    ]


def test_an_opening_that_the_store_was_never_told_of_is_announced_with_its_loss(site, held):
    breaker, store = site.process("untold")
    hold_up(store, held)
    fail(breaker, 3)
    store.before = refuse
    held.set()
    assert eventually(lambda: len(site.events) > 1)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    lost, opened = site.events
    assert isinstance(lost, StoreChange)
    assert (opened.from_state, opened.to_state, opened.cause) == ("closed", "open", "local")


def test_a_transition_that_another_process_was_faster_with_gives_way(site, held):
    breaker, store = site.process("faster")
    hold_up(store, held)
    fail(breaker, 3)
    assert breaker.state == "open"
    other = another("faster", failure_threshold=1, wait_duration_in_open_state=0.01)
    other.acquire().fail()
    assert eventually(lambda: shared_state("faster") == "open")
    time.sleep(0.02)
    other.acquire().succeed()
    assert eventually(lambda: shared_state("faster") == "closed")
    held.set()
    store.before = lambda: None
    assert eventually(lambda: breaker.state == "closed")
    assert site.events == []


def test_a_slow_store_is_no_lost_one(site):
    breaker, store = site.process("slow")
    store.before = lambda: time.sleep(0.3)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        watch = Stopwatch()
        breaker.call(lambda: None)
        assert watch.seconds < MAX_WAIT_SECONDS
        time.sleep(0.01)
    fail(breaker, 3)
    assert eventually(lambda: shared_state("slow") == "open")
    assert site.losses() == []


def test_a_permit_of_the_time_alone_means_nothing_to_the_shared_store(site):
    breaker, store = site.process("alone", wait_duration_in_open_state=0.01)
    store.before = refuse
    assert eventually(lambda: is_lost(breaker))
    fail(breaker, 3)
    time.sleep(0.02)
    local_probe = breaker.acquire()
    for _ in range(2):  # the same steps as were made alone, made in the shared store by others
        other = another("alone", failure_threshold=1, wait_duration_in_open_state=0.01)
        shared_probe = other.acquire()
        if other.state == "closed":
            shared_probe.fail()
            assert eventually(lambda: shared_state("alone") == "open")
            time.sleep(0.02)
    store.before = lambda: None
    assert is_back(breaker)
    local_probe.succeed()
    assert breaker.engine.report_all(10)
    assert shared_state("alone") == "half_open"


def test_successes_that_were_not_reported_in_time_still_end_the_run(site):
    breaker, store = site.process("run")
    fail(breaker, 2)
    assert breaker.engine.report_all(10)
    breaker.call(lambda: None)
    store.before = refuse
    assert eventually(lambda: is_lost(breaker))
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_a_store_that_is_back_may_be_lost_again(site):
    breaker, store = site.process("again", failure_threshold=1000)
    for losses in (1, 2):
        store.before = refuse
        fail(breaker)
        assert eventually(lambda losses=losses: len(site.losses()) == losses)
        store.before = lambda: None
        assert is_back(breaker)
    fail(breaker)
    assert breaker.engine.report_all(10)
    snapshot = runtime.operator_store().load_many(["again"]).snapshots["again"]
    assert snapshot is not None
    assert snapshot.counts.failures == 1


def test_a_turn_of_before_new_settings_does_not_lose_the_new_store(site, held):
    breaker, store = site.process("settings")
    hold_up(store, held)
    store.before = refuse
    breaker.engine.reconnect()
    breaker.forget_local_state()
    held.set()
    store.before = lambda: None
    assert breaker.call(lambda: "result") == "result"
    assert breaker.engine.report_all(10)
    assert site.losses() == []


def test_plain_calls_in_an_event_loop_wait_for_nothing_and_learn_of_the_loss(site):
    breaker, store = site.process("loop")
    store.before = refuse

    async def use() -> float:
        longest = 0.0
        while not is_lost(breaker):
            began = time.monotonic()
            breaker.call(lambda: None)
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.001)
        fail(breaker, 3)
        return longest

    assert asyncio.run(asyncio.wait_for(use(), 10)) < MOMENT
    assert breaker.state == "open"


def test_failures_at_once_cost_few_round_trips_and_no_caller_any_time(site):
    breaker, store = site.process("queue", failure_threshold=1000)
    permits = [breaker.acquire() for _ in range(200)]
    store.before = lambda: time.sleep(0.04)
    asked = store.requests
    watch = Stopwatch()
    for permit in permits:
        permit.fail()
    assert watch.seconds < 200 * 0.04 / 10
    assert breaker.engine.report_all(10)
    assert store.requests - asked < 20


def test_a_process_forked_while_a_thread_holds_the_stand_in_goes_on(site):
    breaker, store = site.process("forked")
    store.before = refuse
    fail(breaker)
    assert eventually(lambda: is_lost(breaker))
    fail(breaker)
    stand_in = breaker.engine.outage.stand_in
    assert stand_in is not None
    with stand_in._lock:
        pid = os.fork()
        if pid == 0:
            try:
                while breaker.state == "closed":
                    fail(breaker)
            finally:
                os._exit(0 if breaker.state == "open" else 1)
    status: list[int] = []

    def has_ended() -> bool:
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            status.append(code)
        return bool(ended)

    if not eventually(has_ended, seconds=5):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert status == [0]
    assert breaker.state == "closed"


def test_an_open_breaker_rejects_through_an_outage_for_its_wait_and_no_longer(site):
    breaker, store = site.process("wait", wait_duration_in_open_state=1)
    fail(breaker, 3)
    assert eventually(lambda: shared_state("wait") == "open")
    store.before = refuse
    assert eventually(lambda: is_lost(breaker))
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert 0 < caught.value.retry_after < 1
    time.sleep(caught.value.retry_after + 0.05)
    breaker.acquire().succeed()
    assert breaker.state == State.CLOSED
    assert shared_state("wait") == "open"


def go_through_outage(breaker: CircuitBreaker, store: HeldStore, meanwhile: Callable[[], object]):
    store.before = refuse
    assert eventually(lambda: is_lost(breaker))
    meanwhile()
    store.before = lambda: None
    assert is_back(breaker)


def test_an_opening_made_alone_rejects_in_its_process_for_the_rest_of_its_wait(site):
    breaker, store = site.process("kept", wait_duration_in_open_state=1)
    fresh, _ = site.process("kept")
    go_through_outage(breaker, store, lambda: fail(breaker, 3))
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert 0 < caught.value.retry_after < 1
    assert (breaker.state, shared_state("kept"), fresh.state) == ("open", "closed", "closed")
    time.sleep(caught.value.retry_after + 0.05)
    assert breaker.call(lambda: "passes") == "passes"
    assert breaker.state == "closed"


def test_an_opening_made_alone_gives_way_to_a_move_of_the_shared_breaker(site):
    breaker, store = site.process("moved")
    go_through_outage(breaker, store, lambda: fail(breaker, 3))
    assert breaker.state == "open"
    control.reset(["moved"], only_open=False)
    assert eventually(lambda: breaker.state == "closed")
    go_through_outage(
        breaker,
        store,
        lambda: (fail(breaker, 3), control.reset(["moved"], only_open=False)),
    )
    assert breaker.engine.report_all(10)
    assert breaker.state == "closed"


def test_an_opening_made_alone_outlasts_a_store_that_comes_back_empty(site):
    breaker, store = site.process("emptied")
    go_through_outage(breaker, store, lambda: (fail(breaker, 3), raw_client().flushall()))
    assert breaker.state == "open"
    assert eventually(lambda: shared_state("emptied") == "closed")
    assert breaker.state == "open"
    control.reset(["emptied"], only_open=False)
    assert eventually(lambda: breaker.state == "closed")


def test_no_call_looks_at_all_breakers_of_its_process(site):
    breaker, store = site.process("one-of-many")
    for number in range(50_000):
        breaker.engine.local_state(f"n{number}", breaker.policy)
    store.before = refuse
    fail(breaker)
    assert eventually(lambda: is_lost(breaker))
    longest = 0.0
    for _ in range(100):
        watch = Stopwatch()
        breaker.call(lambda: None)
        fail(breaker) if breaker.state == "closed" else None
        longest = max(longest, watch.seconds)
        time.sleep(0.002)
    assert longest < 0.005


def test_a_store_is_looked_for_however_long_it_was_away():
    outage = Outage(
        make_stand_in=MemoryStore,
        changed=lambda reason: None,
        timeout=lambda: 1.0,
        retry_interval=lambda: 0.0,
    )
    outage.begin(StoreUnavailable("gone"))
    for _ in range(1100):
        outage.look(refuse)
    assert outage.stand_in is not None
    outage.look(lambda: RedisStore("breakers"))
    assert outage.stand_in is None


@pytest.mark.parametrize("ends", [lambda permit: permit.succeed(), lambda permit: permit.fail()])
def test_a_probe_that_ends_during_an_outage_leaves_no_permit_behind(site: Site, ends: Any):
    options = {"failure_threshold": 1, "wait_duration_in_open_state": 0.05}
    breaker, store = site.process("probed", **options)
    breaker.acquire().fail()
    assert breaker.engine.report_all(10)
    time.sleep(0.1)
    permit = breaker.acquire()
    generation = breaker.local_state.snapshot.generation
    store.before = refuse
    breaker.engine.reporter.lose(StoreUnavailable("gone"))
    ends(permit)
    store.before = lambda: None
    assert eventually(lambda: breaker.engine.outage.stand_in is None)
    shared = RedisStore("breakers")

    def is_free() -> bool:
        snapshot = shared.load_many(["probed"]).snapshots["probed"]
        return snapshot.generation != generation or snapshot.permits == 0

    assert eventually(is_free)


def test_a_rate_alone_opens_at_once_while_the_store_is_away(site: Site):
    rates = {"failure_rate_threshold": 50, "minimum_number_of_calls": 4, "sliding_window_size": 10}
    breaker, store = site.process("rated", failure_threshold=None, **rates)
    store.before = refuse
    breaker.engine.reporter.lose(StoreUnavailable("gone"))
    for _ in range(12):
        with suppress(CircuitOpenError):
            breaker.acquire().fail()
    assert breaker.state == "open"
