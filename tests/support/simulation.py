"""A fleet of many processes within one, on simulated time: no waiting, no server, no threads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.testing.breakers import Announce, SimulatedEngine, engine_time
from analytics_admin.testing.clock import SimulatedClock


class FleetClock(SimulatedClock):
    """A clock that moves from one reporter's next task to another's."""

    def __init__(self, now: float, *, tick: float) -> None:
        self.engines: list[SimulatedEngine] = []
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


class _Engine(SimulatedEngine):
    def __init__(self, clock: FleetClock, announce: Announce) -> None:
        self._clock = clock
        super().__init__(announce, in_step=False)

    def report(self) -> None:
        super().report()
        self._clock.nothing_until = min(self._clock.nothing_until, self.due_at + self._clock._ahead)


class SimulatedSite:
    """One store and as many processes as are asked for; ``events`` is what they announced.

    They synchronise by SYNC_INTERVAL, as a real fleet does: when the clock moves, their reporters
    do what is due.
    """

    def __init__(self, clock: "FleetClock") -> None:
        self.clock = clock
        self.store = MemoryStore(clock.time)
        self.events: list[Any] = []

    def process(self, name: str, **policy: Any) -> CircuitBreaker:
        """Return the breaker as one more process holds it."""
        engine = _Engine(self.clock, self.events.append)
        engine.begin(self.store)
        self.clock.engines.append(engine)
        self.clock.nothing_until = 0.0
        return CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(policy))


@contextmanager
def simulated_site() -> Iterator[SimulatedSite]:
    """Put the engine on simulated time, for every process of the site."""
    clock = FleetClock(1_000_000.0, tick=0.0)
    with engine_time(clock):
        yield SimulatedSite(clock)


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
