"""Whatever becomes of the store, protected calls go on, quickly, and protection with them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support import breaker_outage as outage
from tests.support.breaker_faults import FAULTS, Account, Fault, Scene, suffer

pytestmark = pytest.mark.hurried

LIMIT = 0.15
"""Seconds that an outage may cost a process' calls."""
STORE_TIMEOUT = 1.0
"""Its default, in seconds."""
SLACK = 0.15
"""Seconds that a busy machine may take for its own."""
NOTICED = [fault for fault in FAULTS if fault.is_loss]
accounts: dict[str, Account] = {}


def account_of(fault: Fault) -> Account:
    if fault.name not in accounts:
        accounts[fault.name] = suffer(fault)
    return accounts[fault.name]


def each(faults: list[Fault]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        scene = Scene(stack)
        scene.worker.ask(outage.begin)
        yield scene


@each(FAULTS)
def test_calls_wait_once_and_briefly(fault):
    """Their results and the backend's exceptions come out untouched, or the process says so."""
    seen = account_of(fault)
    assert sum(seen.calls) < LIMIT + SLACK
    assert max(seen.by_threads) < LIMIT + SLACK
    assert max(seen.by_new_process) < LIMIT + SLACK
    assert max(seen.failures_by_threads) < LIMIT + SLACK


@each(FAULTS)
def test_tasks_wait_briefly_and_the_event_loop_not_at_all(fault):
    seen = account_of(fault)
    assert max(seen.by_tasks) < LIMIT + SLACK
    assert seen.loop_lag < LIMIT / 2


@each(NOTICED)
def test_the_loss_is_told_once(fault):
    """Once by each engine that notices: each other breaker of the process has one of its own."""
    news = account_of(fault).news_of_loss
    assert [line for line in news["logged"] if line.startswith("ERROR")] == news["logged"]
    assert 1 <= len(news["logged"]) == len(news["store_changes"]) <= 1 + len(outage.OTHERS)
    for logged, reason in zip(sorted(news["logged"]), sorted(news["store_changes"]), strict=True):
        assert reason in logged


@each([fault for fault in FAULTS if not fault.is_loss])
def test_an_emptied_or_slow_store_is_no_loss(fault):
    news = account_of(fault).news_of_loss
    assert news == {"logged": [], "store_changes": [], "transitions": []}


@each(NOTICED)
def test_protection_goes_on_within_the_process(fault):
    """A backend that dies meanwhile trips the breaker; one known to be open stays so."""
    seen = account_of(fault)
    assert seen.states == ("open", "open")
    assert seen.news_of_trip["transitions"] == [("search", "closed", "open", "local")]


@each([fault for fault in FAULTS if fault.act])
def test_operators_acts_say_what_is_wrong(fault):
    assert account_of(fault).act == fault.act


@each(FAULTS)
def test_the_shared_state_counts_when_the_store_is_back(fault):
    seen = account_of(fault)
    assert seen.came_back
    # A look that met silence before the store's return lasts so long.
    look = STORE_TIMEOUT if fault.act == "the store did not answer in time" else 0.0
    assert seen.back_after < max(outage.RETRY, look) + 0.5 + SLACK
    was_reset = fault.emptied or seen.act == "done"
    is_closed = fault.is_loss or was_reset  # what a process opened alone binds no other one
    after = "closed" if was_reset else "open"
    assert seen.shared_after == ("closed" if is_closed else "open", after)
    assert seen.states_after == ("open" if fault.is_loss else seen.shared_after[0], after)


def test_a_store_that_answers_but_takes_no_writes_is_not_back(scene):
    ask = scene.worker.ask
    scene.server.stop()
    ask(outage.call_until_noticed, 5.0)
    scene.server.start()
    scene.admin.replicaof("127.0.0.1", 1)
    time.sleep(3 * outage.RETRY)
    assert ask(outage.news)["store_changes"] == ["the store cannot be reached"]
    scene.admin.replicaof("NO", "ONE")
    assert ask(outage.comes_back)


@pytest.mark.parametrize("delay", [0.03, 0.07, 0.5])
def test_a_process_comes_back_to_a_store_that_has_become_slow(scene, delay):
    ask = scene.worker.ask
    scene.server.stop()
    ask(outage.call_until_noticed, 5.0)
    scene.proxy.delay = delay
    scene.server.start()
    began = time.monotonic()
    assert ask(outage.comes_back)
    assert time.monotonic() - began < outage.RETRY + 0.5 + SLACK + 4 * delay


def test_twenty_outages_leave_no_thread_and_no_connection(scene):
    ask = scene.worker.ask
    ask(outage.lose_and_return, 2)
    before, connections = ask(outage.used), scene.admin.info("clients")["connected_clients"]
    ask(outage.lose_and_return, 20)
    after = ask(outage.used)
    assert after["threads"] <= before["threads"] + 4  # as many as one courier may have
    assert after["files"] <= before["files"] + 4
    assert scene.admin.info("clients")["connected_clients"] <= connections + 4


def test_a_process_forked_in_an_outage_goes_on_and_comes_back_by_itself(scene):
    scene.server.freeze()
    time.sleep(2 * outage.SYNC)
    scene.worker.ask(outage.call_until_noticed, 5.0)
    child = scene.worker.ask(outage.fork_and_call)
    scene.server.thaw()
    assert child["states"] == ("open", "open")
    assert child["took"] < LIMIT + SLACK
    assert scene.worker.ask(outage.wait_for, child["pid"]) == 0


def seconds_to_leave(scene: Scene) -> float:
    began = time.monotonic()
    scene.worker.leave()
    assert scene.worker.process.exitcode == 0
    return time.monotonic() - began


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
@pytest.mark.parametrize(
    "begin",
    [fault.begin for fault in FAULTS if fault.name in ("server frozen", "name resolution hangs")],
    ids=["frozen", "resolution"],
)
def test_the_end_of_a_process_is_not_delayed(scene, begin: Callable[[Scene], None], noticed):
    with ExitStack() as stack:
        healthy = Scene(stack)
        healthy.worker.ask(outage.begin)
        usual = seconds_to_leave(healthy)
    begin(scene)
    if noticed:
        time.sleep(2 * outage.SYNC)
        scene.worker.ask(outage.call_until_noticed, 5.0)
    else:
        scene.worker.ask(outage.count_successes, 3)
    assert seconds_to_leave(scene) < usual + 0.5
