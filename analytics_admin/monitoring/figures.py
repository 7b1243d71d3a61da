"""What metrics show of the whole fleet: one round trip to each store, two queries."""

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TypeVar

from django.db import DatabaseError

from analytics_admin.breakers import runtime
from analytics_admin.breakers.presence import SILENT_SECONDS
from analytics_admin.breakers.stores.totals import TotalsReading
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.caching.statistics.store import decode_counts, open_statistics_store
from analytics_admin.conf import app_settings
from analytics_admin.models import OperationCount
from analytics_admin.services.search_cache.queries import find_last_clear
from analytics_admin.stores.client import StoreUnavailable, is_local_memory, operation_client
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.executor import StoreExecutor

logger = get_logger("analytics_admin.monitoring")
T = TypeVar("T")

MAX_BREAKERS = 10_000
"""Breakers that get series of their own; the others are counted."""
MAX_SECONDS = 2.0
"""Within which both stores have to answer."""
TIMEOUT = 0.5
"""Seconds for connecting and for each reply."""


class OperationTotal(NamedTuple):
    """How many operations have ended so."""

    kind: str
    status: str
    channel: str
    number: int


class Trail(NamedTuple):
    """What the database knows."""

    operations: Sequence[OperationTotal]
    last_clear: float | None
    """Unix time; None: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The fleet now; None is what could not be read."""

    breakers: TotalsReading | None
    search_cache: Counts | None
    search_seconds: float | None
    """In which the search cache's store answered."""
    trail: Trail | None

    @property
    def silent(self) -> int:
        """How many processes were not heard of for a while."""
        reading = self.breakers
        if reading is None:
            return 0
        return sum(reading.now - it.seen_at > SILENT_SECONDS for it in reading.processes)


def read_figures() -> Figures:
    """Return the figures, without those whose store or database does not answer."""
    ends_at = monotonic() + MAX_SECONDS
    executor = StoreExecutor(threads=2)
    try:
        stores = executor.submit(_read_breakers)
        search = executor.submit(_time_search_store)
        trail = _read_trail()  # meanwhile, with this thread's connection
        breakers = _wait(stores, ends_at)
        return Figures(
            breakers=None if breakers is None else breakers[0],
            search_cache=None if breakers is None else breakers[1],
            search_seconds=_wait(search, ends_at),
            trail=trail,
        )
    finally:
        executor.shut_down()


def _wait(answer: "Future[T]", ends_at: float) -> T | None:
    try:
        return answer.result(timeout=max(0.0, ends_at - monotonic()))
    except (FutureTimeout, StoreUnavailable):
        return None
    except Exception:  # of an alias that is not usable: the other figures are still of use
        logger.exception("metrics: internal error")
        return None


def _read_breakers() -> tuple[TotalsReading, Counts]:
    """Return the totals of the breakers and of the search cache, which their store keeps."""
    settings = app_settings()
    statistics = open_statistics_store(
        settings.breaker_cache, settings.search_cache, timeout=TIMEOUT
    )
    key = statistics.totals_key()
    reading = runtime.operator_store().read_totals(
        filter(runtime.is_valid_name, runtime.declared_names()),
        keep_for=runtime.keep_for(),
        most=MAX_BREAKERS,
        beside=[("HGETALL", key)] if key else (),
    )
    return reading, decode_counts(reading.beside[0]) if key else statistics.totals()


def _time_search_store() -> float:
    alias = app_settings().search_cache
    if is_local_memory(alias):
        return 0.0
    with operation_client(alias, timeout=TIMEOUT) as client:
        connection = client.connection_pool.get_connection()
        try:
            began = monotonic()
            connection.send_command("TIME")
            connection.read_response()
            return monotonic() - began
        finally:
            client.connection_pool.release(connection)


def _read_trail() -> Trail | None:
    try:
        rows = OperationCount.objects.values_list("kind", "status", "channel", "number")
        clear = find_last_clear()
        return Trail(
            operations=[OperationTotal(*row) for row in rows],
            last_clear=None if clear is None else clear.at.timestamp(),
        )
    except DatabaseError:
        return None
