"""Single flight within one process, whatever becomes of the store, the leader and its loop."""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.caching import SearchCache, lease
from analytics_admin.caching.lease import RefreshPauses
from analytics_admin.caching.renewal import MAX_RENEWALS
from analytics_admin.caching.singleflight import REFUSED, Caller, SingleFlight, fresh_copy
from analytics_admin.caching.stores.base import EntryKeys
from tests.support.backend import BackendDown
from tests.support.cache_aliases import raw, redis_alias, use_caches
from tests.support.search_caches import STORES, Backend, InThread, another, use_store
from tests.support.servers import StoreServer
from tests.support.stopwatch import Stopwatch

CALLERS = 40
LEASE = 0.1


@pytest.fixture
def server() -> Iterator[StoreServer]:
    with StoreServer(maxmemory_policy="noeviction") as server:
        yield server


def use_server(settings: Any, server: StoreServer, **options: Any) -> SearchCache:
    use_caches(settings, search=redis_alias("s", url=server.url))
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_LEASE": LEASE, "STORE_RETRY_INTERVAL": 60, **options}
    cache = another()
    cache.get("connected")
    return cache


def outcomes(calls: list[InThread]) -> set[Any]:
    """Return what the calls returned, or the types of what they raised."""
    found = set()
    for call in calls:
        try:
            found.add(call.result())
        except Exception as error:
            found.add(type(error))
    return found


def lose(server: StoreServer, cache: SearchCache) -> None:
    server.stop()
    assert cache.lookup("other", lambda: 1).state == "bypass"


def fill_up(server: StoreServer, cache: SearchCache) -> None:
    raw().config_set("maxmemory", 1)


FAULTS: dict[str, Callable[[StoreServer, SearchCache], None]] = {
    "no fault": lambda server, cache: None,
    "away": lose,
    "full": fill_up,
    "frozen": lambda server, cache: server.freeze(),
}


@pytest.mark.hurried
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("error", [None, BackendDown()], ids=["computes", "fails"])
def test_of_all_callers_one_computes(settings, server, fault, error):
    cache = use_server(settings, server)
    fault(server, cache)
    backend = Backend("found")
    backend.go_on.clear()
    backend.error = error
    calls = [InThread(lambda: cache.get_or_compute("q", backend)) for _ in range(CALLERS)]
    assert backend.begun.wait(20)
    time.sleep(2.5 * LEASE)
    backend.go_on.set()
    assert outcomes(calls) == {"found" if error is None else BackendDown}
    assert backend.calls == 1
    counts = cache.counter.take()
    assert (counts.calls, counts.compute_errors) == (
        CALLERS + (fault is lose) + 1,
        error is not None,
    )


@pytest.mark.hurried
@pytest.mark.parametrize(
    "loss", [lambda server: server.stop(), lambda server: server.freeze()], ids=["gone", "frozen"]
)
def test_of_all_callers_one_computes_if_the_store_is_lost_meanwhile(settings, server, loss):
    cache = use_server(settings, server, SEARCH_CACHE_LEASE=1)
    backend = Backend("found")
    backend.go_on.clear()
    calls = [InThread(lambda: cache.get_or_compute("q", backend)) for _ in range(CALLERS)]
    assert backend.begun.wait(20)
    time.sleep(0.1)
    loss(server)
    backend.go_on.set()
    assert outcomes(calls) == {"found"}
    assert backend.calls == 1


def test_without_the_store_a_later_call_computes_anew(settings, server):
    cache = use_server(settings, server)
    lose(server, cache)
    assert [cache.get_or_compute("q", lambda n=n: n) for n in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "act", [lambda c: c.delete("q"), lambda c: c.clear_tags(["x"])], ids=["delete", "clear_tags"]
)
def test_nobody_waits_for_what_began_before_an_act_of_the_own_process(settings, server, act):
    """Also where no lease can be voided, as in a store that is full."""
    cache = use_server(settings, server)
    cache.set("other", 1, tags=["x"])  # so that the tag has an epoch
    fill_up(server, cache)
    slow = Backend("old")
    slow.go_on.clear()
    first = InThread(lambda: cache.get_or_compute("q", slow, tags=["x"]))
    assert slow.begun.wait(20)
    act(cache)
    assert cache.get_or_compute("q", lambda: "new", tags=["x"]) == "new"
    slow.go_on.set()
    assert first.result() == "old"


# Leases


@STORES
def test_a_lease_is_renewed_while_its_process_computes(settings, kind):
    use_store(settings, kind, SEARCH_CACHE_LEASE=LEASE)
    cache, other = another(), another()
    slow, never = Backend("found"), Backend("never")
    slow.go_on.clear()
    first = InThread(lambda: cache.get_or_compute("q", slow))
    assert slow.begun.wait(20)
    waiting = InThread(lambda: other.get_or_compute("q", never))
    time.sleep(3.5 * LEASE)
    slow.go_on.set()
    assert (first.result(), waiting.result(), never.calls) == ("found", "found", 0)


@STORES
@pytest.mark.parametrize("same_process", [True, False])
def test_a_computation_that_hangs_is_given_up(settings, kind, same_process):
    seconds = 0.1
    use_store(settings, kind, SEARCH_CACHE_LEASE=seconds)
    cache = another()
    hung = Backend("late")
    hung.go_on.clear()
    first = InThread(lambda: cache.get_or_compute("q", hung))
    assert hung.begun.wait(20)
    watch, caller = time.monotonic(), cache if same_process else another()
    assert caller.get_or_compute("q", Backend("new")) == "new"
    assert 3 * seconds < time.monotonic() - watch < MAX_RENEWALS * seconds + 1
    assert caller.get("q") == "new"
    hung.go_on.set()
    assert first.result() == "late"
    assert caller.get("q") == "new"


@STORES
def test_a_deadline_further_ahead_than_a_lease_holds_nobody_up(settings, kind):
    """The store's clock was set back."""
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.5)
    client = another()._connect()
    request = client.request("q")
    client.access.run(lambda store: store.claim(request.keys, request.ttl(), lease=3600))
    watch = Stopwatch()
    assert another().get_or_compute("q", Backend("new")) == "new"
    assert watch.seconds < 0.4
    assert another().get("q") == "new"


def test_of_two_ends_at_the_same_moment_the_first_counts():
    flights = SingleFlight()
    flight, _ = flights.join(EntryKeys("r", "e", "l", ()), Caller(0.0, 0.0, None), lease=1.0)
    flights.end(flight, REFUSED)
    flight.future.done = lambda: False  # type: ignore[method-assign]  as it was when both looked
    flights.end(flight)
    assert flight.future.result() is REFUSED


# Exceptions


class Plain(Exception):
    pass


class Awkward(Exception):
    def __init__(self, code: int, *, retry: bool) -> None:
        super().__init__(f"code {code}")
        self.code, self.retry = code, retry


class Unique(Exception):
    def __new__(cls, *args: object) -> "Unique":
        if args != ("first",):
            raise TypeError
        return super().__new__(cls)

    def __reduce__(self) -> Any:
        raise TypeError


@pytest.mark.parametrize(
    "error",
    [
        Plain("a", 1),
        Awkward(7, retry=True),
        CircuitOpenError("catalog", "open", 5.0),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
)
def test_each_caller_raises_a_copy_of_its_own(error):
    error.add_note("noted")
    try:
        raise error from BackendDown("cause")
    except Exception as raised:
        twin = fresh_copy(raised)
    assert twin is not error
    assert (type(twin), twin.args, str(twin)) == (type(error), error.args, str(error))
    assert vars(twin) == vars(error)
    assert twin.__cause__ is error.__cause__
    depth = len(traceback.extract_tb(error.__traceback__))
    with pytest.raises(type(error)):
        raise twin
    assert len(traceback.extract_tb(error.__traceback__)) == depth
    twin.add_note("another")
    assert error.__notes__ == ["noted"]


def test_an_exception_that_cannot_be_copied_is_shared():
    error = Unique("first")
    error.args = ("changed",)
    assert fresh_copy(error) is error


# Leaders that leave


@STORES
def test_a_leader_that_is_interrupted_passes_the_lead_on(settings, kind):
    use_store(settings, kind)
    cache, begun, go_on = another(), threading.Event(), threading.Event()

    def interrupt() -> None:
        begun.set()
        go_on.wait(20)
        raise KeyboardInterrupt

    first = InThread(lambda: cache.get_or_compute("q", interrupt))
    assert begun.wait(20)
    second = Backend("second")
    waiting = [InThread(lambda: cache.get_or_compute("q", second)) for _ in range(10)]
    time.sleep(0.05)
    watch = Stopwatch()
    go_on.set()
    assert {call.result() for call in waiting} == {"second"}
    assert (second.calls, watch.seconds < 1) == (1, True)
    with pytest.raises(KeyboardInterrupt):
        first.result()


async def hang() -> None:
    await asyncio.Event().wait()


def leave_behind(task: Callable[[], Any], *, close: bool) -> list[Any]:
    """Run a task in a loop that ends before it; keep both, so that nothing is collected."""
    loop = asyncio.new_event_loop()
    kept = [loop, loop.create_task(task())]
    loop.run_until_complete(asyncio.sleep(0.1))
    if close:
        loop.close()
    return kept


@STORES
@pytest.mark.parametrize("close", [True, False], ids=["closed", "stopped"])
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "later"])
def test_a_leader_whose_loop_has_ended_holds_nobody_up(settings, kind, close, waits):
    use_store(settings, kind)
    cache = another()
    calls = []
    if waits:
        begun = threading.Event()

        async def begin() -> None:
            begun.set()
            await hang()

        def wait() -> Any:
            assert begun.wait(20)
            return cache.get_or_compute("q", Backend("new"))

        calls.append(InThread(wait))
        kept = leave_behind(lambda: cache.aget_or_compute("q", begin), close=close)
    else:
        kept = leave_behind(lambda: cache.aget_or_compute("q", hang), close=close)
    watch = Stopwatch()
    assert cache.get_or_compute("q", Backend("new")) == "new"
    assert {call.result() for call in calls} <= {"new"}
    assert watch.seconds < 1
    assert another().get("q") == "new"
    kept[1].get_coro().close()
    assert another().get("q") == "new"


@STORES
def test_the_lease_of_a_loop_that_has_ended_is_given_back(settings, kind):
    use_store(settings, kind, SEARCH_CACHE_LEASE=0.5)
    cache = another()
    kept = leave_behind(lambda: cache.aget_or_compute("q", hang), close=True)
    watch = Stopwatch()
    assert another().get_or_compute("q", Backend("new")) == "new"  # in another process
    assert watch.seconds < 1
    kept[1].get_coro().close()


@STORES
def test_a_call_of_async_to_sync_that_is_cut_off_gives_its_lease_back_at_once(settings, kind):
    use_store(settings, kind)
    cache = another()

    async def view() -> str:
        task = asyncio.create_task(cache.aget_or_compute("q", hang))
        await asyncio.sleep(0.05)
        return "answer" if not task.done() else "done"

    for _ in range(3):
        assert async_to_sync(view)() == "answer"
        watch = Stopwatch()
        assert another().get_or_compute("q", Backend("new")) == "new"
        assert watch.seconds < 0.5
        cache.delete("q")


@STORES
def test_two_computations_that_ask_for_each_others_values_do_not_wait_for_ever(settings, kind):
    use_store(settings, kind)
    cache, both = another(), threading.Barrier(2)

    def compute(other: str) -> Callable[[], list[Any]]:
        def ask_for_other() -> list[Any]:
            both.wait(20)
            return [cache.get_or_compute(other, lambda: "inner")]

        return ask_for_other

    watch = Stopwatch()
    calls = [
        InThread(lambda k=k, o=o: cache.get_or_compute(k, compute(o))) for k, o in ("ab", "ba")
    ]
    found = [call.result() for call in calls]
    assert ["inner"] in found
    assert watch.seconds < 2


# No threads to be had


def test_without_threads_calls_compute_and_the_store_comes_back(settings, server, monkeypatch):
    import _thread

    cache = use_server(settings, server, STORE_RETRY_INTERVAL=0.05)
    assert cache.lookup("a", lambda: 1).state == "miss"
    done, states = _thread.allocate_lock(), []
    done.acquire()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def call() -> None:
        try:
            lone = another()
            states.append(lone.lookup("b", lambda: 1).state)
            server.stop()
            states.append(lone.lookup("b", lambda: 1).state)
            time.sleep(0.1)
            states.append(lone.lookup("b", lambda: 1).state)
            server.start()
            time.sleep(0.1)
            lone.lookup("b", lambda: 1)
            states.extend(lone.lookup("b", lambda: 1).state for _ in range(2))
        finally:
            done.release()

    monkeypatch.setattr(threading.Thread, "start", refuse)
    _thread.start_new_thread(call, ())
    assert done.acquire(timeout=20), "the call hangs"
    assert states[:3] == ["miss", "bypass", "bypass"]
    assert states[-1] == "hit"


def test_a_full_store_serves_what_it_has_stores_nothing_and_takes_removals(settings, server):
    cache = use_server(settings, server)
    for key in ("kept", "deleted", "tagged"):
        cache.set(key, "old", tags=["x"] if key == "tagged" else [])
    cache.set("stale", "old", timeout=0.001, stale_for=60)
    fill_up(server, cache)
    time.sleep(0.005)
    assert cache.lookup("kept", Backend()).state == "hit"
    stale = cache.lookup("stale", Backend(), stale_for=60)
    assert (stale.value, stale.state) == ("old", "stale")
    assert cache.set("kept", "new") is False
    assert cache.get("kept") == "old"
    assert cache.delete("deleted") is True
    cache.clear_tags(["x"])
    for key in ("deleted", "tagged", "missing"):
        for _ in range(2):
            found = cache.lookup(key, Backend(), tags=["x"] if key == "tagged" else [])
            assert (found.value, found.state) == ("found", "bypass")


@pytest.mark.hurried
def test_a_call_whose_turn_comes_after_its_caller_has_left_is_not_made(settings):
    use_store(settings, "redis")
    cache = another()
    cache.get("connected")
    executor = cache._connect().access._executor
    go_on = threading.Event()

    async def main() -> bool:
        for _ in range(4):  # each of its threads is busy
            executor.submit(lambda: go_on.wait(20))
        return await cache.aset("q", "late")

    assert asyncio.run(main()) is False
    other = another()
    other.set("q", "new")
    go_on.set()
    time.sleep(0.2)
    assert other.get("q") == "new"


def test_pauses_grow_and_are_bounded(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    pauses, keys = RefreshPauses(), EntryKeys("r", "e", "l", ())
    lengths = []
    for _ in range(10):
        pauses.note_failure(keys, BackendDown())
        began = clock[0]
        while pauses.holds(keys):
            clock[0] += 0.1
        lengths.append(clock[0] - began)
    assert lengths[0] == 0
    assert lengths[1] == pytest.approx(1, abs=0.3)
    assert lengths[2] == pytest.approx(2, abs=0.4)
    assert max(lengths) == lengths[-1] or lengths[-1] == pytest.approx(30, abs=3.2)
    for number in range(3000):
        pauses.note_failure(EntryKeys("r", str(number), "l", ()), BackendDown())
    assert len(pauses._failures) == RefreshPauses.MAX_KEYS
