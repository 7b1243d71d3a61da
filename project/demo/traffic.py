"""The shop's simulated visitors, for ``quickstart``: they call the search view in process.

Not over HTTP, which would fill the site's log.
"""

import random
import threading
from contextlib import suppress
from itertools import accumulate

from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import resolve, reverse

from analytics_admin.breakers import CircuitOpenError
from project.demo.faults import BackendDown
from project.demo.products import COLORS, ROOMS
from project.demo.search import recommend

PAUSE = (0.1, 0.4)
"""Minimum and maximum seconds between two searches."""
QUERIES = [f"{color} {thing}" for room in ROOMS for thing in room.things for color in COLORS]
WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(QUERIES) + 1)))
"""Cumulative weights by Zipf's law: a few queries are frequent, most are rare."""


def visit(query: str, page: int = 1) -> HttpResponse | None:
    """Search as a visitor; return the response, or None while the circuit is open."""
    path = reverse("search")
    view, args, kwargs = resolve(path)
    request = RequestFactory().get(path, {"q": query, "page": str(page)})
    try:
        answer: HttpResponse = view(request, *args, **kwargs)
    except CircuitOpenError:  # which CircuitOpenMiddleware answers, over HTTP
        return None
    return answer


class Traffic(threading.Thread):
    """A daemon thread that searches about four times a second."""

    def __init__(self) -> None:
        super().__init__(name="demo-traffic", daemon=True)
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(random.uniform(*PAUSE)):
            query = random.choices(QUERIES, cum_weights=WEIGHTS)[0]
            visit(query)
            with suppress(BackendDown, CircuitOpenError):
                recommend(query)

    def stop(self) -> None:
        """Stop, and wait for the search in progress."""
        self._stopping.set()
        self.join(timeout=2)
