"""What is due next, while callers and other threads change what there is to do."""

import time
from collections.abc import Callable

import pytest

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.schedule import Schedule


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
