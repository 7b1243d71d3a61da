"""Calls that end from outside: their exception is never delayed, and their permit is given back."""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError
from analytics_admin.breakers import breaker as breaker_module
from analytics_admin.breakers import probes as probes_module
from analytics_admin.breakers.state import Counts, Snapshot
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.stores.interruption import is_cancellation
from tests.support.breakers import another
from tests.support.simulation import SimulatedSite

NAME = "search"
WAIT = 60.0
SLOW = 2.0
SLOW_RULE = {
    "failure_threshold": 5,
    "slow_call_rate_threshold": 100,
    "slow_call_duration_threshold": SLOW,
}


def process(site: SimulatedSite, **policy: Any) -> CircuitBreaker:
    policy = {"failure_threshold": 1, "wait_duration_in_open_state": WAIT, **policy}
    breaker = site.process(NAME, **policy)
    breaker.call(int)
    return breaker


def probing(site: SimulatedSite, **policy: Any) -> CircuitBreaker:
    """Return a breaker whose next call is a probe."""
    breaker = process(site, **policy)
    breaker.acquire().fail()
    assert breaker.state == "open"
    site.clock.now += WAIT
    return breaker


def stored(breaker: CircuitBreaker) -> Snapshot:
    breaker.engine.expire(NAME)
    assert breaker.state
    assert breaker.local_state.snapshot is not None
    return breaker.local_state.snapshot


def assert_probes_again(breaker: CircuitBreaker) -> None:
    """Check that no permit is missing: the one probe of the round may pass."""
    assert stored(breaker).permits == 0
    assert breaker.call(lambda: "passed") == "passed"
    assert breaker.state == "closed"


# Ways in which a call is ended from outside, after it has lasted ``seconds``.


class Timeout(BaseException):
    __module__ = "gevent.timeout"


class OwnTimeout(Timeout):
    __module__ = "shop.limits"


class GreenletExit(BaseException):
    __module__ = "greenlet"


class LimitReached(Exception):
    pass


def cancel_task(breaker: CircuitBreaker, lasting: Callable[[], Any]) -> None:
    async def call() -> None:
        async with breaker:
            lasting()
            await asyncio.sleep(60)

    async def use() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


def time_out_in_wait_for(breaker: CircuitBreaker, lasting: Callable[[], Any]) -> None:
    @breaker
    async def call() -> None:
        lasting()
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(call(), 0.001))


def time_out_in_block(breaker: CircuitBreaker, lasting: Callable[[], Any]) -> None:
    async def call() -> None:
        lasting()
        await asyncio.sleep(60)

    async def use() -> None:
        async with asyncio.timeout(0.001):
            await breaker.acall(call)

    with pytest.raises(TimeoutError):
        asyncio.run(use())


@contextmanager
def alarm(handler: Callable[..., Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raise_limit(*_: Any) -> None:
    raise LimitReached


class Limiter:
    def handle(self, number: int, frame: object) -> None:
        self.stop()

    def stop(self) -> None:
        raise TimeoutError("the request's time is up")

    def __call__(self, *_: Any) -> None:
        self.stop()


def signalled(
    handler: Any, error: type[BaseException], breaker: CircuitBreaker, lasting: Callable[[], Any]
) -> None:
    def call() -> None:
        lasting()
        signal.raise_signal(signal.SIGALRM)

    with alarm(handler), pytest.raises(error):
        breaker.call(call)


def raised(error: type[BaseException], breaker: CircuitBreaker, lasting: Callable[[], Any]) -> None:
    def call() -> None:
        lasting()
        raise error

    with pytest.raises(error), breaker:
        call()


WAYS = {
    "task cancelled": cancel_task,
    "wait_for": time_out_in_wait_for,
    "asyncio.timeout": time_out_in_block,
    "handler of SIGALRM": partial(signalled, raise_limit, LimitReached),
    "method as handler": partial(signalled, Limiter().handle, TimeoutError),
    "object as handler": partial(signalled, Limiter(), TimeoutError),
    "partial as handler": partial(signalled, partial(raise_limit, "limit"), LimitReached),
    "gevent.Timeout": partial(raised, Timeout),
    "subclass of gevent.Timeout": partial(raised, OwnTimeout),
    "greenlet killed": partial(raised, GreenletExit),
}

NOTHING = Counts()
A_FAILURE = Counts(calls=1, failures=1)
A_SLOW_CALL = Counts(calls=1, slow=1)
A_SLOW_FAILURE = Counts(calls=1, failures=1, slow=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("record_cancelled", "quick", "slow"),
    [
        (None, NOTHING, A_SLOW_CALL),
        ("ignore", NOTHING, NOTHING),
        ("failure", A_FAILURE, A_SLOW_FAILURE),
        ("slow", A_SLOW_CALL, A_SLOW_CALL),
    ],
)
def test_what_a_call_ended_from_outside_counts_as_is_the_policys(
    site, way, record_cancelled, quick, slow
):
    for seconds, counts in ((SLOW / 2, quick), (SLOW * 2, slow)):
        breaker = process(site, **SLOW_RULE, record_cancelled=record_cancelled)
        before = stored(breaker).counts

        def last(seconds: float = seconds) -> None:
            site.clock.now += seconds

        WAYS[way](breaker, last)
        assert stored(breaker).counts == before + counts


@pytest.mark.parametrize("record_cancelled", [None, "slow"])
def test_without_a_slow_call_rate_nothing_is_slow(site, record_cancelled):
    breaker = process(site, record_cancelled=record_cancelled)
    before = stored(breaker).counts
    for way in WAYS.values():
        way(breaker, int)
    assert stored(breaker).counts == before


def test_a_cancelled_call_that_was_slow_ends_no_run_of_failures(site):
    breaker = process(site, **SLOW_RULE, record_cancelled="slow")
    for _ in range(4):
        breaker.acquire().fail()
    site.clock.now += 1
    cancel_task(breaker, int)
    assert stored(breaker).consecutive_failures == 4


def test_classes_that_the_policy_names_win_over_record_cancelled(site):
    for option, counts in (("ignore_exceptions", NOTHING), ("record_exceptions", A_FAILURE)):
        classes = {option: (asyncio.CancelledError, Timeout)}
        record_cancelled = "failure" if counts is NOTHING else "ignore"
        for way in (cancel_task, WAYS["gevent.Timeout"]):
            breaker = process(
                site, failure_threshold=9, record_cancelled=record_cancelled, **classes
            )
            before = stored(breaker).counts
            way(breaker, int)
            assert stored(breaker).counts == before + counts


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_end_of_a_program_or_generator_is_no_cancellation(site, error):
    breaker = process(site, **SLOW_RULE, record_cancelled="failure")
    before = stored(breaker).counts
    raised(error, breaker, int)

    def stop(*_: Any) -> None:
        raise error

    signalled(stop, error, breaker, int)
    assert stored(breaker).counts == before


def test_a_time_limit_of_the_function_itself_is_a_failure(site):
    breaker = process(site, record_cancelled="ignore")

    @breaker
    async def call() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(call())
    assert breaker.state == "open"


def test_an_exception_beside_a_handler_is_no_cancellation():
    with alarm(raise_limit):
        for error in (TimeoutError(), LimitReached()):
            with suppress(type(error)):
                raise error
            assert not is_cancellation(error)


@pytest.mark.parametrize("value", ["", "Slow", "success", True, 1, ["slow"]])
def test_record_cancelled_is_one_of_three_words_or_none(value):
    with pytest.raises(ValueError, match="record_cancelled must be 'ignore', 'failure', 'slow'"):
        BreakerPolicy(record_cancelled=value)


@pytest.mark.parametrize("way", WAYS)
def test_a_probe_ended_from_outside_is_given_back(site, way):
    breaker = probing(site)
    WAYS[way](breaker, int)
    assert_probes_again(breaker)


def test_a_closed_coroutine_gives_its_probe_back_and_awaits_nothing(site):
    breaker = probing(site)

    async def in_block() -> None:
        async with breaker:
            await asyncio.Event().wait()

    @breaker
    async def decorated() -> None:
        await asyncio.Event().wait()

    async def use() -> None:
        for call in (in_block, decorated, partial(breaker.acall, asyncio.Event().wait)):
            closed = call()
            closed.send(None)
            assert stored(breaker).permits == 1
            closed.close()  # raises RuntimeError if it awaited anything
            assert stored(breaker).permits == 0

    asyncio.run(use())
    assert_probes_again(breaker)


def test_a_closed_generator_gives_its_probe_back(site):
    breaker = probing(site)

    def rows() -> Iterator[int]:
        with breaker:
            yield 1

    reading = rows()
    next(reading)
    reading.close()
    assert_probes_again(breaker)


def test_a_permit_that_nobody_holds_any_more_is_given_back(site):
    breaker = probing(site)
    permit = breaker.acquire()
    assert stored(breaker).permits == 1
    del permit
    assert_probes_again(breaker)


def test_a_permit_in_a_garbage_cycle_is_given_back(site):
    breaker = probing(site)
    holder: list[Any] = [breaker.acquire()]
    holder.append(holder)
    del holder
    gc.collect()
    assert_probes_again(breaker)


def test_a_permit_given_back_once_is_not_given_back_again(site):
    breaker = probing(site, permitted_number_of_calls_in_half_open_state=2)
    first, second = breaker.acquire(), breaker.acquire()
    first.release()
    del first
    assert stored(breaker).permits == 1
    second.succeed()
    del second
    assert stored(breaker).permits == 1


def test_a_permit_may_go_in_an_object_that_is_being_deleted(site):
    breaker = probing(site)

    class Connection:
        def __init__(self) -> None:
            self.permit = breaker.acquire()

        def __del__(self) -> None:
            self.permit.fail(ConnectionAbortedError())

    connection = Connection()
    del connection
    assert breaker.state == "open"


class PredicateError(Exception):
    pass


def test_an_error_of_record_result_is_raised_and_gives_the_permit_back(site):
    def check(result: Any) -> bool:
        if result is None:
            raise PredicateError
        return False

    breaker = probing(site, record_result=check)

    async def answer() -> None:
        return None

    before = stored(breaker).counts
    with pytest.raises(PredicateError):
        breaker.call(lambda: None)
    with pytest.raises(PredicateError):
        asyncio.run(breaker.acall(answer))
    assert stored(breaker).counts == before
    assert stored(breaker).permits == 0
    assert breaker.call(lambda: 1) == 1
    assert breaker.state == "closed"


class Undecided:
    def __bool__(self) -> bool:
        raise PredicateError


def test_an_answer_of_record_result_that_is_neither_true_nor_false_is_such_an_error(site):
    breaker = probing(site, record_result=lambda result: Undecided() if result is None else False)
    with pytest.raises(PredicateError):
        breaker(lambda: None)()
    assert breaker.call(lambda: 1) == 1


def test_a_users_limit_ends_the_wait_for_the_backend_in_time(site):
    breaker = process(site)

    def limit(*_: Any) -> None:
        raise TimeoutError("the request's time is up")

    with alarm(limit):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        began = time.perf_counter()
        with pytest.raises(TimeoutError, match="the request's time is up"):
            breaker.call(time.sleep, 10)
        assert time.perf_counter() - began < 5


def test_a_signal_that_ends_a_block_halfway_leaves_nothing_behind(site, monkeypatch):
    """The exception may come at any step of the breaker's own code."""
    monkeypatch.setattr(breaker_module, "MAX_STRAY_BLOCKS", 0)
    breaker = process(site)
    interrupted = 0

    def call() -> None:
        with breaker:
            pass

    with alarm(raise_limit):
        for number in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 40))
                for _ in range(100):
                    call()
            except LimitReached:
                interrupted += 1
    assert interrupted > 1000
    with breaker:
        breaker.engine.expire(NAME)
        call()  # the longer way in, which looks for them
        assert len(breaker._blocks) == 1
    assert not breaker._blocks


def shared_probing(name: str, **policy: Any) -> CircuitBreaker:
    """Return a breaker of the shared store whose next call is a probe."""
    policy = {"failure_threshold": 1, "wait_duration_in_open_state": 0.001, **policy}
    breaker = another(name, **policy)
    breaker.call(int)
    breaker.acquire().fail()
    while breaker.state == "open" and breaker.engine.retry_after(breaker.local_state):
        time.sleep(0.001)
    return breaker


def passes_soon(breaker: CircuitBreaker) -> bool:
    for _ in range(1000):
        with suppress(CircuitOpenError):
            breaker.call(int)
            return True
        time.sleep(0.002)
    return False


STRUCK = ("analytics_admin.breakers", "analytics_admin.stores.interruption")


class Strike:
    """Raises where the handler of a signal may: as a function begins, or after a built-in one.

    It does so when it comes to ``place``; without one it notes the places.
    """

    def __init__(self, place: tuple[Any, ...] = ()) -> None:
        self._place = place
        self.places: dict[tuple[Any, ...], None] = {}
        self.has_struck = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "c_return") or frame.f_code.co_name == "__del__":
            return
        if event == "call" and frame.f_code is CircuitBreaker.__exit__.__code__:
            return  # what has not begun to end can end nothing: see CircuitBreaker._sweep
        if not frame.f_globals["__name__"].startswith(STRUCK):
            return
        caller = frame.f_back
        place = (
            event,
            frame.f_code.co_qualname,
            frame.f_lasti,
            caller and caller.f_code.co_qualname,
            caller and caller.f_lasti,
        )
        if not self._place:
            self.places[place] = None
        elif place == self._place:
            sys.setprofile(None)
            self.has_struck = True
            raise_limit(signal.SIGALRM, frame)


def probe_in_block(breaker: CircuitBreaker) -> None:
    with breaker:
        pass


def probe_in_call(breaker: CircuitBreaker) -> None:
    breaker.call(int)


def probe_in_failing_call(breaker: CircuitBreaker) -> None:
    with suppress(OSError):
        breaker.call(fail)


def fail() -> None:
    raise OSError


@pytest.mark.parametrize("kind", ["shared", "memory"])
def test_a_limit_that_strikes_at_any_step_of_a_probe_loses_no_permit(settings, kind):
    if kind == "memory":
        memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "struck"}
        settings.CACHES = {**settings.CACHES, "breakers": memory}
    note, struck, lost = Strike(), [], []
    for probe in (probe_in_block, probe_in_call, probe_in_failing_call):
        known = len(note.places)  # they have much in common
        for number in range(3):
            run(note, shared_probing(f"noted-{probe.__name__}-{number}"), probe)
        for number, place in enumerate(list(note.places)[known:]):
            breaker = shared_probing(f"struck-{probe.__name__}-{number}")
            strike = Strike(place)
            try:
                with alarm(raise_limit):
                    run(strike, breaker, probe)
            except LimitReached as limit:
                struck.append(limit)  # with its frames, and what they hold
            if strike.has_struck and not passes_soon(breaker):
                lost.append(place)
    assert not lost
    assert len(struck) > 0.8 * len(note.places) > 100


def run(strike: Strike, breaker: CircuitBreaker, probe: Callable[[CircuitBreaker], None]) -> None:
    sys.setprofile(strike)
    try:
        probe(breaker)
    finally:
        sys.setprofile(None)


def test_a_task_cancelled_while_it_asks_for_a_permit_loses_none(monkeypatch):
    breaker = shared_probing("asking", permitted_number_of_calls_in_half_open_state=1)
    move, asked = RedisStore.compare_and_set, []

    def move_slowly(store: RedisStore, moves: Any) -> Any:
        asked.append(moves)
        time.sleep(0.05)
        return move(store, moves)

    monkeypatch.setattr(RedisStore, "compare_and_set", move_slowly)

    async def answer() -> int:
        return 1

    async def use() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await breaker.acall(answer)
        assert asked
        await asyncio.sleep(0.1)
        assert await breaker.acall(answer) == 1

    asyncio.run(use())
    assert breaker.state == "closed"


@pytest.mark.parametrize("way", ["call", "block"])
def test_plain_calls_in_an_event_loop_heal_a_breaker_however_rare_they_are(monkeypatch, way):
    monkeypatch.setattr(probes_module, "SPARE_SECONDS", 0.02)
    breaker = shared_probing(f"rare-{way}")

    async def use() -> int:
        for number in range(1, 4):
            await asyncio.sleep(0.1)
            with suppress(CircuitOpenError):
                probe_in_call(breaker) if way == "call" else probe_in_block(breaker)
                return number
        return 0

    assert 1 <= asyncio.run(use()) <= 2
    assert breaker.state == "closed"


def test_a_permit_kept_for_a_rare_call_goes_back_in_time():
    limit = BreakerPolicy().max_wait_duration_in_half_open_state
    breaker = another("kept")
    state = breaker.used_state()
    now = time.monotonic()
    assert probes_module.spare_seconds(state, 1.5, now) == 3.0
    assert probes_module.spare_seconds(state, 10_000.0, now) <= limit * 0.75
    state.asked_at = now - 4.0
    assert probes_module.spare_seconds(state, 0.1, now) == 8.0
    state.asked_at = now - 10_000.0
    assert probes_module.spare_seconds(state, 0.1, now) == 0.2


def test_an_answer_that_came_at_once_is_used_in_an_event_loop_too():
    breaker = shared_probing("at-once")

    def answer_at_once(request: Any) -> Any:
        submit(request)
        while not request.answer.is_done:
            time.sleep(0.001)
        return request

    submit, breaker.engine.reporter.submit = breaker.engine.reporter.submit, answer_at_once

    async def use() -> int:
        return breaker.call(lambda: 1)

    assert asyncio.run(use()) == 1
