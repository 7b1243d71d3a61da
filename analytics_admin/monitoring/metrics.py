"""The figures as Prometheus reads them. Needs prometheus-client, the extra ``metrics``."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from analytics_admin import __version__
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.stores.totals import TARGETS, BreakerTotals
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.monitoring.figures import Figures

PREFIX = "analytics_admin"
STATE_NUMBERS = {
    State.CLOSED.value: 0,
    State.OPEN.value: 1,
    State.HALF_OPEN.value: 2,
    Control.DISABLED.value: 3,
    Control.FORCED_OPEN.value: 4,
    Control.METRICS_ONLY.value: 5,
}
"""As resilience4j numbers them."""
UNREADABLE = -1
RESULTS = {"hit": "hits", "miss": "misses", "stale": "stale_served", "bypass": "bypassed"}
"""Of a search: the label's value, and the count."""
STORES = ("breakers", "search_cache")


class Family(NamedTuple):
    """One metric: its name without the prefix, its kind, what it says, its labels."""

    name: str
    kind: str
    """``gauge`` or ``counter``, whose series end in ``_total``."""
    help: str
    labels: tuple[str, ...] = ()


FAMILIES = {
    family.name: family
    for family in (
        Family("build", "gauge", "1, with the version of this package.", ("version",)),
        Family("database_up", "gauge", "1 if the database of the audit trail answers."),
        Family("store_up", "gauge", "1 if the store answers.", ("store",)),
        Family(
            "store_latency_seconds",
            "gauge",
            "Seconds until the store began to answer this scrape.",
            ("store",),
        ),
        Family("processes", "gauge", "Processes that use circuit breakers."),
        Family("processes_silent", "gauge", "Those not heard of for more than six seconds."),
        Family("circuit_breakers", "gauge", "Circuit breakers in each state.", ("state",)),
        Family("circuit_breakers_left_out", "gauge", "Circuit breakers without series."),
        Family(
            "circuit_breaker_state",
            "gauge",
            "State: 0 closed, 1 open, 2 half-open, 3 disabled, 4 forced open, 5 metrics only, "
            "-1 unreadable.",
            ("name",),
        ),
        Family(
            "circuit_breaker_calls",
            "counter",
            "Calls that passed and were recorded, by outcome.",
            ("name", "outcome"),
        ),
        Family(
            "circuit_breaker_slow_calls",
            "counter",
            "Those that took longer than the slow-call threshold.",
            ("name",),
        ),
        Family("circuit_breaker_not_permitted_calls", "counter", "Rejected calls.", ("name",)),
        Family(
            "circuit_breaker_transitions",
            "counter",
            "Transitions to a state, or to a hold.",
            ("name", "to"),
        ),
        Family(
            "circuit_breaker_hold_expires_timestamp_seconds",
            "gauge",
            "When the hold in force expires; +Inf: never. No series without a hold.",
            ("name",),
        ),
        Family("search_cache_calls", "counter", "Searches, by result.", ("result",)),
        Family(
            "search_cache_stale_on_error",
            "counter",
            "Stale results served for a failed computation.",
        ),
        Family("search_cache_fills", "counter", "Results stored."),
        Family(
            "search_cache_refused_fills",
            "counter",
            "Results not stored, since the cache was cleared or the value set meanwhile.",
        ),
        Family("search_cache_too_large", "counter", "Results not stored because of their size."),
        Family("search_cache_computations", "counter", "Computations by the backend."),
        Family("search_cache_compute_errors", "counter", "Computations that raised."),
        Family("search_cache_compute_seconds", "counter", "Seconds spent in computations."),
        Family(
            "search_cache_saved_seconds", "counter", "Seconds that served results took to compute."
        ),
        Family(
            "search_cache_last_clear_timestamp_seconds", "gauge", "When the last clear was done."
        ),
        Family(
            "operations",
            "counter",
            "Operations of operators that have ended.",
            ("kind", "status", "channel"),
        ),
    )
}
COUNTS = {
    "search_cache_stale_on_error": "stale_on_error",
    "search_cache_fills": "fills",
    "search_cache_refused_fills": "refused_fills",
    "search_cache_too_large": "too_large",
    "search_cache_computations": "computed",
    "search_cache_compute_errors": "compute_errors",
    "search_cache_compute_seconds": "compute_seconds",
    "search_cache_saved_seconds": "saved_seconds",
}
"""Counters of the search cache without labels, and the counts that they show."""
MAX_SERIES_PER_BREAKER = 10


def render(figures: Figures, accept: str) -> tuple[bytes, str]:
    """Return the page and its content type: OpenMetrics where the client accepts it."""
    page = _Page(figures)
    if "application/openmetrics-text" in accept:
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return openmetrics.generate_latest(page), content_type  # type: ignore[no-untyped-call]
    return generate_latest(page), CONTENT_TYPE_PLAIN_0_0_4


class _Page(Collector):
    """What prometheus-client renders."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return families_of(self._figures)


def families_of(figures: Figures) -> Iterator[Metric]:
    """Yield the metrics, without those that are unknown."""
    yield _family("build", _labelled("build", [((__version__,), 1)]))
    yield _family("database_up", _single("database_up", figures.trail is not None))
    reading = figures.breakers
    latencies = (None if reading is None else reading.seconds, figures.search_seconds)
    answers = list(zip(STORES, latencies, strict=True))
    up = [((store,), seconds is not None) for store, seconds in answers]
    yield _family("store_up", _labelled("store_up", up))
    latency = [((store,), seconds) for store, seconds in answers if seconds is not None]
    yield _family("store_latency_seconds", _labelled("store_latency_seconds", latency))
    if reading is not None:
        yield _family("processes", _single("processes", len(reading.processes)))
        yield _family("processes_silent", _single("processes_silent", figures.silent))
        left_out = "circuit_breakers_left_out"
        yield _family(left_out, _single(left_out, reading.left_out))
        yield from _breakers(reading.breakers)
    if figures.search_cache is not None:
        yield from _search_cache(figures.search_cache)
    if (trail := figures.trail) is not None:
        if trail.last_clear is not None:
            name = "search_cache_last_clear_timestamp_seconds"
            yield _family(name, _single(name, trail.last_clear))
        operations = [((it.kind, it.status, it.channel), it.number) for it in trail.operations]
        yield _family("operations", _labelled("operations", operations))


def _breakers(breakers: Mapping[str, BreakerTotals]) -> Iterator[Metric]:
    """Yield at most MAX_SERIES_PER_BREAKER series of each. There may be thousands."""
    states = dict.fromkeys([*STATE_NUMBERS, State.UNKNOWN.value], 0)
    states |= Counter(breaker.state for breaker in breakers.values())
    counted = [((state,), number) for state, number in states.items()]
    yield _family("circuit_breakers", _labelled("circuit_breakers", counted))
    series = _series("circuit_breaker_state")
    yield _family(
        "circuit_breaker_state",
        [
            Sample(series, {"name": name}, STATE_NUMBERS.get(it.state, UNREADABLE))
            for name, it in breakers.items()
        ],
    )
    expires = "circuit_breaker_hold_expires_timestamp_seconds"
    holds = ((name, it.held_until) for name, it in breakers.items())
    yield _family(
        expires, _labelled(expires, [((name,), end) for name, end in holds if end is not None])
    )
    totals = [({"name": name}, it.totals) for name, it in breakers.items() if it.totals is not None]
    series = _series("circuit_breaker_calls")
    calls = []
    for labels, it in totals:
        passed = it.calls - it.failures
        calls.append(Sample(series, {**labels, "outcome": "success"}, passed))
        calls.append(Sample(series, {**labels, "outcome": "failure"}, it.failures))
    yield _family("circuit_breaker_calls", calls)
    series = _series("circuit_breaker_slow_calls")
    slow = [Sample(series, labels, it.slow) for labels, it in totals]
    yield _family("circuit_breaker_slow_calls", slow)
    series = _series("circuit_breaker_not_permitted_calls")
    rejected = [Sample(series, labels, it.rejected) for labels, it in totals]
    yield _family("circuit_breaker_not_permitted_calls", rejected)
    series = _series("circuit_breaker_transitions")
    yield _family(
        "circuit_breaker_transitions",
        [
            Sample(series, {**labels, "to": target}, number)
            for labels, it in totals
            for target, number in zip(TARGETS, it.transitions, strict=True)
        ],
    )


def _search_cache(counts: Counts) -> Iterator[Metric]:
    calls = [((result,), getattr(counts, count)) for result, count in RESULTS.items()]
    yield _family("search_cache_calls", _labelled("search_cache_calls", calls))
    for name, count in COUNTS.items():
        yield _family(name, _single(name, getattr(counts, count)))


def _series(name: str) -> str:
    return f"{PREFIX}_{name}{'_total' if FAMILIES[name].kind == 'counter' else ''}"


def _single(name: str, value: float) -> list[Sample]:
    return [Sample(_series(name), {}, value)]


def _labelled(name: str, values: Iterable[tuple[tuple[str, ...], float]]) -> list[Sample]:
    series, labels = _series(name), FAMILIES[name].labels
    return [Sample(series, dict(zip(labels, given, strict=True)), it) for given, it in values]


def _family(name: str, samples: list[Sample]) -> Metric:
    metric = Metric(f"{PREFIX}_{name}", FAMILIES[name].help, FAMILIES[name].kind)
    metric.samples = samples
    return metric
