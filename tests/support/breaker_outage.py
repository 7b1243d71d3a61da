"""What a process of the site goes through while the breakers' store is away, told as figures.

The functions run in the process itself, one after the other; ``begin`` comes first.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.permit import Permit
from tests.support.backend import BackendDown
from tests.support.sites import eventually
from tests.support.together import in_tasks, in_threads

SYNC = 0.05
"""SYNC_INTERVAL of the tests, in seconds: nearly every call wants to hear from the store."""
RETRY = 0.3
"""STORE_RETRY_INTERVAL of the tests, in seconds."""
TOGETHER = 50
"""Threads, and tasks of an event loop, that call at once."""

OTHERS = ("calls", "failures", "tasks")
breakers: dict[str, CircuitBreaker] = {}
logged: list[str] = []
store_changes: list[str | None] = []
transitions: list[tuple[str, str, str, str]] = []
held: list[Permit] = []
resolver_free = threading.Event()


class _Listening(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(f"{record.levelname} {record.getMessage()}")


def _note_store(reason: str | None, **_: Any) -> None:
    store_changes.append(reason)


def _note_state(name: str, from_state: str, to_state: str, cause: str, **_: Any) -> None:
    transitions.append((name, from_state, to_state, cause))


def begin(others: Sequence[str] = ()) -> None:
    """Listen to the engine, and hold a breaker that is closed and one that is open.

    ``others`` are breakers that are each held as one more process of the site would.
    """
    from django.test import override_settings

    from analytics_admin.breakers import circuit_breaker
    from analytics_admin.signals import breaker_state_changed, breaker_store_changed
    from tests.support.breakers import another

    site = {"SYNC_INTERVAL": SYNC, "STORE_RETRY_INTERVAL": RETRY}
    override_settings(ANALYTICS_ADMIN=site).enable()
    logging.getLogger("analytics_admin.breakers").addHandler(_Listening())
    breaker_store_changed.connect(_note_store)
    breaker_state_changed.connect(_note_state)
    breakers["search"] = circuit_breaker("search", failure_threshold=5)
    breakers["tripped"] = circuit_breaker("tripped", failure_threshold=1)
    for name in others:
        breakers[name] = another(name, failure_threshold=5)
    fail("tripped")
    for name in ("search", *others):
        assert breakers[name].call(lambda: "result") == "result"
    assert state("search") == "closed"
    forget_news()


def forget_news() -> None:
    for news in (logged, store_changes, transitions):
        news.clear()


def news() -> dict[str, list[Any]]:
    return {"logged": logged, "store_changes": store_changes, "transitions": transitions}


def is_lost(name: str) -> bool:
    return breakers[name].engine.outage.stand_in is not None


def shared_state(name: str) -> str:
    """Return the state in the store, whatever this process has opened alone."""
    from analytics_admin.breakers.runtime import operator_store

    snapshot = operator_store().load_many([name]).snapshots[name]
    return "closed" if snapshot is None else snapshot.state.value


def state(name: str) -> str:
    return breakers[name].state


def fail(name: str, times: int = 1) -> None:
    """Have the backend fail that often; nothing but its own exception may come out."""

    def search() -> None:
        raise BackendDown

    for _ in range(times):
        try:
            breakers[name].call(search)
        except BackendDown:
            continue
        raise AssertionError("the backend's exception was lost")


def hear() -> None:
    """Have the breakers read what the store holds, however long a busy machine takes."""
    for breaker in breakers.values():
        assert breaker.state
        assert eventually(lambda engine=breaker.engine: engine.report_all(1), seconds=10)


def rejects(name: str) -> bool:
    try:
        breakers[name].acquire().release()
    except CircuitOpenError:
        return True
    return False


def timed_call(breaker: CircuitBreaker) -> float:
    """Return the seconds that a call of no duration took; its result must come out untouched."""
    result = object()
    began = time.monotonic()
    assert breaker.call(lambda: result) is result
    return time.monotonic() - began


def call_until_noticed(seconds: float) -> list[float]:
    """Call one after the other until the loss is known, and as often again; return durations."""
    durations: list[float] = []
    end = time.monotonic() + seconds
    while not is_lost("search") and time.monotonic() < end:
        durations.append(timed_call(breakers["search"]))
        time.sleep(SYNC)
    for _ in range(3):
        durations.append(timed_call(breakers["search"]))
        time.sleep(SYNC)
    return durations


def call_from_threads(cold: bool = False) -> list[float]:
    """Call from many threads at once, in a process that knows the store or has never asked it."""
    from tests.support.breakers import another

    breaker = another("new", failure_threshold=5) if cold else breakers["calls"]
    return in_threads(TOGETHER, lambda _: timed_call(breaker))


def hold_permits() -> None:
    """Begin as many calls as will fail at once."""
    held[:] = [breakers["failures"].acquire() for _ in range(TOGETHER)]


def fail_from_threads() -> list[float]:
    """Have the calls begun before all fail at once; return how long each took to say so."""

    def report() -> float:
        permit = held.pop()
        began = time.monotonic()
        permit.fail(BackendDown())
        return time.monotonic() - began

    return in_threads(TOGETHER, lambda _: report())


def call_from_tasks() -> tuple[list[float], float]:
    """Call from many tasks at once; return their durations and the loop's longest hold-up."""
    breaker = breakers["tasks"]

    async def search() -> object:
        return breaker

    async def call(_: int) -> float:
        began = time.monotonic()
        assert await breaker.acall(search) is breaker
        return time.monotonic() - began

    return in_tasks(TOGETHER, call)


def reset_as_operator() -> str:
    """Return what an operator is told who resets all breakers now."""
    from analytics_admin.breakers import control
    from analytics_admin.breakers.stores.base import StoreUnavailable

    try:
        control.reset(None, only_open=False)
    except StoreUnavailable as error:
        return error.reason
    return "done"


def comes_back() -> bool:
    """Say whether the store's return has been told to each engine, calling meanwhile."""

    def told() -> bool:
        timed_call(breakers["search"]) if state("search") == "closed" else None
        return None in store_changes and not any(map(is_lost, breakers))

    return eventually(told, seconds=10)


def used() -> dict[str, int]:
    """Return how many threads of the engine's and open files this process has now."""
    own = [thread for thread in threading.enumerate() if "circuit breaker" in thread.name]
    return {"threads": len(own), "files": len(os.listdir("/proc/self/fd"))}


def hang_name_resolution() -> None:
    """Have every look-up of a host name wait until ``free_name_resolution``."""
    real = socket.getaddrinfo

    def getaddrinfo(*arguments: Any, **options: Any) -> Any:
        resolver_free.wait()
        return real(*arguments, **options)

    resolver_free.clear()
    socket.getaddrinfo = getaddrinfo


def free_name_resolution() -> None:
    resolver_free.set()


def lose_and_return(times: int) -> None:
    """Live through that many outages, each begun by a store that refuses writes for a moment."""
    from django.core.cache import caches

    client = caches["breakers"].client.get_client(write=True)
    for _ in range(times):
        forget_news()
        client.config_set("maxmemory", 1)
        in_threads(TOGETHER, lambda _: timed_call(breakers["search"]))
        fail("search")
        assert eventually(lambda: len(store_changes) == 1), store_changes
        client.config_set("maxmemory", 0)
        assert comes_back()


def fork_and_call() -> dict[str, Any]:
    """Fork while other threads call, and return what the child saw."""
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            timed_call(breakers["search"])

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        began = time.monotonic()
        fail("search", 5)
        took = time.monotonic() - began
        os.write(writer, f"{state('search')} {state('tripped')} {took:.3f}".encode())
        os.close(writer)
        os._exit(0 if comes_back() else 1)
    stop.set()
    for thread in threads:
        thread.join()
    os.close(writer)
    with os.fdopen(reader) as answer:
        now, tripped, took = answer.read().split()
    return {"pid": pid, "states": (now, tripped), "took": float(took)}


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_successes(number: int) -> None:
    """Have successes that the store has not been told of, for the end of the process to tell."""
    for _ in range(number):
        timed_call(breakers["search"])
