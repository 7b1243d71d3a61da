"""What races across processes: trips hold, late results change nothing, each move is made once."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker, control
from analytics_admin.breakers.permit import Permit
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Snapshot, State
from analytics_admin.signals import breaker_state_changed
from tests.support.crew import Crew
from tests.support.sites import eventually

PROCESSES = 4
TRIALS = 50
ROUNDS = 20

_held: dict[str, Permit] = {}
_signals: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        for worker in crew.workers:
            worker.ask(note_signals)
        yield crew


def breaker(name: str, **policy: Any) -> CircuitBreaker:
    return circuit_breaker(name, **{"wait_duration_in_open_state": 600, **policy})


def snapshot(name: str) -> Snapshot:
    found = operator_store().load_many([name]).snapshots[name]
    assert found is not None
    return found


def moves(name: str) -> list[tuple[str, str]]:
    return [(move.from_state, move.to_state) for move in operator_store().transitions(name)]


# A trip in one process while others go on succeeding.


def succeed_for(seconds: float, names: list[str]) -> int:
    """Call all breakers at random from several threads; return how many calls succeeded."""
    calls = [breaker(name)(time.sleep) for name in names]
    until, succeeded = time.monotonic() + seconds, []

    def go_on() -> None:
        while time.monotonic() < until:
            with suppress(CircuitOpenError):
                random.choice(calls)(0.002)
                succeeded.append(1)

    threads = [threading.Thread(target=go_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(succeeded)


def fail_until_open(names: list[str]) -> None:
    for name in names:
        with suppress(CircuitOpenError):
            while True:
                breaker(name).acquire().fail()


def state_of(name: str) -> str:
    return breaker(name).state


def test_a_trip_holds_while_three_processes_go_on_succeeding(crew: Crew) -> None:
    names = [f"held-{trial}" for trial in range(TRIALS)]
    *healthy, failing = crew.workers
    for worker in healthy:
        worker.tell(succeed_for, 4.0, names)
    time.sleep(0.5)
    failing.ask(fail_until_open, names)
    assert all(worker.answer() > 100 for worker in healthy)
    assert [moves(name) for name in names] == [[("closed", "open")]] * TRIALS
    assert [snapshot(name).state for name in names] == [State.OPEN] * TRIALS
    for worker in crew.workers:
        assert worker.ask(state_of, names[0]) == "open"


# What began under an earlier generation.


def begin(name: str) -> None:
    _held[name] = breaker(name, failure_threshold=1, wait_duration_in_open_state=0.01).acquire()


def fail_what_began(name: str) -> None:
    _held.pop(name).fail(ConnectionError())


def succeed_what_began(name: str) -> None:
    _held.pop(name).succeed()


def trip(name: str) -> None:
    begin(name)
    fail_what_began(name)


def probe_until_it_passes(name: str) -> None:
    while True:
        try:
            return begin(name)
        except CircuitOpenError:
            time.sleep(0.01)


def reset(name: str) -> None:
    control.reset([name], only_open=False)


MEANWHILE = {
    "reset": [reset],
    "trip": [trip],
    "trip, reset": [trip, reset],
    "trip, probe": [trip, probe_until_it_passes],
    "trip, probe, close": [trip, probe_until_it_passes, succeed_what_began],
}


@pytest.mark.parametrize("end", [fail_what_began, succeed_what_began])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_call_that_began_in_an_earlier_generation_changes_nothing(
    crew: Crew, meanwhile: str, end: Any
) -> None:
    slow, other, *_ = crew.workers
    name = f"{end.__name__}:{meanwhile}".replace(", ", "-")
    slow.ask(begin, name)
    for step in MEANWHILE[meanwhile]:
        other.ask(step, name)
    before = snapshot(name), moves(name)
    slow.ask(end, name)
    slow.ask(flush)
    assert (snapshot(name), moves(name)) == before


def flush() -> None:
    from analytics_admin.breakers.runtime import engine, signal_sender

    engine.flush()
    signal_sender.drain(10)


# Each transition is recorded once, and signalled once.


def note_signals() -> None:
    breaker_state_changed.connect(_note, weak=False)


def _note(name: str, from_state: str, to_state: str, **_: object) -> None:
    _signals.append((name, from_state, to_state))


def signals_of(name: str) -> list[tuple[str, str]]:
    return [(old, new) for noted, old, new in _signals if noted == name]


def fail_in_threads(name: str) -> None:
    permits = [breaker(name).acquire() for _ in range(8)]
    threads = [threading.Thread(target=permit.fail) for permit in permits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_trip_that_many_bring_about_is_recorded_and_signalled_once(crew: Crew) -> None:
    for number in range(ROUNDS):
        name = f"raced-{number}"
        crew.ask_all(state_of, name)
        crew.ask_all(fail_in_threads, name)
        assert eventually(lambda name=name: moves(name))
        crew.ask_all(flush)  # the signals, too
        assert moves(name) == [("closed", "open")]
        signals = [signal for worker in crew.workers for signal in worker.ask(signals_of, name)]
        assert signals == [("closed", "open")]
