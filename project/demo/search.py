"""The shop's search: the index behind a circuit breaker, behind the search cache.

Written as in any site, except that its backend has a fault switch.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import Lookup, search_cache
from project.demo.faults import BackendDown, FaultSwitch
from project.demo.index import Index, terms_of

FRESH_FOR = 60  # seconds
STALE_FOR = 300  # seconds for which an old result is served while the backend is down
TAGS = ("products",)

# Declared at import: the URLconf imports this module, so every process of the site knows them.
catalog = circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
recommendations = circuit_breaker(
    "recommendations", failure_threshold=3, wait_duration_in_open_state=20
)


def search(query: str, page: int = 1) -> Lookup:
    """Return a page of products as ``{"count": …, "results": […]}``, cached or from the backend.

    Raises:
        CircuitOpenError: the circuit is open, and there is no stale result.
        BackendDown: the backend failed, and there is no stale result.
    """
    terms = terms_of(query)
    return search_cache.lookup(
        ("demo search", terms, page),
        lambda: catalog.call(_search_catalog, terms, page),
        timeout=FRESH_FOR,
        stale_for=STALE_FOR,
        tags=TAGS,
    )


def recommend(query: str) -> list[str]:
    """Return the titles of related products, uncached.

    Raises:
        CircuitOpenError, BackendDown: as in ``search``.
    """
    return recommendations.call(_related, terms_of(query))


def _search_catalog(terms: tuple[str, ...], page: int) -> dict[str, Any]:
    """Query the backend; at ``sometimes`` it is down for 10 s of each 90."""
    with _backend(period=90, outage=10) as index:
        matches = index.search(terms, page=page)
    return {"count": matches.count, "results": matches.results}


def _related(terms: tuple[str, ...]) -> list[str]:
    """Query the backend; at ``sometimes`` it is down for 15 s of each 60."""
    with _backend(period=60, outage=15) as index:
        return [product["title"] for product in index.search(terms, all_words=False).results]


@contextmanager
def _backend(*, period: float, outage: float) -> Iterator[Index]:
    """Yield the index unless the fault switch fails it; its errors become BackendDown."""
    try:
        FaultSwitch(settings.DEMO_FOLDER).raise_fault(period=period, outage=outage)
        yield Index(settings.DEMO_FOLDER)
    except (OSError, sqlite3.Error) as error:
        raise BackendDown(f"the index does not answer ({type(error).__name__})") from error
