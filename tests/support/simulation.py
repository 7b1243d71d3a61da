"""A fleet of many processes within one, on simulated time: no waiting, no server, no threads."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.testing import engine_time


class Clock:
    """Replaces the ``time`` module; stands still unless a test moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 900_000.0


class SimulatedSite:
    """One store and as many processes as are asked for; ``events`` is what they announced."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.store = MemoryStore(clock.time)
        self.events: list[Any] = []

    def process(self, name: str, **policy: Any) -> CircuitBreaker:
        """Return the breaker as one more process holds it."""
        engine = Engine(lambda: self.store, self.events.append)
        engine.access.run_if_available(lambda store: None)  # connects without a thread of its own
        return CircuitBreaker(name, engine, lambda: BreakerPolicy.from_options(policy))


@contextmanager
def simulated_site() -> Iterator[SimulatedSite]:
    """Put the engine on simulated time, for every process of the site."""
    clock = Clock()
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
