"""A fleet of many processes within one, on simulated time: no waiting, no server, no threads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.testing.breakers import SimulatedEngine, engine_time
from analytics_admin.testing.clock import SimulatedClock


class SimulatedSite:
    """One store and as many processes as are asked for; ``events`` is what they announced.

    They synchronise by SYNC_INTERVAL, as a real fleet does.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.store = MemoryStore(clock.time)
        self.events: list[Any] = []

    def process(self, name: str, **policy: Any) -> CircuitBreaker:
        """Return the breaker as one more process holds it."""
        engine = SimulatedEngine(self.events.append, in_step=False)
        engine.begin(self.store)
        return CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(policy))


@contextmanager
def simulated_site() -> Iterator[SimulatedSite]:
    """Put the engine on simulated time, for every process of the site."""
    clock = SimulatedClock(1_000_000.0, tick=0.0)
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
