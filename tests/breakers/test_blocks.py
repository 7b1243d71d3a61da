"""Each ``with`` block ends the permit with which it began, wherever and whenever it ends."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import pytest

from analytics_admin.breakers import CircuitBreaker
from analytics_admin.breakers.state import Counts, Snapshot
from tests.support.simulation import SimulatedSite

NAME = "search"
WAIT = 60.0


@pytest.fixture
def breaker(site: SimulatedSite) -> CircuitBreaker:
    """Return a closed breaker whose calls pass unchecked."""
    breaker = site.process(NAME, failure_threshold=1, wait_duration_in_open_state=WAIT)
    breaker.call(int)
    breaker.call(int)
    assert breaker.local_state.passes_until > site.clock.monotonic()
    return breaker


def trip(site: SimulatedSite, breaker: CircuitBreaker) -> None:
    """Open the breaker and let its wait end: the next call is a probe."""
    breaker.acquire().fail()
    assert breaker.state == "open"
    site.clock.now += WAIT


def stored(breaker: CircuitBreaker) -> Snapshot:
    breaker.engine.expire(NAME)
    assert breaker.state
    assert breaker.local_state.snapshot is not None
    return breaker.local_state.snapshot


def state_of(breaker: CircuitBreaker) -> str:
    return stored(breaker).state.value


class Guard:
    """A class that enters the breaker in methods of its own."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker

    def __enter__(self) -> None:
        self.breaker.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.breaker.__exit__(*error)


def plainly(breaker: CircuitBreaker, then: Callable[[], Any]) -> Iterator[int]:
    with breaker:
        yield 1
        then()


def stacked(breaker: CircuitBreaker, then: Callable[[], Any]) -> Iterator[int]:
    with ExitStack() as stack:
        stack.enter_context(breaker)
        yield 1
        then()


def guarded(breaker: CircuitBreaker, then: Callable[[], Any]) -> Iterator[int]:
    with Guard(breaker):
        yield 1
        then()


def down() -> None:
    raise OSError("the backend is still down")


@pytest.mark.parametrize("pages", [plainly, stacked, guarded])
def test_interleaved_generators_end_each_its_own_permit(site, breaker, pages):
    old = pages(breaker, int)
    next(old)
    trip(site, breaker)
    probe = pages(breaker, down)
    next(probe)
    with suppress(StopIteration):
        next(old)
    assert state_of(breaker) == "half_open"  # a call from before the trip proves nothing
    with suppress(OSError):
        next(probe)
    assert state_of(breaker) == "open"


@pytest.mark.parametrize("pages", [plainly, stacked, guarded])
def test_interleaved_generators_may_end_in_any_order(site, breaker, pages):
    old = pages(breaker, int)
    next(old)
    trip(site, breaker)
    probe = pages(breaker, int)
    next(probe)
    with suppress(StopIteration):
        next(probe)
    assert state_of(breaker) == "closed"
    old.close()
    assert stored(breaker).counts == Counts()


def test_nested_blocks_in_one_frame_end_from_the_inside(site, breaker):
    with breaker as outer:
        trip(site, breaker)
        with breaker as probe:
            assert probe is not outer
        assert state_of(breaker) == "closed"
        with suppress(OSError), breaker:
            raise OSError
        assert state_of(breaker) == "open"
    assert state_of(breaker) == "open"


def test_a_recursive_function_has_a_block_per_call(breaker):
    def descend(depth: int) -> None:
        with breaker:
            if depth:
                descend(depth - 1)

    before = stored(breaker).counts.calls
    descend(9)
    assert stored(breaker).counts.calls == before + 10
    assert not breaker._blocks


def test_the_permit_of_a_block_may_report_before_its_end(breaker):
    with breaker as permit:
        permit.release()
    before = stored(breaker).counts
    with breaker as permit:
        permit.fail()
    assert stored(breaker).state.value == "open"
    assert before.failures == 0


def test_a_released_block_counts_as_nothing(breaker):
    before = stored(breaker).counts
    with breaker as permit:
        permit.release()
    assert stored(breaker).counts == before


def test_a_block_that_began_before_a_trip_and_fails_after_it_changes_nothing(site, breaker):
    with suppress(OSError), breaker:
        trip(site, breaker)
        breaker.acquire().succeed()
        raise OSError
    assert state_of(breaker) == "closed"


def test_an_end_without_a_beginning_does_no_harm(breaker):
    breaker.__exit__(None, None, None)
    with breaker:
        pass
    assert state_of(breaker) == "closed"


def test_a_block_entered_in_one_method_ends_in_another(site, breaker):
    trip(site, breaker)
    guard = Guard(breaker)

    def begin() -> None:
        guard.__enter__()

    begin()
    guard.__exit__(None, None, None)
    assert state_of(breaker) == "closed"
    assert not breaker._blocks


def test_threads_that_enter_by_hand_end_each_their_own(site, breaker):
    entered, go_on = threading.Event(), threading.Event()

    def call_long_ago() -> None:
        guard = Guard(breaker)
        enter(guard)
        entered.set()
        go_on.wait(10)
        guard.__exit__(None, None, None)

    def enter(guard: Guard) -> None:
        guard.__enter__()

    thread = threading.Thread(target=call_long_ago)
    thread.start()
    entered.wait(10)
    trip(site, breaker)
    probe = Guard(breaker)
    enter(probe)
    go_on.set()
    thread.join()
    assert state_of(breaker) == "half_open"
    probe.__exit__(None, None, None)
    assert state_of(breaker) == "closed"


def test_a_generator_may_end_in_another_thread(site, breaker):
    trip(site, breaker)
    probe = plainly(breaker, int)
    next(probe)
    thread = threading.Thread(target=list, args=(probe,))
    thread.start()
    thread.join()
    assert state_of(breaker) == "closed"


def test_a_generator_in_a_garbage_cycle_gives_its_permit_back(site, breaker):
    trip(site, breaker)
    holder: dict[str, Any] = {}
    holder["self"] = holder
    holder["probe"] = plainly(breaker, int)
    next(holder["probe"])
    assert state_of(breaker) == "half_open"
    del holder
    gc.collect()
    assert not breaker._blocks
    with breaker:
        pass
    assert state_of(breaker) == "closed"


def test_a_block_keeps_nothing_after_its_end(breaker):
    for _ in range(3):
        with breaker:
            pass
    with suppress(OSError), breaker:
        raise OSError
    assert not breaker._blocks


async def stream(breaker: CircuitBreaker) -> AsyncIterator[int]:
    async with breaker:
        for number in range(3):
            yield number


async def stacked_stream(breaker: CircuitBreaker) -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(breaker)
        for number in range(3):
            yield number


@pytest.mark.parametrize("open_stream", [stream, stacked_stream])
def test_the_steps_of_a_stream_may_run_in_tasks_of_their_own(site, breaker, open_stream):
    trip(site, breaker)

    async def read() -> list[int]:
        numbers = open_stream(breaker)
        return [await asyncio.create_task(anext(numbers)) for _ in range(3)] + [
            number async for number in numbers
        ]

    assert asyncio.run(read()) == [0, 1, 2]
    assert state_of(breaker) == "closed"
    assert not breaker._blocks


@pytest.mark.parametrize("open_stream", [stream, stacked_stream])
def test_a_stream_left_open_gives_its_permit_back_when_the_loop_ends(site, breaker, open_stream):
    trip(site, breaker)
    streams = []

    async def read() -> None:
        streams.append(open_stream(breaker))
        await anext(streams[0])

    asyncio.run(read())
    assert not breaker._blocks
    with breaker:
        pass
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize("open_stream", [stream, stacked_stream])
def test_interleaved_streams_end_each_their_own_permit(site, breaker, open_stream):
    async def use() -> None:
        old = open_stream(breaker)
        await asyncio.create_task(anext(old))
        trip(site, breaker)
        probe = open_stream(breaker)
        await asyncio.create_task(anext(probe))
        async for _ in old:
            pass
        assert state_of(breaker) == "half_open"
        with suppress(OSError):
            await probe.athrow(OSError())

    asyncio.run(use())
    assert state_of(breaker) == "open"


def test_a_thousand_tasks_in_async_blocks_leave_nothing_behind(breaker):
    async def call(number: int) -> None:
        async with breaker as permit:
            await asyncio.sleep(0)
            if number % 2:
                permit.release()

    async def use() -> None:
        await asyncio.gather(*map(call, range(1000)))

    before = stored(breaker).counts.calls
    asyncio.run(use())
    assert stored(breaker).counts.calls == before + 500
    assert not breaker._blocks


@pytest.mark.filterwarnings("error")
def test_call_refuses_a_coroutine_function_also_while_closed(breaker):
    async def fetch() -> None:
        pytest.fail("it ran")

    before = stored(breaker).counts
    with pytest.raises(TypeError, match="acall"):
        breaker.call(fetch)
    with pytest.raises(TypeError, match="acall"):
        breaker.call(fetch, fallback=None)
    gc.collect()  # a coroutine that nobody awaited would warn here
    assert stored(breaker).counts == before


def test_call_returns_the_coroutine_of_a_plain_function(breaker):
    async def answer() -> int:
        return 42

    def begin() -> Any:
        return answer()

    assert asyncio.run(breaker.call(begin)) == 42
