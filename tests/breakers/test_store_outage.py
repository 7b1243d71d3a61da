"""A store that answers late, never, or from before harms neither calls nor the shared state."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError, runtime
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.state import State, StoreChange
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores.latency import MAX_QUEUE_SECONDS, MAX_WAIT_SECONDS
from tests.support.breakers import another, names_in
from tests.support.sites import eventually
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.hurried

RETRY = 0.1


class HeldStore(RedisStore):
    """The real store, on a line where requests and replies can be held up."""

    def __init__(self) -> None:
        super().__init__("breakers")
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None
        self.requests = 0

    def add(self, reports: Any) -> Reading:
        self.requests += 1
        self.before()
        reading = super().add(reports)
        self.after()
        return reading

    def check_writable(self) -> None:
        self.before()
        super().check_writable()


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
        return breaker, store

    def losses(self) -> list[StoreChange]:
        return [events for events in self.events if isinstance(events, StoreChange)]


@pytest.fixture
def site(settings: Any) -> Site:
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02, "STORE_RETRY_INTERVAL": RETRY}
    return Site()


@pytest.fixture
def held(site: Site) -> Iterator[threading.Event]:
    """What is held up goes on when this is set, at the latest at the end of the test.

    By then nothing that it brings is wanted any more: the next test begins with an empty store.
    """
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


def comes_back(breaker: CircuitBreaker) -> bool:
    return eventually(lambda: breaker.engine.access.stand_in is None)


def shared_state(name: str) -> str:
    return another(name).state


def test_many_callers_lose_the_store_once(site, held):
    breaker, store = site.process("once")
    store.before = held.wait
    time.sleep(0.05)
    at_once(50, lambda: breaker.call(lambda: None))
    assert len(site.losses()) == 1


def test_a_caller_is_let_go_as_soon_as_another_knows_of_the_loss(site, held):
    breaker, store = site.process("let-go")
    store.before = held.wait
    permit = breaker.acquire()
    time.sleep(0.05)
    first = threading.Thread(target=breaker.call, args=(lambda: None,))
    first.start()
    time.sleep(MAX_WAIT_SECONDS / 2)
    watch = Stopwatch()
    permit.fail()
    assert watch.seconds < MAX_WAIT_SECONDS
    first.join()


def test_a_late_reply_changes_neither_view_nor_store(site, held):
    breaker, store = site.process("late")
    store.after = held.wait
    fail(breaker, 3)
    assert breaker.state == "open"
    held.set()
    assert comes_back(breaker)
    assert breaker.state == shared_state("late") == "closed"


def test_a_permit_of_the_time_alone_means_nothing_to_the_shared_store(site, held):
    breaker, store = site.process("alone", wait_duration_in_open_state=0.01)
    store.before = held.wait
    fail(breaker, 3)
    time.sleep(0.02)
    local_probe = breaker.acquire()
    for _ in range(2):  # the same steps as were made alone, made in the shared store by others
        other = another("alone", failure_threshold=1, wait_duration_in_open_state=0.01)
        shared_probe = other.acquire()
        if other.state == "closed":
            shared_probe.fail()
            time.sleep(0.02)
    held.set()
    assert comes_back(breaker)
    local_probe.succeed()
    assert shared_state("alone") == "half_open"


def test_successes_that_were_not_reported_in_time_still_end_the_run(site, held):
    breaker, store = site.process("run")
    fail(breaker, 2)
    breaker.call(lambda: None)
    store.before = held.wait
    time.sleep(0.05)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_what_is_stuck_from_before_does_not_hold_up_the_store_that_is_back(site, held):
    breaker, store = site.process("stuck", failure_threshold=None, failure_rate_threshold=50)
    permits = [breaker.acquire() for _ in range(8)]
    store.before = held.wait
    at_once(8, lambda: permits.pop().fail())
    store.before = lambda: None
    assert comes_back(breaker)
    fail(breaker)
    assert breaker.engine.access.stand_in is None
    assert len(site.losses()) == 2
    assert runtime.operator_store().load_many(["stuck"]).snapshots["stuck"].counts.failures == 1


def test_a_job_of_before_new_settings_does_not_lose_the_new_store(site, held):
    breaker, store = site.process("settings")
    store.before = held.wait
    permit = breaker.acquire()
    caller = threading.Thread(target=permit.fail)
    caller.start()
    assert eventually(lambda: store.requests == 2)
    store.before = lambda: None
    breaker.engine.reconnect()
    breaker.forget_local_state()
    caller.join()
    assert breaker.call(lambda: "result") == "result"
    assert site.losses() == []


def test_a_hiccup_now_and_then_is_no_outage(site):
    breaker, store = site.process("hiccups")
    pauses = [0.06, 0.0, 0.0] * 4
    store.before = lambda: time.sleep(pauses.pop())
    while pauses:
        breaker.engine.expire("hiccups")
        breaker.call(lambda: None)
    assert site.losses() == []


def test_plain_calls_in_an_event_loop_notice_the_loss_and_queue_nothing(site, held):
    breaker, store = site.process("loop")
    store.before = held.wait
    asked = store.requests

    async def use() -> float:
        longest = 0.0
        while not breaker.engine.access.stand_in:
            began = time.monotonic()
            breaker.call(lambda: None)
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.001)
        for _ in range(3):
            fail(breaker)
        return longest

    assert asyncio.run(asyncio.wait_for(use(), 10)) < MAX_WAIT_SECONDS / 2
    assert store.requests - asked == 1
    assert breaker.state == "open"


def test_no_caller_queues_for_long_at_a_store_that_is_just_not_slow(site):
    """In an idle process it is the store that is waited for, though no answer takes over 50 ms."""
    breaker, store = site.process("queue", failure_threshold=1000)
    permits = [breaker.acquire() for _ in range(200)]
    store.before = lambda: time.sleep(0.04)
    watch = Stopwatch()
    at_once(200, lambda: permits.pop().fail())
    assert watch.seconds < MAX_QUEUE_SECONDS + 3 * MAX_WAIT_SECONDS


def test_an_event_loop_that_is_held_up_does_not_hold_up_threads(site):
    breaker, store = site.process("blocked")
    store.before = lambda: time.sleep(0.02)
    time.sleep(0.05)
    blocked = threading.Event()

    async def block() -> None:
        task = asyncio.create_task(breaker.aacquire())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        blocked.set()
        time.sleep(0.8)
        await task

    loop = threading.Thread(target=asyncio.run, args=(block(),))
    loop.start()
    blocked.wait()
    watch = Stopwatch()
    for _ in range(4):
        breaker.call(lambda: None)
        time.sleep(0.05)
    assert watch.seconds < 0.2 + 2 * MAX_WAIT_SECONDS
    loop.join()


def test_a_process_forked_while_a_thread_holds_the_stand_in_goes_on(site, held):
    breaker, store = site.process("forked")
    store.before = held.wait
    fail(breaker)
    stand_in = breaker.engine.access.stand_in
    assert stand_in is not None
    with stand_in._lock:
        pid = os.fork()
        if pid == 0:
            fail(breaker, 2)
            os._exit(0 if breaker.state == "open" else 1)
    ended = eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, seconds=5)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert ended
    assert breaker.state == "closed"


def test_an_open_breaker_rejects_through_an_outage_for_its_wait_and_no_longer(site, held):
    breaker, store = site.process("wait", wait_duration_in_open_state=2)
    fail(breaker, 3)
    store.before = held.wait
    time.sleep(0.05)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert 0 < caught.value.retry_after < 2
    time.sleep(caught.value.retry_after)
    breaker.acquire().succeed()
    assert breaker.state == State.CLOSED
    assert shared_state("wait") == "open"


def test_a_job_held_up_through_an_outage_registers_nothing_when_the_store_is_back(site, held):
    breaker, store = site.process("late")
    store.before = held.wait
    breaker.engine.expire("late")
    breaker.call(lambda: None)  # gives up waiting; its job is still held up
    assert breaker.engine.access.stand_in is not None
    runtime.operator_store()._client.flushdb()
    breaker.engine.access.stand_in = None  # the store is back
    held.set()
    store.before = lambda: None
    assert not eventually(lambda: names_in(runtime.operator_store()), seconds=0.3)
