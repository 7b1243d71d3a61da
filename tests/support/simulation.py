"""A fleet of many processes within one, on simulated time: no waiting, no server, no threads."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers.listener import Listener
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import closeness
from analytics_admin.breakers.stores.base import Move, MoveOutcome, Push, Reading, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.testing.breakers import Announce, SimulatedEngine, engine_time
from analytics_admin.testing.clock import SimulatedClock


class FleetClock(SimulatedClock):
    """A clock that moves from one reporter's next task to another's."""

    def __init__(self, now: float, *, tick: float) -> None:
        self.engines: list[_Engine] = []
        self.nothing_until = 0.0
        """No engine has anything to do before that; one that has may say so."""
        self._now = now
        super().__init__(now, tick=tick)

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, to: float) -> None:
        while self.engines and self.nothing_until <= to:
            engine = min(self.engines, key=attrgetter("due_at"))
            self.nothing_until = due_at = engine.due_at + self._ahead
            if due_at > to:
                break
            self._now = max(self._now, due_at)
            engine.report()
        self._now = to


ON_ITS_WAY_SECONDS = 0.001
"""Time that a message takes."""


class _Messages(Listener):
    """Every message of the store, as a process hears it that never misses one."""

    def __init__(self) -> None:
        super().__init__(lambda: None, timeout=lambda: 1.0, retry_interval=lambda: 1.0)
        self.heard: deque[Push] = deque()
        self.gets_pushes = True

    def start(self, new_channel: object, obey: object = None) -> None: ...

    def stop(self) -> None: ...

    def take(self) -> list[Push]:
        taken, self.heard = list(self.heard), deque()
        return taken


class TellingStore(MemoryStore):
    """A store in memory that tells all processes what the Redis store tells them."""

    def __init__(self, clock: FleetClock) -> None:
        super().__init__(clock.time)
        self.tell: Callable[[Push], None] | None = None

    def add(self, reports: Sequence[Report]) -> Reading:
        before = {report.name: self._look(report) for report in reports}
        reading = super().add(reports)
        asked = [
            report.name
            for report in reports
            if any(
                old < new for old, new in zip(before[report.name], self._look(report), strict=True)
            )
        ]
        if not asked or self.tell is None:
            return reading
        self.tell(Push(sequence=0, is_question=True, snapshots=dict.fromkeys(asked)))
        return replace(reading, is_question_heard=True)

    def _look(self, report: Report) -> tuple[bool, int]:
        """Return whether the run is long enough to ask, and how close the rates are."""
        record = self._records.get(report.name)
        if record is None:
            return False, 0
        limit = report.question_at
        is_long = limit is not None and record.consecutive_failures >= limit
        if report.window is None or record.state is not State.CLOSED:
            return is_long, 0
        counts = self._window(report.name, report.window, record).counts(self._clock())
        return is_long, closeness(counts, report.rates)

    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        outcomes = super().compare_and_set(moves)
        for move, outcome in zip(moves, outcomes, strict=True):
            begins = move.expected is None or move.expected.generation != move.new.generation
            if outcome.won and begins and self.tell is not None:
                told = {move.name: outcome.snapshot}
                self.tell(Push(sequence=outcome.sequence, now=outcome.now, snapshots=told))
        return outcomes


class _Engine(SimulatedEngine):
    def __init__(self, clock: FleetClock, announce: Announce, *, gets_pushes: bool) -> None:
        self._clock = clock
        super().__init__(announce, in_step=False)
        if gets_pushes:
            self.listener = self._turn._listener = _Messages()

    def hear(self, push: Push) -> None:
        """Have the reporter take the message once it has arrived."""
        if isinstance(self.listener, _Messages):
            self.listener.heard.append(push)
            self._note_due(self._clock.monotonic() + ON_ITS_WAY_SECONDS)

    def report(self) -> None:
        super().report()
        now = self._clock.monotonic()
        if isinstance(self.listener, _Messages) and self.listener.heard:
            self.due_at = min(self.due_at, now + ON_ITS_WAY_SECONDS)
        self.due_at = max(self.due_at, now + 1e-6)  # less is lost in the sum with a time of day
        self._note_due(self.due_at)

    def _note_due(self, at: float) -> None:
        self.due_at = min(self.due_at, at)
        self._clock.nothing_until = min(self._clock.nothing_until, self.due_at + self._clock._ahead)


class SimulatedSite:
    """One store and as many processes as are asked for; ``events`` is what they announced.

    When the clock moves, their reporters do what is due. By default they poll, as processes do that
    do not hear of changes.
    """

    def __init__(self, clock: "FleetClock", *, gets_pushes: bool = False) -> None:
        self.clock = clock
        self._gets_pushes = gets_pushes
        self.store = TellingStore(clock)
        if gets_pushes:
            self.store.tell, self.store.asks_processes = self._tell, True
        self.events: list[Any] = []

    def process(self, name: str, **policy: Any) -> CircuitBreaker:
        """Return the breaker as one more process holds it."""
        engine = _Engine(self.clock, self.events.append, gets_pushes=self._gets_pushes)
        engine.begin(self.store)
        self.clock.engines.append(engine)
        self.clock.nothing_until = 0.0
        return CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(policy))

    def _tell(self, push: Push) -> None:
        for engine in self.clock.engines:
            engine.hear(push)


@contextmanager
def simulated_site(*, gets_pushes: bool = False) -> Iterator[SimulatedSite]:
    """Put the engine on simulated time, for every process of the site."""
    clock = FleetClock(1_000_000.0, tick=0.0)
    with engine_time(clock):
        yield SimulatedSite(clock, gets_pushes=gets_pushes)


def calls_in_order(
    rates: dict[Any, float], seconds: float, luck: random.Random
) -> Iterator[tuple[float, Any]]:
    """Yield (second, caller) of callers that call that often a second, evenly, in order."""
    calls = [
        (at + luck.random() / rate, caller)
        for caller, rate in rates.items()
        for at in (number / rate for number in range(int(seconds * rate)))
    ]
    return iter(sorted(calls, key=lambda call: call[0]))
