"""The shop's visitors, for ``quickstart``: they ask the endpoint as a browser would, in process.

Not over HTTP: the site's log is for the requests of whoever looks at it.
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
from project.demo.products import COLOURS, ROOMS
from project.demo.search import recommend

PAUSE = (0.1, 0.4)
"""Seconds between two searches, from and to."""
QUERIES = [f"{colour} {thing}" for room in ROOMS for thing in room.things for colour in COLOURS]
WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(QUERIES) + 1)))
"""Some things are asked for all the time and most hardly ever, as Zipf's law has it."""


def visit(query: str, page: int = 1) -> HttpResponse | None:
    """Search as a visitor; return the answer, None while the circuit is open."""
    path = reverse("search")
    view, args, kwargs = resolve(path)
    request = RequestFactory().get(path, {"q": query, "page": str(page)})
    try:
        answer: HttpResponse = view(request, *args, **kwargs)
    except CircuitOpenError:  # which CircuitOpenMiddleware answers, over HTTP
        return None
    return answer


class Traffic(threading.Thread):
    """Visitors who search about four times a second, in a thread that dies with the process."""

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
        """Send the visitors home and wait for the search that is under way."""
        self._stopping.set()
        self.join(timeout=2)
