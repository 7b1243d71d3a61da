"""What is due next, while callers and other threads change what there is to do."""

import time
from collections.abc import Callable

import pytest

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.schedule import Schedule
from analytics_admin.breakers.state import Snapshot, State


class Disturbing(LocalState):
    """A breaker in the midst of whose look another thread does something."""

    disturb: Callable[[], object] = staticmethod(lambda: None)

    def last_used_at(self) -> float:
        self.disturb()
        return super().last_used_at()


@pytest.fixture
def states() -> dict[str, LocalState]:
    return {name: LocalState(name, BreakerPolicy()) for name in ("b", "c")}


@pytest.mark.parametrize("gets_pushes", [False, True])
@pytest.mark.parametrize("what", ["another comes into use", "the store is lost"])
def test_a_turn_survives_what_happens_in_its_middle(states, gets_pushes, what):
    schedule = Schedule(states, lambda: 0.0)
    schedule.gets_pushes = gets_pushes
    states["a"] = first = Disturbing("a", BreakerPolicy())
    for state in states.values():
        state.is_followed = True
    if what == "the store is lost":
        first.disturb = schedule.clear
    else:
        first.disturb = lambda: schedule.follow(states["c"])
    first.used_at = time.monotonic()
    schedule.follow(first)
    schedule.follow(states["b"])
    schedule.judge_run("a", 0.0)
    schedule.judge_run("of a breaker that is forgotten", 0.0)
    schedule.report_successes(["a"])
    assert "a" in schedule.take_due([])
    assert schedule.end_turn() <= float("inf")


def test_further_questions_do_not_put_an_answer_off(states):
    schedule = Schedule(states, lambda: 3600.0)
    state = states["b"]
    state.is_followed, state.newest_success = True, time.monotonic()
    schedule.follow(state)
    schedule.take_due([])
    until = time.monotonic() + 0.5
    while not (due := schedule.take_due([])) and time.monotonic() < until:
        schedule.report_successes(["b"])
        time.sleep(0.01)
    assert list(due) == ["b"]


@pytest.mark.parametrize("asked_at", [9.0, 11.0])
def test_a_first_reading_that_a_push_has_overtaken_still_sets_the_clock(asked_at):
    state = LocalState("a", BreakerPolicy())
    opened = Snapshot(generation="x:2", state=State.OPEN, entered_at=100.0, wait=60.0)
    assert state.apply_push(opened, 100.5, 10.0)
    state.read(Snapshot(generation="x:1"), 100.9, 12.0, asked_at=asked_at)
    assert (state.snapshot is opened) is (asked_at < 10.0)
    assert state.store_time(12.0) == 100.9


def test_a_breaker_at_rest_loses_no_success_of_a_thread_that_was_held_up():
    state = LocalState("a", BreakerPolicy())
    state.read(Snapshot(generation="x:1"), 100.0, 10.0)
    counter = state.counter
    state.roll(11.5)
    assert state.counter is not counter
    next(counter)  # by a thread that looked before the second was over
    state.rest()
    assert state.report().results.successes == ((100, 1),)
    state.rest()
    assert not state.report().results.successes
