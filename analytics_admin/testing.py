"""Circuit breakers for a site's own tests: in memory, on a clock that the test moves, no server.

With pytest, ``pytest_plugins = ["analytics_admin.testing"]`` in the root conftest.py offers the
fixture ``breakers``; elsewhere use ``simulated_breakers``. Running sites have no use for this.
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
    protection,
    registry,
    rounds,
    runtime,
    sync,
)
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Snapshot, State, Transition
from analytics_admin.breakers.state_machine import display_state, due_transition, new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.sync import StateChange

TICK = 1e-6
"""Seconds that pass at each look at the clock: what comes later is later."""


class Clock(Protocol):
    """What the engine wants of a clock."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds since any instant."""


class SimulatedClock:
    """Begins now; but for ticks it stands still until it is told to go on."""

    def __init__(self) -> None:
        self._ticks = count()
        self._now = time.time()
        self._ahead = self._now - time.monotonic()

    def time(self) -> float:
        return self._now + next(self._ticks) * TICK

    def monotonic(self) -> float:
        return self.time() - self._ahead

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += seconds


class SimulatedBreakers:
    """Every breaker of this process, closed until calls or the test move it."""

    def __init__(self, clock: SimulatedClock, store: MemoryStore) -> None:
        self._clock = clock
        self._store = store

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass without waiting; within a protected call, make it a slow one.

        Raises:
            ValueError: time does not run backward.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not seconds >= 0:
            raise ValueError(f"time does not run backward, by {seconds} seconds")
        self._clock.advance(seconds)

    def trip(self, name: str) -> None:
        """Open the breaker for the wait of its policy, as failures would; an operator's hold ends.

        Raises:
            LookupError: neither code nor settings declare it.
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
        """Close the breaker and forget its failures, as an operator's reset does.

        Raises:
            LookupError: neither code nor settings declare it.
        """
        control.reset([get_breaker(name).name], only_open=False)


@contextmanager
def simulated_breakers() -> Iterator[SimulatedBreakers]:
    """Have every breaker of this process begin closed, in memory, until the block ends.

    Afterwards each is what it was before. The store of the settings is not asked meanwhile, be it
    by calls or by operators' acts; no threads are started and nothing is waited for.
    """
    clock = SimulatedClock()
    store = MemoryStore(clock.time)
    simulated = _idle_engines.pop() if _idle_engines else _SimulatedEngine()
    simulated.begin(store)
    with ExitStack() as undo:
        undo.callback(_idle_engines.append, simulated)
        undo.enter_context(engine_time(clock))
        for way in ("connect", "operator_store"):
            undo.enter_context(patch.object(runtime, way, lambda: store))
        undo.callback(registry.use_engine, runtime.fleet)
        registry.use_engine(simulated)
        yield SimulatedBreakers(clock, store)


@contextmanager
def engine_time(clock: Clock) -> Iterator[None]:
    """Have the breakers of this process go by another clock until the block ends.

    The engine reads the time by names of its modules, which costs a call less than an attribute.
    """
    with ExitStack() as undo:
        for module in (engine, sync, rounds):
            undo.enter_context(patch.object(module, "time", clock))
        for module in (breaker, permit, protection):
            undo.enter_context(patch.object(module, "clock", clock.monotonic))
        yield


class _SimulatedEngine(Engine):
    """Asks the store at every call: what one call did, the next one sees, and rates count at once.

    With no other process there is nothing to wait for.
    """

    def __init__(self) -> None:
        super().__init__(lambda: self._store, runtime.announce)

    def begin(self, store: MemoryStore) -> None:
        """Forget everything and use this store."""
        self._store = store
        self.reconnect()
        self.link.run_if_available(lambda store: None)  # connects in this thread

    def view(self, name: str, policy: BreakerPolicy) -> LocalState:
        view = super().view(name, policy)
        self.interval = 0.0
        return view


# A fleet registers itself with the interpreter for good, so each is used again.
_idle_engines: list[_SimulatedEngine] = []


def _tripped(before: Snapshot, policy: BreakerPolicy) -> Transition:
    """Return what one failure too many makes of the breaker, released from any hold."""
    failed = replace(before, state=State.CLOSED, hold=None, consecutive_failures=1)
    strict = replace(policy, failure_threshold=1)
    return cast("Transition", due_transition(failed, strict, now=0.0, settling=0.0))  # it is due


try:
    import pytest
except ImportError:  # other test runners use the context manager
    pass
else:

    @pytest.fixture
    def breakers() -> Iterator[SimulatedBreakers]:
        """Every breaker of this process, in memory, on a clock that the test moves."""
        with simulated_breakers() as simulated:
            yield simulated
