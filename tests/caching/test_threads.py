"""No thread of the cache ends for good, and no log of a site reaches a search, refresh or clear."""

import ast
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

import analytics_admin
from analytics_admin.caching import background, near, renewal
from analytics_admin.caching.background import BackgroundRefreshes
from analytics_admin.caching.lease import RefreshPauses
from analytics_admin.caching.near import NearCache
from analytics_admin.caching.renewal import LeaseRenewals
from analytics_admin.caching.statistics import reporter
from analytics_admin.caching.statistics.counters import CallCounter
from analytics_admin.caching.statistics.reporter import Reporter
from analytics_admin.services import Actor, OperationFailed
from analytics_admin.services.search_cache import operations
from analytics_admin.stores import threads
from tests.support.cache_aliases import redis_alias, use_caches
from tests.support.search_caches import Backend, InThread, another, use_store
from tests.support.servers import StoreServer
from tests.support.sites import eventually

START = Reporter._start
WHATEVER = [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError]


@pytest.fixture(params=[RuntimeError, SystemExit])
def log_that_raises(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Every log of the project raises; yields what was to be logged."""
    lines: list[str] = []

    def refuse(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        raise request.param

    names = [name for name in logging.root.manager.loggerDict if name.startswith("analytics_admin")]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(refuse)
    yield lines
    for logger in loggers:
        logger.removeFilter(refuse)


@pytest.fixture
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_ERROR_PAUSE_SECONDS", 0.01)


def fail_first(function: Callable[..., Any], error: type[BaseException]) -> Callable[..., Any]:
    """Return the function as it is with an error at its first call."""
    calls: list[None] = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise error
        return function(*arguments, **options)

    return call


def refusing(times: int) -> Callable[..., None]:
    """Return ``start_plain_thread`` as it is when threads run out for a moment."""
    refused: list[None] = []

    def start(*arguments: Any, **options: Any) -> None:
        if len(refused) < times:
            refused.append(None)
            raise RuntimeError("can't start new thread")
        threads.start_plain_thread(*arguments, **options)

    return start


def test_a_log_that_raises_keeps_nobody_from_searching_and_none_from_the_return_of_the_store(
    settings, log_that_raises
):
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.05}
        cache = another()
        assert cache.lookup("q", Backend()).state == "miss"
        server.stop()
        assert cache.lookup("q", Backend()).state == "bypass"
        server.start()
        assert eventually(lambda: cache.lookup("q", Backend()).state == "hit")
        full = {"maxmemory": 1, "maxmemory-policy": "noeviction"}
        client = caches["search"].client.get_client(write=True)
        for name, value in full.items():
            client.config_set(name, value)
        assert cache.lookup("r", Backend()).value == "found"
        cache.reconnect()
    lost, back, *_, is_full = log_that_raises
    assert "searches are computed without it" in lost
    assert "the store is back" in back
    assert "results are not stored" in is_full


def test_a_log_that_raises_keeps_no_stale_value_from_its_caller(settings, log_that_raises):
    use_store(settings, "redis", SEARCH_CACHE_BACKGROUND_REFRESHES=2)
    cache, backend = another(), Backend("old")
    terms: dict[str, Any] = {"timeout": 0.001, "stale_for": 60}
    cache.get_or_compute("q", backend, **terms)
    time.sleep(0.01)
    backend.error = LookupError()
    assert cache.lookup("q", backend, **terms).state == "stale"
    assert len(log_that_raises) == 1
    cache._connect().resolver._pauses = RefreshPauses()
    assert cache.lookup("q", backend, background=True, **terms).state == "stale"
    assert eventually(lambda: len(log_that_raises) == 2)
    refreshes = cache._connect().resolver._refreshes
    assert eventually(lambda: not refreshes._places)


@pytest.mark.django_db(transaction=True)
def test_a_log_that_raises_keeps_no_operator_from_hearing_what_became_of_a_clear(
    settings, log_that_raises
):
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        server.stop()
        with pytest.raises(OperationFailed, match="cannot be reached"):
            operations.clear_search_cache(actor=Actor.system("test"))
    assert "failed" in log_that_raises[-1]


def test_every_log_of_the_project_is_contained():
    root = Path(analytics_admin.__file__).parent
    modules = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "getLogger"
    }
    assert modules == {"stores/contained_logger.py"}


@pytest.mark.parametrize("error", WHATEVER)
@pytest.mark.usefixtures("soon_again")
def test_leases_are_renewed_after_an_error_in_their_thread(settings, monkeypatch, error):
    use_store(settings, "redis", SEARCH_CACHE_LEASE=0.4)
    renewed: list[Any] = []
    real = LeaseRenewals._renew

    def renew(renewals: LeaseRenewals, held: Any) -> None:
        real(renewals, held)
        renewed.append(held)

    monkeypatch.setattr(LeaseRenewals, "_renew_due", fail_first(LeaseRenewals._renew_due, error))
    monkeypatch.setattr(LeaseRenewals, "_renew", renew)
    backend = Backend()
    backend.go_on.clear()
    call = InThread(lambda: another().get_or_compute("q", backend))
    assert eventually(lambda: len(renewed) > 1)
    backend.go_on.set()
    assert call.result() == "found"


def is_near(cache: Any) -> bool:
    values = cache._connect().near
    keys = cache._connect().request("q").keys
    cache.lookup("q", Backend(), near=1)
    return values.get(keys, 1.0) is not None


@pytest.mark.parametrize("error", WHATEVER)
@pytest.mark.usefixtures("soon_again")
def test_values_are_near_again_after_an_error_in_their_thread(settings, monkeypatch, error):
    use_store(settings, "redis")
    monkeypatch.setattr(near, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(NearCache, "_keep", fail_first(NearCache._keep, error))
    cache = another()
    assert eventually(lambda: is_near(cache))
    cache.reconnect()


@pytest.mark.counting
@pytest.mark.parametrize("error", WHATEVER)
@pytest.mark.usefixtures("soon_again")
def test_counts_are_reported_after_an_error_in_their_thread(monkeypatch, error):
    monkeypatch.setattr(reporter, "INTERVAL", 0.02)
    sent: list[Any] = []
    open_store = fail_first(lambda: Store(sent), error)
    counter = CallCounter(lambda: reports.wake())  # noqa: PLW0108  there is none yet
    reports = Reporter(counter, open_store)
    counter.hit(0)
    assert eventually(lambda: sent)
    assert sum(batch.counts.hits for batch in sent) == 1


class Store:
    """A statistics store that keeps what it is told in a list."""

    def __init__(self, sent: list[Any]) -> None:
        self._sent = sent

    def add(self, sender: str, batches: Any) -> None:
        self._sent.extend(batches)


def test_what_had_no_thread_for_a_moment_has_one_again(settings, monkeypatch):
    monkeypatch.setattr(threads, "RETRY_SECONDS", 0.05)
    use_store(settings, "redis", SEARCH_CACHE_LEASE=0.2)
    for module in (near, renewal, reporter, background):
        monkeypatch.setattr(module, "start_plain_thread", refusing(1))
    cache, backend = another(), Backend()
    renewals = cache._connect().resolver._renewals
    renewals.prepare()
    assert renewals._thread.is_missing
    assert eventually(lambda: renewals.prepare() or renewals._thread.is_alive)
    cache.get_or_compute("q", backend)
    assert eventually(lambda: is_near(cache))

    monkeypatch.setattr(Reporter, "_start", START)
    monkeypatch.setattr(reporter, "INTERVAL", 0.02)
    sent: list[Any] = []
    counter = CallCounter(lambda: reports.wake())  # noqa: PLW0108  there is none yet
    reports = Reporter(counter, lambda: Store(sent))
    assert eventually(lambda: counter.hit(0) or sent)

    refreshes, done = BackgroundRefreshes(1), []
    assert not refreshes.start(lambda: done.append(None))
    assert refreshes.start(lambda: done.append(None))
    assert eventually(lambda: done)
    cache.reconnect()


def test_a_hook_that_raises_is_logged_whatever_it_raises(settings, caplog):
    def hook() -> Any:
        raise RuntimeError("no tenant")

    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_BACKGROUND_CONTEXT": hook}
    assert not BackgroundRefreshes(1).start(int)
    assert "no tenant" in caplog.text
