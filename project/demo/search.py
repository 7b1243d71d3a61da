"""The shop's search: the index behind a circuit breaker, behind the search cache.

As in any site, with the one difference that the backend has a switch to fail. Knows no HTTP.
"""

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from analytics_admin.breakers import CircuitBreaker, circuit_breaker
from analytics_admin.caching import Lookup, search_cache
from project.demo.faults import BackendDown, FaultSwitch
from project.demo.index import Index, terms_of

FRESH_FOR = 60  # seconds
STALE_FOR = 300  # seconds for which a result stands in while the backend does not answer
TAGS = ("products",)


# The breakers are declared with the first use, so that a console shows none that nobody uses.
@functools.cache
def catalog() -> CircuitBreaker:
    """Return the breaker round the search."""
    return circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)


@functools.cache
def recommendations() -> CircuitBreaker:
    """Return the breaker round the recommendations."""
    return circuit_breaker("recommendations", failure_threshold=3, wait_duration_in_open_state=20)


def search(query: str, page: int = 1) -> Lookup:
    """Return a page of goods as ``{"count": …, "results": […]}``, from the cache or the backend.

    Raises:
        CircuitOpenError: the backend is not to be asked now, and there is no older result.
        BackendDown: it was asked and failed, and there is no older result.
    """
    terms = terms_of(query)
    return search_cache.lookup(
        ("demo search", terms, page),
        lambda: catalog().call(_search_catalog, terms, page),
        timeout=FRESH_FOR,
        stale_for=STALE_FOR,
        tags=TAGS,
    )


def recommend(query: str) -> list[str]:
    """Return the titles of goods that have to do with the query; never cached.

    Raises:
        CircuitOpenError, BackendDown: as in ``search``.
    """
    return recommendations().call(_related, terms_of(query))


def _search_catalog(terms: tuple[str, ...], page: int) -> dict[str, Any]:
    """Ask the backend; with the switch at ``sometimes`` it is down for 10 s of each 90."""
    with _backend(period=90, outage=10) as index:
        found = index.search(terms, page=page)
    return {"count": found.count, "results": found.results}


def _related(terms: tuple[str, ...]) -> list[str]:
    """Ask the backend likewise; it is down for 15 s of each 60."""
    with _backend(period=60, outage=15) as index:
        return [each["title"] for each in index.search(terms, all_words=False).results]


@contextmanager
def _backend(*, period: float, outage: float) -> Iterator[Index]:
    """Yield the index unless the switch says otherwise; its errors are the backend's."""
    try:
        FaultSwitch(settings.DEMO_FOLDER).raise_fault(period=period, outage=outage)
        yield Index(settings.DEMO_FOLDER)
    except (OSError, sqlite3.Error) as error:
        raise BackendDown(f"the index does not answer ({type(error).__name__})") from error
