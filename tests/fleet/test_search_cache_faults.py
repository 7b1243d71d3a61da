"""Whatever becomes of the store, a search in a process of the site is answered, and quickly."""

import pytest

from tests.support.breaker_faults import FAULTS, Fault
from tests.support.search_cache_faults import Account, suffer

pytestmark = pytest.mark.hurried

LIMIT = 0.15
"""Seconds that an outage may cost a process' calls."""
SLACK = 0.15
"""Seconds that a busy machine may take for its own."""
DRAGGING = "replies late by 50 ms"
DRAGS = 0.25
"""Seconds more where each answer is just about as late as is borne: calls that overlap are charged
to the patience but once, however long the longest of them takes."""


@pytest.fixture(scope="module", params=FAULTS, ids=lambda fault: fault.name)
def suffered(request: pytest.FixtureRequest) -> tuple[Fault, Account]:
    return request.param, suffer(request.param)


def test_searches_wait_briefly_and_meet_no_error_but_the_backends(suffered):
    fault, seen = suffered
    limit = LIMIT + SLACK + (DRAGS if fault.name == DRAGGING else 0)
    assert seen.wrong == []
    assert sum(seen.calls) < limit
    assert max(seen.by_threads) < limit
    assert max(seen.in_herd) < limit
    assert max(seen.by_new_process) < limit


def test_tasks_wait_briefly_and_the_event_loop_not_at_all(suffered):
    _, seen = suffered
    assert max(seen.by_tasks) < 2 * LIMIT + SLACK
    assert seen.loop_lag < LIMIT / 2


def test_a_loss_is_told_once_and_the_cache_comes_back(suffered):
    fault, seen = suffered
    assert len(seen.logged) == fault.noticed
    assert seen.came_back


def test_operators_clears_say_what_is_wrong(suffered):
    fault, seen = suffered
    if fault.name == "too many connections":  # one that the searches gave up may be had
        assert seen.act in {fault.act, "done"}
    elif fault.act:
        assert seen.act == fault.act
