"""Whatever becomes of the store, a search is answered, quickly, and the cache comes back."""

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest
import redis

from analytics_admin.caching import SearchCache, StoreUnavailable, client
from analytics_admin.caching.stores import past
from analytics_admin.stores import latency
from analytics_admin.stores.latency import SILENT_SECONDS
from tests.support.cache_aliases import use_caches
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer
from tests.support.sites import eventually

pytestmark = pytest.mark.hurried

LIMIT = 0.15
"""Seconds that an outage may cost a process' calls."""
SLACK = 0.15
"""Seconds that a busy machine may take for its own."""
RETRY = 0.3


class Scene:
    """A server, the proxy before it, and the caches of a process that reaches it so."""

    def __init__(self, stack: ExitStack, settings: Any) -> None:
        self.server = stack.enter_context(StoreServer())
        self.proxy = stack.enter_context(Proxy(self.server.socket_path))
        self.admin = redis.Redis(unix_socket_path=self.server.socket_path)
        alias = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{self.proxy.url}/0",
            "KEY_PREFIX": "s",
        }
        # The proxy lives in this process, and is as slow as that: some tests go without it.
        direct = {**alias, "LOCATION": f"unix://{self.server.socket_path}?db=0"}
        use_caches(settings, search=alias, direct=direct)
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": RETRY}
        self.cache = SearchCache(lambda: "search")
        self.cache.set("known", "cached")


@pytest.fixture
def scene(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(past, "_trail", None)  # nobody has cleared
    with ExitStack() as stack:
        yield Scene(stack, settings)


def kill(scene: Scene) -> None:
    scene.server.stop()


def freeze(scene: Scene) -> None:
    scene.server.freeze()


def swallow(scene: Scene) -> None:
    scene.proxy.swallow = True


def be_late(scene: Scene) -> None:
    scene.proxy.delay = 0.09


def be_very_late(scene: Scene) -> None:
    scene.proxy.delay = 0.5


def cut(scene: Scene) -> None:
    scene.proxy.cut_after = 3


def demote(scene: Scene) -> None:
    scene.admin.replicaof("127.0.0.1", 1)


def change_password(scene: Scene) -> None:
    scene.admin.config_set("requirepass", "another")
    scene.proxy.cut_all()


def heal(scene: Scene) -> None:
    scene.proxy.heal()
    if scene.server.process is None:
        scene.server.start()
    scene.server.thaw()
    connect = partial(redis.Redis, unix_socket_path=scene.server.socket_path)
    with suppress(redis.AuthenticationError):  # raised where the password was not changed
        connect(password="another").config_set("requirepass", "")
    scene.admin = connect()
    scene.admin.replicaof("NO", "ONE")


FAULTS = [kill, freeze, swallow, be_late, be_very_late, cut, demote, change_password]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


def timed_call(cache: SearchCache, key: Any) -> float:
    began = time.monotonic()
    assert cache.get_or_compute(key, lambda: "computed") in {"computed", "cached"}
    return time.monotonic() - began


def losses(caplog: Any) -> list[str]:
    """Return the levels of what was logged, but for the note that an emptied store is empty."""
    told = [record for record in caplog.records if "record is gone" not in record.getMessage()]
    return [record.levelname for record in told]


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no busy machine for another loss of the store."""
    monkeypatch.setattr(latency, "MAX_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(latency, "SLOW_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(client, "REPLY_TIMEOUT", 1.0)


@each_fault
def test_calls_wait_once_and_briefly_and_the_loss_is_told_once(scene, fault, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger="analytics_admin.caching")
    fault(scene)
    waited = [timed_call(scene.cache, ("new", n)) for n in range(20)]
    assert sum(waited) < LIMIT + SLACK
    assert max(waited[5:]) < 0.02
    assert losses(caplog) == ["ERROR"]
    assert "computed without it" in caplog.text
    assert "another" not in caplog.text
    assert scene.cache.counter.take().bypassed >= 15
    be_patient(monkeypatch)
    heal(scene)
    assert eventually(lambda: scene.cache.lookup("new", lambda: 1).state != "bypass")
    assert losses(caplog) == ["ERROR", "WARNING"]
    assert scene.cache.lookup("again", lambda: 1).state == "miss"
    assert scene.cache.lookup("again", lambda: 1).state == "hit"


@each_fault
def test_threads_and_tasks_wait_briefly_and_the_event_loop_not_at_all(scene, fault):
    fault(scene)
    waited: list[float] = []

    def call(n: int) -> None:
        waited.append(timed_call(scene.cache, ("thread", n)))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(waited) < LIMIT + SLACK
    other = SearchCache(lambda: "search")
    gc.collect()
    gc.disable()  # a collection of all that the tests hold stops the loop, too
    try:
        worst = asyncio.run(call_from_tasks(other))
    finally:
        gc.enable()
    assert worst["task"] < LIMIT + SLACK
    assert worst["lag"] < LIMIT / 2


async def call_from_tasks(cache: SearchCache) -> dict[str, float]:
    async def call(n: int) -> float:
        began = time.monotonic()
        assert await cache.aget_or_compute(("task", n), lambda: "computed") == "computed"
        return time.monotonic() - began

    tasks = [asyncio.create_task(call(n)) for n in range(50)]
    lag = 0.0
    while not all(task.done() for task in tasks):
        began = time.monotonic()
        await asyncio.sleep(0.005)
        lag = max(lag, time.monotonic() - began - 0.005)
    return {"task": max(task.result() for task in tasks), "lag": lag}


@pytest.mark.parametrize("empty", ["flushall", "restart", "script flush", "cut idle"])
def test_an_emptied_or_restarted_store_is_no_loss(scene, empty, caplog):
    match empty:
        case "flushall":
            scene.admin.flushall()
        case "script flush":
            scene.admin.script_flush()
        case "restart":
            scene.server.stop()
            scene.server.start()
        case "cut idle":
            scene.proxy.cut_all()
            time.sleep(0.05)
    assert scene.cache.lookup("new", lambda: 1).state == "miss"
    assert scene.cache.lookup("new", lambda: 1).state == "hit"
    assert losses(caplog) == []


def test_a_store_without_memory_still_serves_what_it_has(scene, caplog):
    scene.admin.config_set("maxmemory-policy", "noeviction")
    scene.admin.config_set("maxmemory", 1)
    for _ in range(5):
        assert scene.cache.lookup("known", lambda: 1).state == "hit"
        assert scene.cache.lookup("new", lambda: 1).value == 1
    assert caplog.text.count("results are not stored") == 1
    assert scene.cache.set("new", 1) is False
    scene.admin.config_set("maxmemory", 0)
    assert scene.cache.lookup("new", lambda: 1).state == "miss"
    assert scene.cache.lookup("new", lambda: 1).state == "hit"


def test_one_silence_costs_one_call_a_moment_and_is_no_loss(scene, caplog):
    for _ in range(5):
        scene.proxy.fault = Fault(word=b"GETRANGE", deliver=False)
        assert scene.cache.lookup("known", lambda: 1).state == "bypass"
        assert scene.cache.lookup("known", lambda: 1).state == "hit"
    assert losses(caplog) == []


def test_a_large_value_may_be_on_its_way_for_longer_than_a_silence(scene):
    large = "x" * 500_000
    assert scene.cache.set("large", large)
    scene.proxy.delay = SILENT_SECONDS + 0.02
    assert scene.cache.set("large", large)
    assert scene.cache.set("small", 1) is False


def test_what_could_not_be_removed_is_said_aloud_and_a_value_not_stored_is_told(scene):
    kill(scene)
    with pytest.raises(StoreUnavailable):
        scene.cache.delete("known")
    with pytest.raises(StoreUnavailable):
        scene.cache.clear_tags(["x"])
    assert scene.cache.set("q", 1) is False
    assert scene.cache.get("q", 5) == 5
    assert scene.cache.get_many(["q"]) == {}


def test_a_name_that_cannot_be_looked_up_holds_nobody(scene, monkeypatch):
    free = threading.Event()
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *args, **kwargs: free.wait(20) and lookup(*args, **kwargs)
    )
    cache = SearchCache(lambda: "search")
    assert sum(timed_call(cache, n) for n in range(10)) < LIMIT + SLACK
    free.set()
    assert eventually(lambda: cache.lookup("q", lambda: 1).state != "bypass")


def test_a_result_whose_fill_hung_does_not_survive_a_clear(scene):
    def compute() -> str:
        scene.server.freeze()
        return "old"

    assert scene.cache.get_or_compute("q", compute) == "old"
    heal(scene)
    scene.admin.flushall()
    assert eventually(lambda: scene.cache.lookup("other", lambda: 1).state != "bypass")
    assert scene.cache.get("q") is None


def test_outages_leave_no_thread_and_no_connection(scene):
    def lose_and_return() -> None:
        scene.proxy.swallow = True
        scene.cache.get("known")
        scene.proxy.heal()
        assert eventually(lambda: scene.cache.set("known", 1))

    lose_and_return()
    before = threading.active_count()
    connections = scene.admin.info("clients")["connected_clients"]
    for _ in range(5):
        lose_and_return()
    assert eventually(lambda: threading.active_count() <= before + 12)
    assert scene.admin.info("clients")["connected_clients"] <= connections + 3


def test_a_forked_child_shares_no_connection_and_no_lock(scene):
    def child() -> int:
        for n in range(200):
            if scene.cache.get_or_compute(("child", n), lambda n=n: n) != n:
                return 1
        return 0 if scene.cache.get("known") == "cached" else 2

    scene.cache.get_or_compute("warm", lambda: 1)
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            code = child()
        finally:
            os._exit(code)
    for n in range(200):
        assert scene.cache.get_or_compute(("parent", n), lambda n=n: n) == n
    assert os.waitpid(pid, 0)[1] == 0
    assert scene.cache.get("known") == "cached"


def test_thousands_of_tasks_and_hundreds_of_threads_at_once_are_no_outage(scene):
    SearchCache(lambda: "direct").set("known", "cached")
    # A machine that stands still in the middle is an outage by design: not three times in a row.
    assert any(_seen_by_tasks(3000) == {"cached"} for _ in range(3))
    assert any(_seen_by_threads(300) == {"cached"} for _ in range(3))


def _seen_by_tasks(number: int) -> set[str]:
    """Return what so many tasks get of one new cache at once."""
    cache = SearchCache(lambda: "direct")

    async def main() -> list[str]:
        asked = (cache.aget_or_compute("known", lambda: "computed") for _ in range(number))
        return await asyncio.gather(*asked)

    return set(asyncio.run(main()))


def _seen_by_threads(number: int) -> set[str]:
    """Return what so many threads get of one new cache at once."""
    fresh, seen = SearchCache(lambda: "direct"), []
    together = threading.Barrier(number)

    def call() -> None:
        together.wait(20)
        seen.append(fresh.get_or_compute("known", lambda: "computed"))

    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(seen)


def test_settings_by_which_no_store_can_be_reached_break_no_search(settings, caplog):
    broken = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://u:hidden@h:port/0"}
    use_caches(settings, search=broken)
    cache = SearchCache(lambda: "search")
    for _ in range(3):
        assert cache.lookup("q", lambda: 1).state == "bypass"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "hidden" not in caplog.text


def test_connections_can_be_lost_and_opened_without_end(scene, caplog):
    for _ in range(150):
        scene.proxy.cut_all()
        assert scene.cache.get("known") == "cached"
    assert caplog.records == []
