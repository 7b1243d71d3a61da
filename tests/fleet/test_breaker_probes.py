"""However many processes and threads want to probe, the permitted probes pass and no more."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker
from analytics_admin.breakers.permit import Permit
from analytics_admin.breakers.presence import FORGIVEN_SECONDS
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Snapshot, State
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from tests.support.crew import Crew, sleep_until
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually
from tests.support.stored_breakers import key_of, key_of_site, raw_client

PROCESSES = 4
THREADS = 8
ROUNDS = 20

_held: dict[str, list[Permit]] = {}
"""The probes that a process holds; never reported unless the test says so."""


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        yield crew


def breaker(name: str, permits: int, half_open_wait: float = 60) -> CircuitBreaker:
    return circuit_breaker(
        name,
        permitted_number_of_calls_in_half_open_state=permits,
        max_wait_duration_in_half_open_state=half_open_wait,
    )


def open_for(name: str, seconds: float) -> float:
    """Open the breaker in the store; return the monotonic instant at which the wait is over."""
    opened = replace(new_record(), state=State.OPEN, wait=seconds, attempts=1)
    assert operator_store().compare_and_set([Move(name=name, expected=None, new=opened)])[0].won
    return time.monotonic() + seconds


def snapshot(name: str) -> Snapshot:
    found = operator_store().load_many([name]).snapshots[name]
    assert found is not None
    return found


def probe_from(instant: float, name: str, permits: int) -> int:
    """Have every thread try until it may probe or others hold all permits; return how many may."""
    protected, passed = breaker(name, permits), []
    assert protected.state != "closed"  # a first call of a process that has not heard yet may pass
    sleep_until(instant - 0.01)

    def attempt() -> None:
        while True:
            try:
                passed.append(protected.acquire())
            except CircuitOpenError as refusal:
                if refusal.state == "open" or refusal.retry_after == 0:
                    continue
            return

    threads = [threading.Thread(target=attempt) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _held[name] = passed
    return len(passed)


def end_probes(name: str) -> None:
    for permit in _held.pop(name):
        permit.succeed()


def declare(name: str, permits: int) -> None:
    breaker(name, permits)


def hold_one_probe(name: str, half_open_wait: float) -> None:
    _held[name] = [breaker(name, 1, half_open_wait).acquire()]


@pytest.mark.parametrize("permits", [1, 3, 10])
def test_when_the_open_time_ends_exactly_the_permitted_probes_pass(
    crew: Crew, permits: int
) -> None:
    for number in range(ROUNDS):
        name = f"probed-{permits}-{number}"
        crew.ask_all(declare, name, permits)
        instant = open_for(name, 0.1)
        assert sum(crew.ask_all(probe_from, instant, name, permits)) == permits
        assert snapshot(name).permits == permits
        crew.ask_all(end_probes, name)
        assert snapshot(name).state is State.CLOSED
        moves = [(move.from_state, move.to_state) for move in operator_store().transitions(name)]
        assert moves == [("half_open", "closed"), ("open", "half_open")]


def test_a_prober_killed_with_9_has_failed_after_the_half_open_wait() -> None:
    with Crew(2) as crew:
        prober, other = crew.workers
        sleep_until(open_for("forgiven", 0.01))
        prober.ask(hold_one_probe, "forgiven", 1.0)
        prober.kill()
        killed_at = snapshot("forgiven")
        assert (killed_at.state, killed_at.permits) == (State.HALF_OPEN, 1)
        refused = other.ask(seconds_until_a_probe_passes, "forgiven", 1.0)
        assert 0 < refused <= 1.0
        assert snapshot("forgiven").state is State.CLOSED


def test_48_threads_win_each_of_100_permits_once_from_a_store_that_takes_its_time(
    settings: Any,
) -> None:
    with StoreServer() as server, Proxy(server.socket_path) as proxy:
        alias = {**settings.CACHES["breakers"], "LOCATION": proxy.url}
        settings.CACHES = {**settings.CACHES, "breakers": alias}
        protected = breaker("hundred", 100)
        instant = open_for("hundred", 0.3)
        assert protected.state == "open"
        proxy.delay = 0.002
        sleep_until(instant)
        won, ends_at = [], time.monotonic() + 1.0

        def attempt() -> None:
            while time.monotonic() < ends_at:
                try:
                    won.append(protected.acquire())
                except CircuitOpenError:
                    time.sleep(0.005)

        threads = [threading.Thread(target=attempt) for _ in range(48)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 100
        assert snapshot("hundred").permits == 100
        for permit in won:
            permit.release()


def test_a_dead_probers_permit_serves_another_process_under_the_default_policy() -> None:
    with Crew(3) as crew:
        killed, ended, other = crew.workers
        names = ["killed", "ended"]
        instants = [open_for(name, 0.01) for name in names]
        sleep_until(max(instants))
        killed.ask(hold_one_probe, "killed", 60.0)
        ended.ask(hold_one_probe, "ended", 60.0)
        assert [other.ask(seconds_until_it_passes, name, 0.5) for name in names] == [None, None]
        ended.leave()
        at_once = other.ask(seconds_until_it_passes, "ended", 10.0)
        assert at_once is not None
        assert at_once < 2.0
        killed.kill()
        assert other.ask(seconds_until_it_passes, "killed", 0.5) is None
        last_heard_of(probers_of("killed"), seconds_ago=FORGIVEN_SECONDS)
        forgiven = other.ask(seconds_until_it_passes, "killed", 10.0)
        assert forgiven is not None
        assert forgiven < 2.0
        assert [snapshot(name).state for name in names] == [State.CLOSED, State.CLOSED]


def probers_of(name: str) -> list[str]:
    listed = raw_client().hget(key_of(name), "probers").decode()
    return [prober.partition(":")[0] for prober in listed.split(" ")]


def last_heard_of(process_ids: list[str], *, seconds_ago: float) -> None:
    """Move time on for processes that tell nothing more."""
    client, key = raw_client(), key_of_site("processes")
    for process_id in process_ids:
        at, _, rest = client.hget(key, process_id).decode().partition(" ")
        client.hset(key, process_id, f"{float(at) - seconds_ago:.6f} {rest}")


def seconds_until_it_passes(name: str, patience: float) -> float | None:
    """Call until a call passes; return how long that took, or None if it took too long."""
    protected, began = breaker(name, 1), time.monotonic()
    while time.monotonic() - began < patience:
        with suppress(CircuitOpenError):
            protected.call(int)
            return time.monotonic() - began
        time.sleep(0.02)
    return None


def seconds_until_a_probe_passes(name: str, half_open_wait: float) -> float:
    """Return for how long a rejected caller was told to wait; then probe, and succeed.

    The probe that never reported is a failed one, so that another wait lies before this one.
    """
    protected = circuit_breaker(
        name,
        max_wait_duration_in_half_open_state=half_open_wait,
        wait_duration_in_open_state=0.01,
    )
    with pytest.raises(CircuitOpenError) as refusal:
        protected.acquire()
    assert refusal.value.state == "half_open"
    time.sleep(refusal.value.retry_after + 0.01)
    assert eventually(lambda: protected.state == "open")
    assert eventually(lambda: protected.engine.retry_after(protected.local_state) == 0)
    protected.acquire().succeed()
    assert protected.engine.report_all(10)
    return refusal.value.retry_after
