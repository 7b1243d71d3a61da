"""Circuit breakers in memory: those of one process, or of a fleet of processes."""

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Literal, Self, cast
from unittest.mock import patch

from analytics_admin.breakers import (
    BreakerPolicy,
    breaker,
    engine,
    get_breaker,
    judging,
    outage,
    permit,
    presence,
    probes,
    runtime,
    schedule,
    sync,
    turn,
)
from analytics_admin.breakers.control import reset, set_control
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import (
    Control,
    Snapshot,
    StateChange,
    StoreChange,
    Transition,
)
from analytics_admin.breakers.state_machine import display_state, due_transition, new_record
from analytics_admin.breakers.stores.base import MAX_NAMES, BreakerStore, Move
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.stores.client import explain_error
from analytics_admin.testing.clock import SimulatedClock, shared_clock

Announce = Callable[[StateChange | StoreChange], None]

OPERATOR = "a test"


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
        """Close the breaker and drop its counts, as an operator's reset does; end any hold.

        Raises:
            LookupError: neither the code nor the settings declare it.
        """
        reset([get_breaker(name).name], only_open=False)

    def hold(
        self,
        name: str,
        control: Literal["forced_open", "disabled", "metrics_only"] = "forced_open",
    ) -> None:
        """Hold the breaker as an operator does, until ``trip``, ``heal`` or an operator ends it.

        Raises:
            LookupError: neither the code nor the settings declare it.
            ValueError: no such hold.
        """
        names, hold = [get_breaker(name).name], Control(control)
        set_control(names, hold, for_seconds=None, actor=OPERATOR, reason="")


class SimulatedFleet(SimulatedBreakers):
    """Processes that share their breakers. A call outside of them is one more process' call."""

    def __init__(self, clock: SimulatedClock, store: MemoryStore) -> None:
        super().__init__(clock, store)
        self._processes: dict[str, SimulatedProcess] = {}

    def process(self, name: str) -> "SimulatedProcess":
        """Return the process of this name, which begins when it is first named."""
        if name not in self._processes:
            self._processes[name] = SimulatedProcess(name, self._clock, self._store)
        return self._processes[name]

    def _end(self) -> None:
        for process in self._processes.values():
            give_back_engine(process._engine)


class SimulatedProcess:
    """One process of a fleet: within ``with process:`` the site's code runs in it.

    It learns at each call what the others did. Its own threads run in it too, so that one process
    at a time runs.
    """

    name: str

    def __init__(self, name: str, clock: SimulatedClock, store: MemoryStore) -> None:
        self.name = name
        self._clock = clock
        self._store = store
        self._engine = take_engine(store)
        self._replaced: list[Engine] = []

    def __enter__(self) -> Self:
        self._replaced.append(runtime.engine)
        runtime.use_engine(self._engine)
        return self

    def __exit__(self, *error: object) -> None:
        runtime.use_engine(self._replaced.pop())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Cut this process off from the breakers' store until the block ends.

        It goes on alone, from the state of the fleet at the beginning. Afterwards the fleet's state
        counts, and what it counted alone is dropped; a real process keeps what it opened alone for
        one wait. Operators and other processes have the store.
        """
        survey = self._store.survey([], keep_for=None, all_up_to=MAX_NAMES)
        known = {name: found for name, found in survey.reading.snapshots.items() if found}
        alone = MemoryStore.standing_in(known.get, self._clock.time)
        self._use(alone, reason=explain_error(ConnectionError()))
        try:
            yield
        finally:
            self._use(self._store, reason=None)

    def _use(self, store: MemoryStore, *, reason: str | None) -> None:
        self._engine.begin(store, is_alone=reason is not None)
        if runtime.engine is self._engine:
            runtime.use_engine(self._engine)  # the breakers forget what they have read
        runtime.announce(StoreChange(reason=reason))


@contextmanager
def simulated_breakers() -> Iterator[SimulatedBreakers]:
    """Make every breaker of this process begin closed, in memory, until the block ends.

    Afterwards each is as before. Meanwhile neither calls nor operations use the store of the
    settings, and no thread is started.
    """
    with simulated_fleet() as fleet:
        yield fleet


@contextmanager
def simulated_fleet() -> Iterator[SimulatedFleet]:
    """Do what ``simulated_breakers`` does, for as many processes as the test names."""
    with ExitStack() as undo:
        clock = undo.enter_context(shared_clock())
        store = MemoryStore(clock.time)
        own = take_engine(store)
        undo.callback(give_back_engine, own)
        undo.enter_context(engine_time(clock))
        for name in ("call_store", "operator_store"):
            undo.enter_context(patch.object(runtime, name, lambda: store))
        undo.callback(runtime.use_engine, runtime.engine)
        runtime.use_engine(own)
        fleet = SimulatedFleet(clock, store)
        undo.callback(fleet._end)
        yield fleet


@contextmanager
def engine_time(clock: SimulatedClock) -> Iterator[None]:
    """Make the breakers of this process use another clock until the block ends.

    The engine reads the time through names of its modules: that is faster than an attribute.
    """
    with ExitStack() as undo:
        for module in (schedule, engine, judging, outage, presence, probes, sync, turn):
            undo.enter_context(patch.object(module, "time", clock))
        for module in (breaker, permit):
            undo.enter_context(patch.object(module, "clock", clock.monotonic))
        yield


class SimulatedEngine(Engine):
    """The engine of a process over a store in memory, in the threads of its callers alone.

    ``in_step``: it synchronises at every call, and judges everything at once. Otherwise it has a
    reporter that takes no time; ``report`` does what is due.
    """

    def __init__(self, announce: Announce = runtime.announce, *, in_step: bool = True) -> None:
        super().__init__(lambda: self._store, self._announce_own)
        self._receive = announce
        self._in_step = in_step
        self.due_at = math.inf
        """When the reporter has something to do next (monotonic seconds)."""
        self._is_reporting = False
        if not in_step:
            self.reporter.choose_store = lambda: None  # type: ignore[method-assign]
            self.reporter.ring = self.report  # type: ignore[method-assign]

    def begin(self, store: MemoryStore, *, is_alone: bool = False) -> None:
        """Start afresh with this store; ``is_alone``: no other process shares it."""
        self._store = store
        self._is_alone = is_alone
        self.reconnect()

    def local_state(self, name: str, policy: BreakerPolicy) -> LocalState:
        state = super().local_state(name, policy)
        if self._in_step:
            self.interval = 0.0
        return state

    def report(self) -> None:
        """Do what the reporter's thread would."""
        if self._is_reporting:
            return
        self._is_reporting = True
        try:
            self.reporter._shared = self._store
            pause = self._turn.take(self._store, self.reporter._take_requests())
            self.due_at = permit.clock() + max(0.0, pause)
        finally:
            self._is_reporting = False

    def _tell(self, store: BreakerStore, *, reads_anew: bool = False) -> float:
        """A simulated process is not listed: operations do not wait for it."""
        return math.inf

    def _announce_own(self, event: StateChange | StoreChange) -> None:
        if self._is_alone and isinstance(event, StateChange):
            event = replace(event, cause="local")
        self._receive(event)


# An engine registers itself with the interpreter for good, so engines are reused.
_idle_engines: list[SimulatedEngine] = []


def take_engine(store: MemoryStore) -> SimulatedEngine:
    """Return an engine in step with this store."""
    taken = _idle_engines.pop() if _idle_engines else SimulatedEngine()
    taken.begin(store)
    return taken


def give_back_engine(used: SimulatedEngine) -> None:
    """Keep the engine for another simulation."""
    _idle_engines.append(used)


def _tripped(before: Snapshot, policy: BreakerPolicy) -> Transition:
    """Return the opening that a failure causes in the breaker, released from any hold."""
    closed = new_record()
    failed = replace(
        closed, generation=before.generation, attempts=before.attempts, consecutive_failures=1
    )
    strict = replace(policy, failure_threshold=1)
    return cast("Transition", due_transition(failed, strict, now=0.0, rate_delay=0.0))  # it is due
