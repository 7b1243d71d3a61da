"""Settings and lines that are odd, but real."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeout

from analytics_admin.caching.stores import access as access_module
from analytics_admin.stores import pool as pool_module
from analytics_admin.stores.latency import LatencyBudget, RequestStart
from analytics_admin.stores.pool import DOUBTFUL_IDLE_SECONDS, MAX_IDLE_SECONDS, ConnectionPool
from tests.support.cache_aliases import raw, redis_alias, use_caches
from tests.support.search_caches import LOCAL, Backend, another
from tests.support.servers import StoreServer

# A cache that is switched off


@pytest.mark.parametrize("alias", [redis_alias("s"), LOCAL], ids=["redis", "memory"])
@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_of_0_computes_each_time_and_stores_nothing(settings, alias, timeout):
    use_caches(settings, search={**alias, "TIMEOUT": timeout})
    cache, backend = another(), Backend("found")
    assert [cache.lookup("q", backend).state for _ in range(3)] == ["miss"] * 3
    assert backend.calls == 3
    assert cache.set("q", 1) is False
    assert cache.get("q") is None
    cache.set("q", "kept", timeout=60)  # a call that says how long is not switched off
    assert cache.get_or_compute("q", backend, timeout=60) == "kept"
    assert cache.set("q", 1) is False
    assert cache.get("q") is None


# Scripts

SCRIPT = """
import sys
from django.conf import settings
settings.configure(CACHES={"search": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
from analytics_admin.caching import search_cache

@search_cache.cached(timeout=60)
def find(query):
    return query

class Shop:
    search_cache_key = "a"
    @search_cache.cached(timeout=60)
    def find(self, query):
        return query

print(find.key("q"), Shop.find.key(Shop(), "q"))
"""


def test_functions_of_two_scripts_have_keys_of_their_own(tmp_path: Path):
    keys = set()
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
        for way in ([f"{tmp_path}/{name}.py"], ["-m", name]):
            command = [sys.executable, *way]
            environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            told = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
            )
            keys.add(told.stdout)
    assert len(keys) == 4
    assert not any("'__main__." in key for key in keys)


# Lines


class Line:
    """A connection that is silent, or answers."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.is_open = True
        self.is_closed_by_server = False

    def connect(self) -> None:
        pass

    def disconnect(self) -> None:
        self.is_open = False

    def pack_command(self, *command: Any) -> list[bytes]:
        return []

    def send_packed_command(self, packed: Any, check_health: bool) -> None:
        pass

    def read_response(self, **options: Any) -> bytes:
        if self.is_closed_by_server:
            raise StoreConnectionError
        if self.silent:
            raise StoreTimeout
        return b"answer"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(pool_module, "time", clock)
    return clock


def pool_of(lines: list[Line]) -> ConnectionPool:
    opened = iter(lines)

    class Opened(Line):
        def __new__(cls, **options: Any) -> Line:  # type: ignore[misc]
            return next(opened)

    client = SimpleNamespace(
        connection_pool=SimpleNamespace(connection_class=Opened, connection_kwargs={})
    )
    return ConnectionPool(client, run_bounded=lambda open_: open_(), reply_timeout=lambda: None)


def test_a_connection_that_was_idle_for_long_is_not_used_again(clock):
    lines = [Line(), Line()]
    pool = pool_of(lines)
    pool.call("GET", "a")
    clock.now += MAX_IDLE_SECONDS - 1
    pool.call("GET", "a")
    assert lines[0].is_open
    clock.now += MAX_IDLE_SECONDS + 1
    pool.call("GET", "a")
    assert [line.is_open for line in lines] == [False, True]


@pytest.mark.parametrize("idle_for", [0.0, DOUBTFUL_IDLE_SECONDS + 1])
def test_silence_after_idling_is_tried_over_a_new_connection(clock, idle_for):
    lines = [Line(), Line(), Line()]
    pool = pool_of(lines)
    pool.call("GET", "a")
    clock.now += idle_for
    lines[0].silent = True
    if idle_for:
        assert pool.call("GET", "a") == b"answer"
    else:
        with pytest.raises(StoreTimeout):
            pool.call("GET", "a")
    assert not lines[0].is_open


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed by the server"])
def test_who_waits_for_a_new_connection_takes_one_that_is_given_back_meanwhile(is_closed):
    lines = [Line(), Line()]
    pool = pool_of(lines)
    turns: list[Any] = []

    def after_another_call(open_: Any) -> Any:
        turns.append(open_)
        if len(turns) == 1:
            assert pool.call("GET", "a") == b"answer"
            lines[0].is_closed_by_server = is_closed
        return open_()

    pool._run_bounded = after_another_call
    assert pool.call("GET", "b") == b"answer"
    assert lines[0].is_open is not is_closed
    assert len(turns) == 2 + is_closed


def test_a_large_answer_may_take_as_long_as_a_slow_line_needs():
    for transfer, is_spent in ((0.0, True), (100.0, False)):
        budget = LatencyBudget()
        start = RequestStart()
        start.at -= 50
        assert budget.charge(start, transfer=transfer) is is_spent


def test_the_size_of_large_answers_is_noted(settings, monkeypatch):
    use_caches(settings, search=redis_alias("s"))
    cache, told = another(), []
    for number in range(3):
        cache.set(number, "x" * 100_000)
    access = cache._connect().access
    real = access._latency.charge
    monkeypatch.setattr(
        access._latency, "charge", lambda start, transfer=0.0: told.append(transfer) or real(start)
    )
    assert len(cache.get_many(range(3))) == 3
    cache.get("none")
    assert told[0] * access_module.SLOW_LINE_BYTES == pytest.approx(300_000, rel=0.01)
    assert told[1] == 0


def test_a_lost_store_is_looked_for_soon_and_then_ever_more_seldom(settings):
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 5}
        cache = another()
        cache.get("connected")
        access = cache._connect().access
        pauses = [access._pause() for _ in range(10)]
        assert pauses[0] <= access_module.FIRST_RETRY_SECONDS
        assert pauses[1] > pauses[0]
        assert max(pauses) == 5
        access._attempts = 0
        server.stop()
        assert cache.lookup("q", lambda: 1).state == "bypass"
        server.start()
        began = time.monotonic()
        while cache.lookup("q", lambda: 1).state != "hit":
            time.sleep(0.01)
            assert time.monotonic() - began < 4


def test_a_store_that_takes_no_writes_is_not_back(settings, caplog):
    with StoreServer() as server:
        use_caches(settings, search=redis_alias("s", url=server.url))
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.02}
        cache = another()
        cache.get("connected")
        access = cache._connect().access
        raw().replicaof("127.0.0.1", 1)
        assert cache.lookup("q", lambda: 1).state == "bypass"
        access._try_to_return()
        assert access._store is None
        server.stop()
        access._try_to_return()
        assert access._store is None
        assert "is back" not in caplog.text


FORKED = """
import asyncio, ctypes, os, sys
from types import SimpleNamespace
sys.modules["uwsgi"] = SimpleNamespace(opt={})
from django.conf import settings
settings.configure(CACHES={"search": ALIAS}, ANALYTICS_ADMIN={"SEARCH_CACHE": "search"})
from analytics_admin.caching import search_cache

for name in ("parent", "child"):
    search_cache.set(name, name)
child = ctypes.PyDLL(None).fork()
own, wrong = "parent" if child else "child", 0
for number in range(200):
    wrong += search_cache.get(own, own) != own
    if number % 10 == 0:
        wrong += asyncio.run(search_cache.aget(own, own)) != own
if child:
    wrong += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(min(wrong, 100))
"""


def test_children_of_uwsgi_without_threads_share_no_connection():
    """Python is not told of their fork. On one connection, the answers would go to anybody."""
    script = FORKED.replace("ALIAS", repr(redis_alias("s")))
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, timeout=60)
