"""Circuit breakers for a site's tests: in memory, on a clock that the test moves, without a server.

With pytest, put ``pytest_plugins = ["analytics_admin.testing"]`` into the root conftest.py and use
the fixture ``breakers``. Elsewhere use ``simulated_breakers``.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Protocol, cast
from unittest.mock import patch

from analytics_admin.breakers import (
    BreakerPolicy,
    breaker,
    control,
    engine,
    get_breaker,
    permit,
    runtime,
    sync,
)
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Snapshot, State, StateChange, Transition
from analytics_admin.breakers.state_machine import display_state, due_transition, new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.breakers.stores.memory import MemoryStore

TICK = 1e-6
"""Seconds that pass at each reading of the clock, so that instants differ."""


class Clock(Protocol):
    """The clock that the engine needs."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds since some fixed instant."""


class SimulatedClock:
    """A clock that begins now and, except for ticks, moves only by ``advance``."""

    def __init__(self) -> None:
        self._ticks = count()
        self._now = time.time()
        self._ahead = self._now - time.monotonic()

    def time(self) -> float:
        return self._now + next(self._ticks) * TICK

    def monotonic(self) -> float:
        return self.time() - self._ahead

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now += seconds


class SimulatedBreakers:
    """Every breaker of this process, closed until calls or the test change it."""

    def __init__(self, clock: SimulatedClock, store: MemoryStore) -> None:
        self._clock = clock
        self._store = store

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward without waiting. Within a protected call, this makes it slow.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self._clock.advance(seconds)

    def trip(self, name: str) -> None:
        """Open the breaker for the wait of its policy, as failures would; end any hold.

        Raises:
            LookupError: neither the code nor the settings declare it.
        """
        policy = get_breaker(name).policy
        won = False
        while not won:
            reading = self._store.load_many([name])
            before = reading.snapshots[name]
            old = before or new_record()
            due = _tripped(old, policy)
            attempt = secrets.token_hex(8)
            move = Move(name=name, expected=before, new=due.new, cause=due.cause, attempt=attempt)
            won = self._store.compare_and_set([move])[0].won
        from_state, to_state = display_state(old, reading.now), due.new.state.value
        if from_state != to_state:
            runtime.announce(
                StateChange(name=name, from_state=from_state, to_state=to_state, cause=due.cause)
            )

    def heal(self, name: str) -> None:
        """Close the breaker and drop its counts, as an operator's reset does.

        Raises:
            LookupError: neither the code nor the settings declare it.
        """
        control.reset([get_breaker(name).name], only_open=False)


@contextmanager
def simulated_breakers() -> Iterator[SimulatedBreakers]:
    """Make every breaker of this process begin closed, in memory, until the block ends.

    Afterwards each is as before. Meanwhile neither calls nor operations use the store of the
    settings, and no thread is started.
    """
    clock = SimulatedClock()
    store = MemoryStore(clock.time)
    simulated = _idle_engines.pop() if _idle_engines else _SimulatedEngine()
    simulated.begin(store)
    with ExitStack() as undo:
        undo.callback(_idle_engines.append, simulated)
        undo.enter_context(engine_time(clock))
        for name in ("call_store", "operator_store"):
            undo.enter_context(patch.object(runtime, name, lambda: store))
        undo.callback(runtime.use_engine, runtime.engine)
        runtime.use_engine(simulated)
        yield SimulatedBreakers(clock, store)


@contextmanager
def engine_time(clock: Clock) -> Iterator[None]:
    """Make the breakers of this process use another clock until the block ends.

    The engine reads the time through names of its modules: that is faster than an attribute.
    """
    with ExitStack() as undo:
        for module in (engine, sync):
            undo.enter_context(patch.object(module, "time", clock))
        for module in (breaker, permit):
            undo.enter_context(patch.object(module, "clock", clock.monotonic))
        yield


class _SimulatedEngine(Engine):
    """Synchronises at every call, and evaluates rates at once: there is no other process."""

    def __init__(self) -> None:
        super().__init__(lambda: self._store, runtime.announce)

    def begin(self, store: MemoryStore) -> None:
        """Start afresh with this store."""
        self._store = store
        self.reconnect()
        self.access.run_if_available(lambda store: None)  # connects in this thread

    def local_state(self, name: str, policy: BreakerPolicy) -> LocalState:
        state = super().local_state(name, policy)
        self.interval = 0.0
        return state


# An engine registers itself with the interpreter for good, so engines are reused.
_idle_engines: list[_SimulatedEngine] = []


def _tripped(before: Snapshot, policy: BreakerPolicy) -> Transition:
    """Return the opening that a failure causes in the breaker, released from any hold."""
    failed = replace(before, state=State.CLOSED, hold=None, consecutive_failures=1)
    strict = replace(policy, failure_threshold=1)
    return cast("Transition", due_transition(failed, strict, now=0.0, settling=0.0))  # it is due


try:
    import pytest
except ImportError:  # other test runners use simulated_breakers
    pass
else:

    @pytest.fixture
    def breakers() -> Iterator[SimulatedBreakers]:
        """Every breaker of this process, in memory, on a clock that the test moves."""
        with simulated_breakers() as simulated:
            yield simulated
