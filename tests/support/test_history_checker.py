"""The checker of histories finds each broken promise, and nothing in a history that keeps all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.history.checker import Promises, Violation, check
from tests.support.history.events import (
    FAILURE,
    REJECTED,
    SUCCESS,
    Away,
    Call,
    Disturbance,
    Event,
    Life,
    LocalTransition,
    Operation,
    Record,
    Reported,
    Transition,
)

PROMISES = Promises(threshold=5, permitted=3, wait=1.0)
NAME = "alpha"
History = list[Event]


def call(at: float, outcome: str = SUCCESS, process: str = "one", **more: Any) -> History:
    """Return a call of 10 ms, which is reported at once."""
    ended = Call(
        process=process, thread=0, name=NAME, began=at, ended=at + 0.01, outcome=outcome, **more
    )
    reported = Reported(process=process, thread=0, at=at + 0.011)
    return [ended] if outcome == REJECTED else [ended, reported]


def calls(since: float, until: float, outcome: str = SUCCESS, **more: Any) -> History:
    """Return calls of two processes in turns, each 50 ms."""
    number = round((until - since) / 0.05)
    return [
        event
        for each in range(number)
        for event in call(since + each * 0.05, outcome, ("one", "two")[each % 2], **more)
    ]


def transition(at: float, from_state: str, to_state: str, cause: str) -> Transition:
    return Transition(
        name=NAME, attempt=str(at), from_state=from_state, to_state=to_state, cause=cause, at=at
    )


def record(at: float, label: str, generation: str, **more: Any) -> Record:
    return Record(name=NAME, began=at, ended=at + 0.01, label=label, generation=generation, **more)


def operation(kind: str, at: float, **more: Any) -> Operation:
    return Operation(kind=kind, name=NAME, began=at, ended=at + 0.01, **more)


def alone(at: float, outcome: str) -> History:
    """Return a call of the process that is without the store for a while."""
    generation = "" if outcome == REJECTED else "g1"
    return call(at, outcome, "two", had_store=False, generation=generation)


def good_history() -> History:
    """A run, a trip, probes, a hold and a reset; one process is without the store for a while."""
    return [
        Life(process="one", began=0.0, ended=9.0),
        Life(process="two", began=0.0, ended=9.0),
        record(0.0, "closed", "g1"),
        *calls(0.1, 0.9, generation="g1"),
        Away(process="two", began=0.9, ended=1.4),
        *[event for each in range(5) for event in alone(0.95 + each * 0.02, FAILURE)],
        LocalTransition(process="two", name=NAME, from_state="closed", to_state="open", at=1.07),
        *alone(1.2, REJECTED),
        *calls(1.9, 2.4, generation="g1"),
        record(2.45, "closed", "g1", calls=26),
        *calls(2.5, 2.75, FAILURE, generation="g1"),
        transition(3.1, "closed", "open", "consecutive_failures"),
        *calls(3.1, 3.9, REJECTED),
        record(3.5, "open", "g2"),
        transition(4.1, "open", "half_open", "wait_over"),
        *calls(4.11, 4.26, is_probe=True, generation="g3"),
        transition(4.3, "half_open", "closed", "probes_succeeded"),
        *calls(4.8, 5.0, generation="g4"),
        operation("forced_open", 5.0, replaced="g4"),
        transition(5.005, "closed", "forced_open", "control"),
        record(5.2, "forced_open", "g5"),
        *calls(5.1, 5.9, REJECTED),
        operation("reset", 6.0, replaced="g5"),
        transition(6.005, "forced_open", "closed", "reset"),
        record(6.1, "closed", "g6"),
        *calls(6.5, 8.0, generation="g6"),
        record(9.0, "closed", "g6", calls=30, is_final=True),
    ]


def broken(history: History) -> list[Violation]:
    return check(history, PROMISES).violations


def with_more(*more: Event) -> History:
    return [*good_history(), *more]


def without(is_gone: Callable[[Event], bool]) -> History:
    return [event for event in good_history() if not is_gone(event)]


def changed(kind: type[Any], when: float, **changes: Any) -> History:
    """Return the history with the event of that kind and beginning changed."""
    return [
        replace(event, **changes)
        if isinstance(event, kind) and getattr(event, "began", getattr(event, "at", None)) == when
        else event
        for event in good_history()
    ]


def is_failure(event: Event) -> bool:
    return isinstance(event, Call) and event.outcome == FAILURE and event.had_store


BAD = {
    "a call passes an open breaker": (
        with_more(*call(3.7, generation="g1")),
        "the record is obeyed",
    ),
    "a call passes a hold that was acknowledged": (
        with_more(*call(5.7, generation="g4")),
        "an acknowledged operation binds",
    ),
    "a call is rejected long after a reset": (
        with_more(*call(7.0, REJECTED)),
        "an acknowledged operation binds",
    ),
    "a call is rejected by a closed breaker": (
        with_more(*call(2.3, REJECTED)),
        "rejections are on record",
    ),
    "a fourth probe passes in one round": (
        with_more(*call(4.27, is_probe=True, generation="g3")),
        "probes are few",
    ),
    "four failures open it": (
        without(lambda event: is_failure(event) and event.began == 2.5),
        "openings are justified",
    ),
    "a success was between the failures": (
        with_more(*call(2.58, generation="g1")),
        "openings are justified",
    ),
    "a success ended the run": (
        with_more(*call(2.73, generation="g1")),
        "openings are justified",
    ),
    "failures of another generation open it": (
        [
            replace(event, generation="g0") if is_failure(event) and event.began > 2.6 else event
            for event in good_history()
        ],
        "openings are justified",
    ),
    "the failures of an earlier opening open it again": (
        with_more(transition(8.1, "closed", "open", "consecutive_failures")),
        "openings are justified",
    ),
    "no probe failed": (
        with_more(
            transition(8.1, "half_open", "open", "probe_failed"),
        ),
        "openings are justified",
    ),
    "more is counted than was done": (
        changed(Record, 2.45, calls=27),
        "nothing is counted twice",
    ),
    "failures are counted that were none": (
        changed(Record, 2.45, failures=6),
        "nothing is counted twice",
    ),
    "less is counted in the end": (
        changed(Record, 9.0, calls=29),
        "nothing is lost",
    ),
    "a step is left out": (
        without(lambda event: isinstance(event, Transition) and event.at == 4.1),
        "transitions are legal",
    ),
    "a cause is not that of the step": (
        changed(Transition, 4.3, cause="wait_over"),
        "transitions are legal",
    ),
    "time goes back": (
        changed(Transition, 4.3, at=4.05),
        "time goes on",
    ),
    "it does not wait": (
        changed(Transition, 4.1, at=3.9),
        "an open breaker waits",
    ),
    "a hold is lost": (
        changed(Record, 5.2, label="closed"),
        "an acknowledged operation is on record",
    ),
    "a reset is lost": (
        changed(Record, 6.1, generation="g5"),
        "an acknowledged operation is on record",
    ),
    "a process alone rejects without a reason": (
        [
            replace(event, outcome=SUCCESS) if isinstance(event, Call) and not event.had_store
            and event.outcome == FAILURE else event
            for event in without(lambda event: isinstance(event, LocalTransition))
        ],
        "a lonely process walks by itself",
    ),
    "a process alone lets calls pass a hold": (
        with_more(
            Away(process="two", began=5.85, ended=5.99),
            *call(5.9, SUCCESS, "two", had_store=False, generation="g5"),
        ),
        "a lonely process walks by itself",
    ),
    "a process alone takes a step that is none": (
        changed(LocalTransition, 1.07, to_state="half_open"),
        "a lonely process walks by itself",
    ),
}  # fmt: skip


def test_nothing_is_found_in_a_good_history():
    verdict = check(good_history(), PROMISES)
    assert verdict.violations == []
    assert verdict.checked["passes"] > 30
    assert verdict.checked["rejections"] > 20
    assert verdict.checked["final counts"] == verdict.checked["openings"] == 1


@pytest.mark.parametrize(("history", "rule"), BAD.values(), ids=BAD)
def test_each_broken_promise_is_found(history: History, rule: str) -> None:
    assert rule in {violation.rule for violation in broken(history)}


EXCUSED = {
    "its process had been stopped": Disturbance(
        process="one", began=3.0, ended=3.69, what="stopped"
    ),
    "the store stood still": Disturbance(process="", began=3.0, ended=3.69, what="stall"),
    "nobody knows what was on record": Disturbance(
        process="", began=3.0, ended=3.6, what="restart", loses_data=True
    ),
}


@pytest.mark.parametrize("excuse", EXCUSED.values(), ids=EXCUSED)
def test_a_call_may_pass_an_open_breaker_where(excuse: Disturbance) -> None:
    late = call(3.7, generation="g1")
    assert "the record is obeyed" not in {it.rule for it in broken(with_more(*late, excuse))}


def test_a_success_that_a_killed_process_never_reported_ends_no_run() -> None:
    lost = call(2.58, process="three", generation="g1")[:1]
    killed = Life(process="three", began=0.0, ended=2.6, was_killed=True)
    assert broken(with_more(*lost, killed)) == []
