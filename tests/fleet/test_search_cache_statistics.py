"""The counts of several real processes: none is lost but a killed one's last, none told twice."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard
from analytics_admin.caching.statistics import reporter
from analytics_admin.caching.statistics.queries import read_figures
from tests.fleet import search_cache_tasks as tasks
from tests.support.cache_aliases import use_caches
from tests.support.crew import Crew
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually

PROCESSES = 4
CALLS = 500
ROOT = Path(__file__).parents[2]

BILLIARD = """
import django
import billiard
import billiard.util
django.setup()
from analytics_admin.caching import search_cache

def work():
    search_cache.get_or_compute("q", lambda: 1)
    for _ in range(99):
        search_cache.get("q")

child = billiard.get_context("fork").Process(target=work)
child.start()
child.join(30)
assert child.exitcode == 0, child.exitcode
"""

FORKING = """
import os
import django
django.setup()
from analytics_admin.caching import search_cache

search_cache.get_or_compute("q", lambda: 1)
children = []
for _ in range(3):
    if (child := os.fork()) == 0:
        for _ in range(10):
            search_cache.get_or_compute("q", lambda: 1)
        raise SystemExit
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""

TERMINATED = """
import os
import signal
import sys
import django
django.setup()
from analytics_admin.caching import search_cache

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for _ in range(10):
    search_cache.get_or_compute("q", lambda: 1)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        yield crew


def run(program: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60
    )


def day() -> Any:
    return read_figures().periods["last_day"]


def test_the_sum_is_exact_when_the_processes_have_ended(crew):
    computed = sum(crew.ask_all(tasks.search_often, CALLS))
    for worker in crew.workers:
        worker.leave()
    found = day()
    assert found.calls == PROCESSES * CALLS
    assert (found.misses, found.fills) == (computed, computed)
    assert found.hits == PROCESSES * CALLS - computed


def test_counts_are_told_while_the_process_goes_on_and_twice_never(crew):
    for worker in crew.workers:
        worker.ask(tasks.tell_every, 0.05)
    for _ in range(3):
        crew.ask_all(tasks.search_often, CALLS)
    assert eventually(lambda: day().calls == 3 * PROCESSES * CALLS)
    for worker in crew.workers:
        worker.leave()
    assert day().calls == 3 * PROCESSES * CALLS


def test_a_killed_process_loses_only_what_it_had_not_told(crew):
    one, *others = crew.workers
    one.ask(tasks.tell_every, 3600)
    for worker in crew.workers:
        worker.ask(tasks.search_often, CALLS)
    one.ask(tasks.tell)
    one.ask(tasks.search_often, CALLS)
    one.kill()
    for worker in others:
        worker.leave()
    assert day().calls == PROCESSES * CALLS


def test_forked_children_tell_their_own_counts_and_not_their_parents():
    run(FORKING)
    found = day()
    assert (found.misses, found.hits) == (1, 30)


def test_a_child_of_billiard_tells_what_it_has_counted():
    """As those of Celery's pool, which ends them after so many tasks, without atexit."""
    run(BILLIARD)
    assert day().calls == 100


def test_a_worker_that_its_server_lets_go_has_told():
    began = time.monotonic()
    run(TERMINATED)
    assert time.monotonic() - began < 8  # before its thread would have told by itself
    assert day().calls == 10


def test_a_flush_of_the_search_database_and_a_clear_leave_the_counts(crew):
    crew.ask_all(tasks.search_often, CALLS)
    for worker in crew.workers:
        worker.ask(tasks.tell)
    caches["search"].client.get_client(write=True).flushdb()
    hard.clear()
    assert day().calls == PROCESSES * CALLS


@pytest.mark.counting
def test_with_the_breakers_alias_frozen_searches_wait_for_nothing_and_are_told_later(
    settings, monkeypatch
):
    monkeypatch.setattr(reporter, "INTERVAL", 0.05)
    with StoreServer() as server, Proxy(server.socket_path) as proxy, StoreServer() as own:
        alias = {"BACKEND": "django_redis.cache.RedisCache", "KEY_PREFIX": "b"}
        use_caches(
            settings,
            search={**alias, "LOCATION": f"unix://{own.socket_path}?db=0"},
            breakers={**alias, "LOCATION": f"{proxy.url}/0"},
        )
        cache = SearchCache(lambda: "search")
        cache.get_or_compute("q", lambda: 1)
        server.freeze()
        slowest, until, calls = 0.0, time.monotonic() + 1.5, 1
        while time.monotonic() < until:
            began = time.monotonic()
            assert cache.lookup("q", lambda: 1).state == "hit"
            slowest = max(slowest, time.monotonic() - began)
            calls += 1
        assert slowest < 0.1
        server.thaw()
        assert eventually(lambda: day().calls == calls)
        time.sleep(0.3)
        assert day().calls == calls
