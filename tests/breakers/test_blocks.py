"""Each ``with`` block ends the permit with which it began, wherever and whenever it ends."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any, ClassVar

import pytest

from analytics_admin.breakers import CircuitBreaker
from analytics_admin.breakers.breaker import MAX_STRAY_BLOCKS
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


class Session:
    """A client that keeps the breaker in a stack of its own."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker

    async def __aenter__(self) -> None:
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.breaker)

    async def __aexit__(self, *error: Any) -> None:
        await self.stack.__aexit__(*error)


class CarefulSession(Session):
    """One that closes what it has opened if it cannot open the rest."""

    async def __aenter__(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.breaker)
            self.stack = stack.pop_all()


class Connection:
    """One that opens and closes what is a level deeper."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.guard = Session(breaker)

    async def __aenter__(self) -> None:
        await self.open()

    async def open(self) -> None:
        await self.guard.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self.close(*error)

    async def close(self, *error: Any) -> None:
        await self.guard.__aexit__(*error)


class ByHand(Session):
    async def __aenter__(self) -> None:
        await self.breaker.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self.breaker.__aexit__(*error)


class ThroughFunctions(Session):
    async def __aenter__(self) -> None:
        await enter(self.breaker)

    async def __aexit__(self, *error: Any) -> None:
        await leave(self.breaker, *error)


class Synchronous(Session):
    async def __aenter__(self) -> None:
        self.inner = ExitStack()
        self.inner.enter_context(self.breaker)

    async def __aexit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)


class Helped(AsyncExitStack):
    """A request's stack, which a task fills."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        super().__init__()
        self.breaker = breaker

    async def __aenter__(self) -> "Helped":
        await asyncio.create_task(enter_into(self, self.breaker))
        return self


class Hooked(Session):
    """Hooks of a client that all calls share."""

    hooks: ClassVar[dict[CircuitBreaker, ByHand]] = {}

    async def __aenter__(self) -> None:
        self.hooks.setdefault(self.breaker, ByHand(self.breaker))
        await self.hooks[self.breaker].__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self.hooks[self.breaker].__aexit__(*error)


async def enter(breaker: CircuitBreaker) -> None:
    await breaker.__aenter__()


async def leave(breaker: CircuitBreaker, *error: Any) -> None:
    await breaker.__aexit__(*error)


async def enter_into(stack: AsyncExitStack, breaker: CircuitBreaker) -> None:
    await stack.enter_async_context(breaker)


SESSIONS = [Session, CarefulSession, Connection, ByHand, ThroughFunctions, Helped, Hooked]


@pytest.mark.parametrize("session", SESSIONS)
def test_interleaved_tasks_end_each_the_block_of_its_own_client(site, breaker, session):
    async def call(done: asyncio.Event, error: Exception | None = None) -> None:
        with suppress(OSError):
            async with session(breaker):
                await done.wait()
                if error is not None:
                    raise error

    async def use() -> None:
        old_is_done, probe_is_done = asyncio.Event(), asyncio.Event()
        old = asyncio.create_task(call(old_is_done))
        await asyncio.sleep(0.001)
        trip(site, breaker)
        probe = asyncio.create_task(call(probe_is_done, OSError("still down")))
        await asyncio.sleep(0.001)
        assert state_of(breaker) == "half_open"
        old_is_done.set()
        await old
        assert state_of(breaker) == "half_open"  # a call from before the trip proves nothing
        probe_is_done.set()
        await probe
        assert state_of(breaker) == "open"

    asyncio.run(use())
    assert not breaker._blocks


@pytest.mark.parametrize("session", [*SESSIONS, Synchronous])
def test_each_of_many_clients_counts_and_keeps_nothing(breaker, session):
    async def call() -> None:
        async with session(breaker):
            await asyncio.sleep(0)

    async def use() -> None:
        await asyncio.gather(*(call() for _ in range(20)))

    before = stored(breaker).counts.calls
    asyncio.run(use())
    assert stored(breaker).counts.calls == before + 20
    assert not breaker._blocks


def test_a_stack_that_is_filled_in_one_thread_may_be_closed_in_another(site, breaker):
    trip(site, breaker)
    probe = ExitStack()
    for step in (lambda: probe.enter_context(breaker), probe.close):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert state_of(breaker) == "closed"
    assert not breaker._blocks


def test_what_functions_enter_and_leave_in_other_threads_ends_too(site, breaker):
    trip(site, breaker)

    def begin() -> None:
        breaker.__enter__()

    def end() -> None:
        breaker.__exit__(None, None, None)

    for step in (begin, end):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert state_of(breaker) == "closed"
    assert not breaker._blocks


def test_an_end_too_many_leaves_the_blocks_of_other_threads_alone(site, breaker):
    trip(site, breaker)
    with breaker:
        thread = threading.Thread(target=breaker.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        assert state_of(breaker) == "half_open"
    assert state_of(breaker) == "closed"


def test_very_many_stacks_may_be_open_at_once(site, breaker):
    stacks = [ExitStack() for _ in range(2 * MAX_STRAY_BLOCKS + 2)]
    before = stored(breaker).counts.calls
    for stack in stacks:
        breaker.engine.expire(NAME)
        stack.enter_context(breaker)
    assert len(breaker._blocks) == len(stacks)
    for stack in stacks:
        stack.close()
    assert stored(breaker).counts.calls == before + len(stacks)
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
