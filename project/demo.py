"""Something for an operator to look at: a search backend that fails now and then, and its users.

Part of ``quickstart`` alone. Made like a site's own code: breakers round the calls, results cached.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from django.core.cache import caches
from redis.exceptions import RedisError

from analytics_admin.breakers import CircuitOpenError, circuit_breaker

QUERIES = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("hat", "sofa")]
KEPT_FOR = 60  # seconds
_BEGAN = time.monotonic()

catalog = circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=15)
recommendations = circuit_breaker(
    "recommendations", failure_threshold=3, wait_duration_in_open_state=20
)


class BackendDown(Exception):
    """The demonstration backend plays dead."""


def is_down(period: float, outage: float) -> bool:
    """Say whether the backend is in the outage (seconds) that ends each period (seconds).

    Periods are counted from the program's start, so the first impression is a healthy one.
    """
    return (time.monotonic() - _BEGAN) % period > period - outage


@catalog
def search_catalog(query: str) -> list[str]:
    """Return what the catalog has on the query; down for 10 s of each 90."""
    if is_down(90, 10):
        raise BackendDown
    return [f"{query}, number {number}" for number in range(1, 4)]


@recommendations
def recommend(query: str) -> list[str]:
    """Return what else might please; down for 15 s of each 60."""
    if is_down(60, 15):
        raise BackendDown
    return [other for other in QUERIES if other != query]


def search(query: str) -> dict[str, list[str]]:
    """Answer a visitor: from the search cache, or from the backends that work."""
    key = f"demo:{query}"
    found: dict[str, list[str]] | None = caches["search"].get(key)
    if found is not None:
        return found
    answer = {"hits": _or_nothing(search_catalog, query), "also": _or_nothing(recommend, query)}
    if all(answer.values()):
        caches["search"].set(key, answer, timeout=KEPT_FOR)
    return answer


def _or_nothing(ask: Callable[[str], list[str]], query: str) -> list[str]:
    try:
        return ask(query)
    except (BackendDown, CircuitOpenError):
        return []


class Traffic(threading.Thread):
    """Visitors who search about four times a second, in a thread that dies with the process."""

    def __init__(self) -> None:
        super().__init__(name="demo-traffic", daemon=True)
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(random.uniform(0.1, 0.4)):
            # A new visitor's words now and then, so that there is always something to look up.
            with suppress(RedisError):  # the store is away; the visitors come back
                search(f"{random.choice(QUERIES)} {random.randrange(20)}")

    def stop(self) -> None:
        """Send the visitors home and wait for the search that is under way."""
        self._stopping.set()
        self.join(timeout=2)
