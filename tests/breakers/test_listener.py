"""A process hears of every change, proves each second that it has, and polls when it cannot."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers import judging as judging_module
from analytics_admin.breakers import listener as listener_module
from analytics_admin.breakers import probes as probes_module
from analytics_admin.breakers import schedule as schedule_module
from analytics_admin.breakers import sync as sync_module
from analytics_admin.breakers import turn as turn_module
from analytics_admin.breakers.control import reset, set_control
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.listener import THREAD_NAME, Listener
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.presence import Presence, Process
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Control, Counts, Hold, Snapshot, State
from analytics_admin.breakers.state_machine import (
    control,
    due_transition,
    grant_permit,
    new_record,
    next_generation,
)
from analytics_admin.breakers.stores.base import Move, Push, StoreUnavailable
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores import latency
from tests.support.breakers import another, round_trips
from tests.support.stored_breakers import change_record, raw_client

pytestmark = pytest.mark.hearing

PATIENCE = 10.0
APART = 0.05
"""Seconds that order two calls: each process reckons the store's time a little differently."""
PROCESS = Process(process_id="far", host="far", pid=1, release="", policies="")
HOLD = Hold(control=Control.FORCED_OPEN, until=None)


@pytest.fixture(autouse=True)
def _listens_at_once(monkeypatch, settings):
    """It never polls, so that what it knows it has heard; a busy machine is no reason to poll."""
    monkeypatch.setattr(turn_module, "LISTEN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(listener_module, "PROOF_WAIT_SECONDS", PATIENCE)
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 3600, "STORE_TIMEOUT": PATIENCE}


def wait_until(is_so: Callable[[], bool]) -> float:
    """Return the seconds that it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + PATIENCE
        time.sleep(0.002)
    return time.monotonic() - began


def listening(name: str = "a", **policy: Any) -> CircuitBreaker:
    breaker = another(name, **policy)
    breaker.call(int)
    wait_until(lambda: breaker.engine.schedule.gets_pushes)
    return breaker


def knows(breaker: CircuitBreaker, state: str) -> bool:
    return breaker.engine.display_state(breaker.local_state) == state


def hold(*names: str, control: Control = Control.FORCED_OPEN) -> None:
    set_control(list(names), control, for_seconds=None, actor="sam", reason="")


def test_every_act_is_heard_without_a_question():
    breaker = listening()
    assert breaker.engine.report_all(PATIENCE)
    with patch.object(RedisStore, "add", side_effect=AssertionError):  # it reads nothing
        for act, state in [
            (lambda: hold("a"), "forced_open"),
            (lambda: hold("a", control=Control.DISABLED), "disabled"),
            (lambda: reset(["a"], only_open=False), "closed"),
        ]:
            act()
            wait_until(lambda state=state: knows(breaker, state))


def test_a_breaker_that_nobody_used_for_long_obeys_at_its_next_call():
    breaker = listening()
    state = breaker.local_state
    state.used_at -= 60
    state.newest_success -= 60
    state.reported_at = time.monotonic()
    breaker.engine.schedule.read_followed()
    breaker.engine.reporter.ring()
    wait_until(lambda: not breaker.engine.schedule.followed)
    hold("a")
    wait_until(lambda: knows(breaker, "forced_open"))
    assert breaker.call(int, fallback="rejected") == "rejected"


def test_a_change_of_many_breakers_at_once_is_read():
    names = [f"backend-{number}" for number in range(40)]
    breaker = listening(names[7])
    operator_store().compare_and_set(
        [Move(name=it, expected=None, new=new_record()) for it in names if it != names[7]]
    )
    hold(*names)
    wait_until(lambda: knows(breaker, "forced_open"))


def test_a_forgotten_breaker_is_read():
    breaker = listening()
    store = operator_store()
    old = store.load_many(["a"]).snapshots["a"]
    assert store.forget("a", generation=old.generation)
    new = replace(new_record(), hold=HOLD)
    store.compare_and_set([Move(name="a", expected=None, new=new)])
    wait_until(lambda: knows(breaker, "forced_open"))


def test_a_change_that_was_not_told_is_found_by_the_next_proof(monkeypatch):
    monkeypatch.setattr(listener_module, "PROOF_SECONDS", 0.1)
    breaker = listening()
    assert breaker.engine.report_all(PATIENCE)
    wait_until(lambda: not breaker.engine.schedule._stale)
    time.sleep(0.05)  # what the reporter had begun to read is read
    change_record("a", generation="of-another:7", state="open", wait="900")
    time.sleep(0.3)
    assert knows(breaker, "closed")  # there is no number that tells
    raw_client().incr(RedisStore("breakers")._sequence)
    wait_until(lambda: knows(breaker, "open"))


def test_an_emptied_store_is_found_by_the_next_proof_and_gets_the_hold_again(monkeypatch):
    monkeypatch.setattr(listener_module, "PROOF_SECONDS", 0.1)
    breaker = listening()
    hold("a")
    wait_until(lambda: knows(breaker, "forced_open"))
    raw_client().flushdb()

    def is_held_again() -> bool:
        assert breaker.call(int, fallback="rejected") == "rejected"
        record = operator_store().load_many(["a"]).snapshots["a"]
        return record is not None and record.hold is not None

    wait_until(is_held_again)
    assert knows(breaker, "forced_open")


def test_what_is_heard_of_a_breaker_not_in_use_holds_at_its_next_call():
    breaker = listening()
    hold("a")
    wait_until(lambda: knows(breaker, "forced_open"))
    breaker.engine.expire("a")
    reset(["a"], only_open=False)
    wait_until(lambda: breaker.engine._turn._not_closed == set())
    breaker.acquire().fail()
    assert breaker.engine.report_all(PATIENCE)
    assert operator_store().load_many(["a"]).snapshots["a"].counts.failures == 1


def test_a_closed_connection_is_replaced_and_what_was_missed_is_read(monkeypatch):
    monkeypatch.setattr(listener_module, "FIRST_RETRY_SECONDS", 0.5)
    breaker = listening()
    raw_client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: not breaker.engine.listener.gets_pushes)
    hold("a")
    wait_until(lambda: breaker.engine.listener.gets_pushes)
    wait_until(lambda: knows(breaker, "forced_open"))


def test_without_messages_the_process_polls(monkeypatch, settings):
    monkeypatch.setattr(listener_module, "FIRST_RETRY_SECONDS", 60.0)
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.05, "STORE_RETRY_INTERVAL": 60}
    breaker = listening()
    raw_client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: not breaker.engine.schedule.gets_pushes)
    breaker.call(int)
    hold("a")
    wait_until(lambda: knows(breaker, "forced_open"))


@pytest.mark.parametrize("rule", ["resetchannels", "-publish", "-subscribe"])
def test_a_user_who_may_not_publish_or_subscribe_polls(rule, settings):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.05}
    raw_client().execute_command("ACL", "SETUSER", "default", rule)
    try:
        raw_client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        breaker = another("a")
        breaker.call(int)
        hold("a")
        wait_until(lambda: knows(breaker, "forced_open"))
        assert not breaker.engine.listener.gets_pushes
        assert breaker.engine.outage.stand_in is None
    finally:
        raw_client().execute_command("ACL", "SETUSER", "default", "allchannels", "+@all")


def test_the_number_of_the_last_change_that_is_obeyed_is_known():
    breaker = listening()
    hold("a")
    last = operator_store().load_many(["a"]).sequence
    wait_until(lambda: breaker.engine.presence.acknowledged == last)
    assert knows(breaker, "forced_open")
    reset(["a"], only_open=False)
    wait_until(lambda: breaker.engine.presence.acknowledged == last + 1)
    assert knows(breaker, "closed")


def test_a_process_that_uses_nothing_but_hears_asks_for_the_proof_alone():
    breaker = listening()
    assert breaker.engine.report_all(PATIENCE)
    with patch.object(RedisStore, "add", side_effect=AssertionError), round_trips() as counted:
        wait_until(lambda: counted["trips"] == 2)
    assert breaker.engine.listener.gets_pushes


def test_a_healthy_breaker_reports_its_successes_seldom(monkeypatch, settings):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02}
    monkeypatch.setattr(schedule_module, "YOUNG_SECONDS", 0.0)
    breaker = listening()
    breaker.call(int)
    assert breaker.engine.report_all(PATIENCE)
    # The ten seconds of this process, which begin anywhere, begin now.
    breaker.engine.schedule._phase = -breaker.local_state.reported_at
    with patch.object(RedisStore, "add", side_effect=AssertionError):
        for _ in range(20):
            breaker.call(int)
            time.sleep(0.02)
    breaker.local_state.reported_at -= schedule_module.STATISTICS_SECONDS
    wait_until(lambda: operator_store().load_many(["a"]).snapshots["a"].counts.calls == 22)


def test_a_success_that_ends_a_run_is_reported_within_the_interval(monkeypatch, settings):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02}
    monkeypatch.setattr(schedule_module, "YOUNG_SECONDS", 0.0)
    breaker = listening()
    breaker.acquire().fail()
    assert operator_store().load_many(["a"]).snapshots["a"].consecutive_failures == 1
    breaker.call(int)
    wait_until(lambda: not operator_store().load_many(["a"]).snapshots["a"].consecutive_failures)


def hearing_from_afar(monkeypatch, *, delay: float) -> Engine:
    """Return the engine of a process to which each answer comes late."""
    with monkeypatch.context() as patch:
        patch.setattr(latency, "MAX_WAIT_SECONDS", PATIENCE)
        engine = listening("used").engine
    wait_until(lambda: engine._turn._not_closed is not None)
    store = engine.reporter._shared
    for name in ("add", "compare_and_set"):
        real = getattr(store, name)
        monkeypatch.setattr(store, name, lambda it, real=real: time.sleep(delay) or real(it))
    return engine


def of(engine: Engine, name: str) -> CircuitBreaker:
    return CircuitBreaker(name, engine, BreakerPolicy)


def test_the_first_call_of_a_closed_breaker_does_not_wait(monkeypatch):
    engine = hearing_from_afar(monkeypatch, delay=0.5)
    breaker = of(engine, "new")
    began = time.monotonic()
    for _ in range(3):
        breaker.call(int)
    assert time.monotonic() - began < 0.4
    assert engine.report_all(PATIENCE)
    assert operator_store().load_many(["new"]).snapshots["new"].counts.calls == 3


@pytest.mark.parametrize("before", [True, False])
def test_the_first_call_of_any_other_breaker_waits_to_know_it(monkeypatch, before):
    held = Move(name="held", expected=None, new=replace(new_record(), hold=HOLD))
    if before:
        operator_store().compare_and_set([held])
    engine = hearing_from_afar(monkeypatch, delay=0.1)
    if not before:
        operator_store().compare_and_set([held])
        wait_until(lambda: "held" in (engine._turn._not_closed or ()))
    assert of(engine, "held").call(int, fallback="rejected") == "rejected"
    reset(["held"], only_open=False)
    wait_until(lambda: "held" not in (engine._turn._not_closed or ()))


def test_a_damaged_list_of_what_is_not_closed_has_first_calls_wait():
    raw_client().set(RedisStore("breakers")._not_closed, "damaged")
    engine = listening("used").engine
    assert engine._turn._not_closed is None
    assert of(engine, "another").call(lambda: "passes") == "passes"
    assert engine.outage.stand_in is None


def test_the_thread_ends_with_its_engine():
    breaker = listening()

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]

    assert threads()
    breaker.engine.reconnect()
    wait_until(lambda: not threads())


def test_a_forked_child_hears_on_a_connection_of_its_own():
    breaker = listening()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            breaker.call(int)
            wait_until(lambda: breaker.engine.schedule.gets_pushes)
            os.write(writing, b"hears")
            wait_until(lambda: knows(breaker, "forced_open"))
            os.write(writing, b" obeys")
        finally:
            os._exit(0)
    assert os.read(reading, 100) == b"hears"
    hold("a")
    wait_until(lambda: knows(breaker, "forced_open"))
    assert os.read(reading, 100) == b" obeys"
    os.waitpid(child, 0)


class ScriptedChannel:
    """A channel that gives what the test has put down; "silence" takes no time but the clock's."""

    def __init__(self, last: int, script: list[Push | int | None]) -> None:
        self.last, self.script, self.asked, self.closed = last, script, 0, False

    def open(self) -> int:
        return self.last

    def request_proof(self) -> None:
        self.asked += 1

    def receive(self, timeout: float) -> Push | int | None:
        if not self.script:
            raise StoreUnavailable("gone")
        heard = self.script.pop(0)
        if heard is None or isinstance(heard, float):
            time.sleep(timeout if heard is None else min(heard, timeout))
            return None
        return heard

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def listen(script: list[Push | int | float | None], monkeypatch, timeout: float = 5.0):
    """Return what was to be taken, and each change of whether it hears."""
    monkeypatch.setattr(listener_module, "PROOF_SECONDS", 0.01)
    monkeypatch.setattr(listener_module, "PROOF_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(listener_module, "FIRST_RETRY_SECONDS", 3600.0)
    channel, turns = ScriptedChannel(5, script), []
    listener = Listener(
        lambda: turns.append(listener.gets_pushes),
        timeout=lambda: timeout,
        retry_interval=lambda: 3600.0,
    )
    listener.start(lambda: channel)
    wait_until(lambda: channel.closed and not listener.gets_pushes)
    taken = [(push.sequence, push.is_gap) for push in listener.take()]
    listener.stop()
    return taken, [now for before, now in zip([None, *turns], turns, strict=False) if now != before]


def test_a_missing_number_is_a_gap(monkeypatch):
    script = [Push(sequence=6), Push(sequence=8), Push(sequence=9), Push(sequence=9)]
    taken, _ = listen(script, monkeypatch)
    assert taken == [(5, True), (6, False), (8, True), (9, False), (9, True)]


def test_a_proof_of_another_number_is_a_gap(monkeypatch):
    taken, _ = listen([None, 5, Push(sequence=6), None, 9, None, 9, None, 2], monkeypatch)
    assert taken == [(5, True), (6, False), (9, True), (2, True)]


def test_it_does_not_hear_while_the_proof_is_late(monkeypatch):
    taken, heard = listen([None, None, Push(sequence=6), 6], monkeypatch)
    assert heard == [False, True, False, True, False]
    assert taken == [(5, True), (6, False)]


def test_it_hears_while_the_proofs_of_a_slow_store_take_as_long_as_before(monkeypatch):
    _, heard = listen([None, None, 0.5, 5, None, 0.05, 5], monkeypatch)
    assert heard == [False, True, False, True, False]


def test_a_proof_that_does_not_come_ends_the_channel(monkeypatch):
    taken, heard = listen([None] * 1000, monkeypatch, timeout=0.05)
    assert (taken, heard) == ([(5, True)], [False, True, False])


def opened(at: float) -> Snapshot:
    return Snapshot(generation="x:2", state=State.OPEN, entered_at=at, wait=60.0)


@pytest.mark.parametrize(
    ("told_at", "is_applied"), [(100.5, True), (100.0, False), (99.9, False), (50.0, False)]
)
def test_what_was_told_before_the_last_reading_is_not_applied(told_at, is_applied):
    state = LocalState("a", BreakerPolicy())
    state.read(Snapshot(generation="x:1"), 100.0, 10.0)
    assert state.apply_push(opened(told_at), told_at, 12.0) is is_applied
    assert state.snapshot.generation.startswith("x:2" if is_applied else "x:1")


@pytest.mark.parametrize("asked_at", [11.5, 12.5])
def test_a_reading_that_was_asked_for_before_a_push_does_not_undo_it(asked_at):
    """However late it arrives: a thread may have been without processor time."""
    state = LocalState("a", BreakerPolicy())
    state.read(Snapshot(generation="x:1"), 100.0, 10.0)
    assert state.apply_push(opened(102.0), 102.0, 12.0)
    state.read(Snapshot(generation="x:1"), 100.9, 14.0, asked_at=asked_at)
    assert (state.snapshot.generation == "x:2") is (asked_at < 12.0)


def test_calls_obey_a_push_before_the_reporter_takes_it():
    breaker = listening()
    with patch.object(breaker.engine._turn, "take", lambda store, requests: 3600.0):
        hold("a")
        wait_until(lambda: knows(breaker, "forced_open"))


def overtaken_by(breaker: CircuitBreaker, decide: Callable[..., Any], act: Callable[[], Any]):
    """Return ``decide`` as one after which, and before its move, calls here obey the act."""

    def decide_too_late(snapshot: Snapshot, *args: Any, **options: Any) -> Any:
        decided = decide(snapshot, *args, **options)
        if decided is not None and breaker.local_state.snapshot is snapshot:
            act()
            wait_until(lambda: breaker.local_state.snapshot is not snapshot)
        return decided

    return decide_too_late


def test_a_probe_decided_before_a_push_passes_no_call():
    breaker = listening(permitted_number_of_calls_in_half_open_state=1)
    closed = breaker.local_state.snapshot
    opened = replace(closed, generation=next_generation(closed.generation), state=State.OPEN)
    probing = grant_permit(opened)

    def move(old: Snapshot, new: Snapshot) -> None:
        assert operator_store().compare_and_set([Move(name="a", expected=old, new=new)])[0].won

    move(closed, opened)
    wait_until(lambda: breaker.local_state.snapshot.generation == opened.generation)
    late = overtaken_by(breaker, grant_permit, lambda: move(opened, probing))
    with patch.object(probes_module, "grant_permit", late):
        assert breaker.call(int, fallback="rejected") == "rejected"
    assert operator_store().load_many(["a"]).snapshots["a"].generation == probing.generation


def test_a_transition_decided_before_a_push_does_not_undo_it():
    breaker = listening()
    over = Hold(control=Control.FORCED_OPEN, until=time.time() - 1)
    before = breaker.local_state.snapshot
    move = Move(name="a", expected=before, new=control(before, over))
    late = overtaken_by(breaker, due_transition, lambda: hold("a"))
    with patch.object(sync_module, "due_transition", late):
        assert operator_store().compare_and_set([move])[0].won
        wait_until(lambda: knows(breaker, "half_open"))
        breaker.engine.schedule.read_followed()
        breaker.engine.reporter.ring()
        wait_until(lambda: knows(breaker, "forced_open"))
        assert breaker.engine.report_all(PATIENCE)
    assert operator_store().load_many(["a"]).snapshots["a"].hold == replace(HOLD, actor="sam")


def test_a_message_sets_no_clock():
    state = LocalState("a", BreakerPolicy())
    state.read(Snapshot(generation="x:1"), 100.0, 10.0)
    assert state.apply_push(opened(101.0), 101.0, 15.0)  # it was four seconds on its way
    assert state.store_time(15.0) == 105.0


def test_what_is_known_already_is_no_news():
    state = LocalState("a", BreakerPolicy())
    held = control(Snapshot(generation="x:1"), HOLD)
    state.read(held, 100.0, 10.0)
    assert state.apply_push(replace(held, permits=3), 101.0, 11.0)
    assert state.snapshot is held


def test_a_run_of_several_processes_opens_once_all_were_asked_for_their_successes(settings):
    """Nobody polls, and nobody waits for an interval of an hour."""
    processes = [listening() for _ in range(3)]
    for _ in processes:
        Presence().tell(operator_store(), gets_pushes=True)
    time.sleep(APART)
    for number in range(5):
        processes[number % 3].acquire().fail()
    took = wait_until(lambda: all(knows(process, "open") for process in processes))
    assert took < 1


def test_a_success_that_nobody_has_been_told_of_is_asked_for(monkeypatch):
    monkeypatch.setattr(schedule_module, "YOUNG_SECONDS", 0.0)
    failing, healthy, another_one = (listening() for _ in range(3))
    for _ in range(3):
        Presence().tell(operator_store(), gets_pushes=True)
    time.sleep(APART)
    for _ in range(3):
        failing.acquire().fail()
    time.sleep(APART)
    healthy.call(int)
    time.sleep(0.05)
    assert operator_store().load_many(["a"]).snapshots["a"].consecutive_failures == 3
    for _ in range(2):
        another_one.acquire().fail()
    wait_until(lambda: operator_store().load_many(["a"]).snapshots["a"].consecutive_failures == 2)
    assert knows(failing, "closed")


def test_a_run_waits_for_the_answer_of_the_process_that_is_farthest_from_the_store():
    first, second = listening(), listening()
    Presence().tell(operator_store(), gets_pushes=True)
    operator_store().present(replace(PROCESS, gets_pushes=True, answered_in=0.3))
    time.sleep(APART)
    for number in range(5):
        (first, second)[number % 2].acquire().fail()
    took = wait_until(lambda: knows(first, "open"))
    assert took >= 0.6


@pytest.mark.parametrize("deaf", [1, 2])
def test_where_not_all_hear_a_run_waits_for_their_interval(settings, deaf):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.3}
    first, second = listening(), listening()
    for _ in range(2):
        Presence().tell(operator_store(), gets_pushes=True)
    for _ in range(deaf):
        Presence().tell(operator_store())
    began = time.monotonic()
    for number in range(5):
        (first, second)[number % 2].acquire().fail()
    wait_until(lambda: knows(first, "open"))
    assert 0.3 <= time.monotonic() - began < 1


RATE = {
    "failure_rate_threshold": 50,
    "minimum_number_of_calls": 10,
    "sliding_window_type": "time_based",
    "sliding_window_size": 60,
}


def window_of(breaker: CircuitBreaker) -> Counts:
    window = breaker.local_state.policy.window
    return operator_store().inspect(breaker.name, window).windows[window]


@pytest.fixture
def two_processes(monkeypatch):
    """Two that tell of successes an hour late, unless they are asked."""
    monkeypatch.setattr(schedule_module, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(schedule_module, "RATES_SECONDS", 3600.0)
    monkeypatch.setattr(schedule_module, "RATES_SHARE", 3600.0)
    processes = [listening("a", **RATE) for _ in range(2)]
    for _ in processes:
        Presence().tell(operator_store(), gets_pushes=True)
    return processes


def test_no_rate_opens_a_breaker_for_want_of_successes_that_nobody_has_told(
    two_processes, monkeypatch
):
    failing, healthy = two_processes
    monkeypatch.setattr(judging_module, "ANSWER_SECONDS", 0.5)  # on a busy machine, too
    for _ in range(30):
        healthy.call(int)
    assert window_of(failing).calls == 2  # the first ones
    for _ in range(20):
        failing.acquire().fail()
    wait_until(lambda: window_of(failing) == Counts(calls=52, failures=20))
    time.sleep(0.6)
    assert knows(failing, "closed")
    assert knows(healthy, "closed")


def test_a_rate_opens_a_breaker_once_all_were_asked(two_processes):
    failing, healthy = two_processes
    with suppress(CircuitOpenError):  # at the latest, on a busy machine
        for number in range(20):
            two_processes[number % 2].acquire().fail()
    took = wait_until(lambda: knows(failing, "open") and knows(healthy, "open"))
    assert took < 1
    (opened,) = operator_store().transitions("a")
    assert opened.cause == "failure_rate"


def test_a_rate_that_is_close_to_its_limit_has_successes_told_within_the_interval(
    monkeypatch, settings
):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02}
    monkeypatch.setattr(schedule_module, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(schedule_module, "RATES_SHARE", 1e5)
    monkeypatch.setattr(schedule_module, "RATES_SECONDS", 1e6)
    breaker = listening("a", **RATE)
    for _ in range(9):
        breaker.call(int)
        time.sleep(0.02)
    assert window_of(breaker).calls <= 3  # the first ones
    for _ in range(3):
        breaker.acquire().fail()
    breaker.call(int)
    wait_until(lambda: window_of(breaker) == Counts(calls=14, failures=3))
    breaker.call(int)
    time.sleep(0.2)
    assert window_of(breaker).calls == 14  # far from it, and no run to end
    for _ in range(4):
        breaker.acquire().fail()
    breaker.call(int)  # ends the run
    wait_until(lambda: window_of(breaker).calls == 20)
    breaker.call(int)
    wait_until(lambda: window_of(breaker).calls == 21)


@pytest.mark.present
def test_a_change_of_more_breakers_than_a_turn_reads_is_acknowledged_once_all_obey():
    first = listening("backend-0")
    engine, policy = first.engine, BreakerPolicy.from_options({})
    names = [f"backend-{number}" for number in range(450)]
    breakers = [first, *(CircuitBreaker(name, engine, lambda: policy) for name in names[1:])]
    for breaker in breakers:
        breaker.call(int)
    assert engine.report_all(PATIENCE)
    told, tell = [], engine.presence.tell

    def note(*arguments, **options):
        told.append(
            (engine.presence.acknowledged, sum(knows(it, "forced_open") for it in breakers))
        )
        return tell(*arguments, **options)

    with patch.object(engine.presence, "tell", note):
        hold(*names)
        last = operator_store().processes()[1]
        wait_until(lambda: engine.presence.acknowledged >= last)
        wait_until(lambda: told[-1][0] >= last)
    assert {obeying for acknowledged, obeying in told if acknowledged >= last} == {len(names)}
