"""Whose the permits of a round are: those of a process that is gone are forgiven, no others."""

import time
from dataclasses import replace
from unittest.mock import patch

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitOpenError
from analytics_admin.breakers.presence import FORGIVEN_SECONDS, Process
from analytics_admin.breakers.state import Results, Snapshot, State
from analytics_admin.breakers.state_machine import (
    begin_round_anew,
    grant_permit,
    new_record,
    reset,
    return_permit,
)
from analytics_admin.breakers.stores.base import Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.breakers import another, snapshot_of, state_now
from tests.support.stored_breakers import age_record, key_of, key_of_site, raw_client

NAME = "search"
PROBERS = {letter: letter * 32 for letter in "abc"}
LIMIT = BreakerPolicy().max_wait_duration_in_half_open_state


class Round:
    """A half-open round in the store, and the processes that probe."""

    def __init__(self) -> None:
        self.store = RedisStore("breakers", timeout=2)
        for process_id in PROBERS.values():
            self.be_there(process_id)
        opened = replace(new_record(), state=State.OPEN, attempts=1)
        (made,) = self.store.compare_and_set([Move(name=NAME, expected=None, new=opened)])
        assert made.snapshot is not None
        self.snapshot: Snapshot = made.snapshot

    def be_there(self, process_id: str, *, since: float = 0.0) -> None:
        process = Process(process_id=process_id, host="h", pid=1, release="1", policies="")
        self.store.present(process)
        if since:
            entry = raw_client().hget(key_of_site("processes"), process_id).decode()
            at, _, rest = entry.partition(" ")
            earlier = f"{float(at) - since:.6f} {rest}"
            raw_client().hset(key_of_site("processes"), process_id, earlier)

    def vanish(self, letter: str) -> None:
        self.be_there(PROBERS[letter], since=FORGIVEN_SECONDS)

    def win(self, letter: str, number: int = 1) -> None:
        for _ in range(number):
            self._move(letter, grant_permit(self.snapshot))

    def give_back(self, letter: str) -> None:
        self._move(letter, return_permit(self.snapshot))

    def _move(self, letter: str, new: Snapshot) -> None:
        move = Move(name=NAME, expected=self.snapshot, new=new, prober=PROBERS.get(letter, ""))
        (made,) = self.store.compare_and_set([move])
        assert made.won
        assert made.snapshot is not None
        self.snapshot = made.snapshot

    def report(self, letter: str, **results: int) -> int:
        """Report and read as this process does; return the permits granted."""
        told = Report(
            name=NAME,
            generation=self.snapshot.generation,
            results=Results(**results),  # type: ignore[arg-type]
            prober=PROBERS.get(letter, ""),
        )
        snapshot = self.store.add([told]).snapshots[NAME]
        assert snapshot is not None
        self.snapshot = snapshot
        return snapshot.permits


@pytest.fixture
def round_() -> Round:
    return Round()


def test_the_permits_of_a_process_that_is_gone_are_forgiven(round_: Round) -> None:
    round_.win("a", 2)
    round_.win("b")
    assert round_.report("c") == 3
    round_.vanish("a")
    assert round_.report("c") == 1
    assert round_.report("c") == 1
    round_.store.withdraw(PROBERS["b"])  # as a clean end does
    assert round_.report("c") == 0


def test_a_silent_process_is_given_time(round_: Round) -> None:
    round_.win("a")
    round_.be_there(PROBERS["a"], since=FORGIVEN_SECONDS - 1)
    assert round_.report("b") == 1


def test_a_permit_whose_result_is_there_is_not_forgiven(round_: Round) -> None:
    round_.win("a", 2)
    round_.win("b")
    round_.report("a", slow_successes=1)
    round_.vanish("a")
    assert round_.report("b") == 2  # a's one result and b's probe, which is under way
    round_.report("b", slow_successes=1)
    round_.vanish("b")
    assert round_.report("c") == 2


def test_who_was_forgiven_has_nothing_to_give_back(round_: Round) -> None:
    round_.win("a")
    round_.vanish("a")
    round_.report("b")
    round_.win("b")
    round_.give_back("a")
    assert round_.snapshot.permits == 1
    round_.give_back("b")
    assert round_.snapshot.permits == 0


def test_a_late_result_of_who_was_forgiven_still_counts(round_: Round) -> None:
    round_.win("a")
    round_.vanish("a")
    round_.report("b")
    round_.win("b")
    assert round_.report("a", slow_successes=1) == 1
    assert round_.snapshot.counts.calls == 1


def test_a_process_never_forgives_itself(round_: Round) -> None:
    round_.win("a")
    round_.vanish("a")  # it was suspended, and has not told again yet
    assert round_.report("a") == 1


def test_nothing_is_forgiven_when_the_list_of_processes_is_lost(round_: Round) -> None:
    round_.win("a")
    raw_client().delete(key_of_site("processes"))
    assert round_.report("b") == 1
    raw_client().set(key_of_site("processes"), "x")
    assert round_.report("b") == 1


def test_permits_of_a_release_that_names_no_prober_go_on_as_before(round_: Round) -> None:
    round_.win("nameless", 2)
    round_.win("a")
    round_.vanish("a")
    assert round_.report("b") == 2
    round_.give_back("nameless")
    assert round_.report("nameless", slow_successes=1) == 1


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"x" * 100_000, b"a:9 " + b"1" * 500])
def test_a_damaged_list_of_probers_concerns_no_call(round_: Round, damage: bytes) -> None:
    round_.win("a")
    raw_client().hset(key_of(NAME), "probers", damage)
    round_.win("b")
    assert 0 <= round_.report("c") <= 2
    round_.report("a", failures=1)
    assert round_.snapshot.counts.failures == 1


def test_the_next_generation_knows_nothing_of_them(round_: Round) -> None:
    round_.win("a")
    assert raw_client().hexists(key_of(NAME), "probers")
    round_._move("", reset(round_.snapshot))
    assert raw_client().hkeys(key_of(NAME)) == [b"record"]


def test_an_old_round_that_has_lost_its_permits_begins_anew(round_: Round) -> None:
    round_.win("a")
    policy, young = BreakerPolicy(), round_.snapshot.entered_at + LIMIT / 2
    assert begin_round_anew(round_.snapshot, policy, young) == round_.snapshot
    round_.give_back("a")
    assert begin_round_anew(round_.snapshot, policy, young - 1) == round_.snapshot
    again = begin_round_anew(round_.snapshot, policy, young)
    assert (again.state, again.attempts) == (State.HALF_OPEN, 1)
    assert again.generation != round_.snapshot.generation


def test_a_probe_that_begins_late_in_a_round_has_all_its_time() -> None:
    breaker = another("late", failure_threshold=1, wait_duration_in_open_state=0.01)
    breaker.acquire().fail()
    breaker.engine.expire("late")
    while breaker.state != "open" or breaker.engine.retry_after(breaker.local_state):
        breaker.engine.expire("late")
    breaker.acquire().release()
    age_record(key_of("late"), LIMIT + 1)
    assert snapshot_of(breaker).permits == 0
    probe = breaker.acquire()
    assert snapshot_of(breaker).state is State.HALF_OPEN
    probe.succeed()
    assert snapshot_of(breaker).state is State.CLOSED


def test_a_forked_childs_copy_of_a_store_forgives_its_parents_permits() -> None:
    store = MemoryStore()
    opened = replace(new_record(), state=State.OPEN)
    (made,) = store.compare_and_set([Move(name=NAME, expected=None, new=opened)])
    assert made.snapshot is not None
    store.compare_and_set(
        [Move(name=NAME, expected=made.snapshot, new=grant_permit(made.snapshot))]
    )
    store.after_fork()
    child = store.load_many([NAME]).snapshots[NAME]
    assert child is not None
    assert (child.state, child.permits) == (State.HALF_OPEN, 0)


@pytest.mark.present
def test_the_engine_names_itself_as_the_prober() -> None:
    breaker = another("named", failure_threshold=1, wait_duration_in_open_state=0.01)
    breaker.acquire().fail()
    while True:
        try:
            probe = breaker.acquire()
            break
        except CircuitOpenError:
            continue
    listed = raw_client().hget(key_of("named"), "probers")
    assert listed.decode() == f"{breaker.engine.presence.process_id}:1"
    probe.release()
    snapshot_of(breaker)
    assert not raw_client().hexists(key_of("named"), "probers")


def test_an_opening_holds_though_another_process_has_won_a_permit_meanwhile():
    policy = {
        "failure_threshold": 1,
        "wait_duration_in_open_state": 0.05,
        "permitted_number_of_calls_in_half_open_state": 3,
    }
    one, store = another("pair", **policy), RedisStore("breakers")
    one.acquire().fail()
    assert one.engine.report_all(10)
    time.sleep(0.1)
    first = one.acquire()
    snapshot = one.local_state.snapshot
    granted = Move(name="pair", expected=snapshot, new=grant_permit(snapshot), prober=PROBERS["b"])
    assert store.compare_and_set([granted])[0].won
    move = RedisStore.compare_and_set
    with patch.object(RedisStore, "compare_and_set", autospec=True, side_effect=move) as moved:
        first.fail()
        assert one.engine.report_all(10)
    assert moved.call_count <= 2
    assert state_now(one) == "open"
