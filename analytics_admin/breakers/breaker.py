"""CircuitBreaker: the object with which code protects its calls."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Set
from contextlib import suppress
from sys import _getframe
from types import CoroutineType, FrameType
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from analytics_admin.breakers.blocks import RESUMABLE, awaiting, find_block, has_with_block
from analytics_admin.breakers.containment import acontain, contain
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.permit import Permit, clock, give_permit, report_error
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.reporter_requests import Claim
from analytics_admin.breakers.state import Snapshot, State

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

RAISE: Final = object()
"""No fallback: a rejected call raises. None is a fallback value like any other."""

_unused = LocalState("", BreakerPolicy())  # no call passes it unchecked
MAX_STRAY_BLOCKS = 64
"""A breaker with more open blocks looks for those that will never end."""
_PASSES = Snapshot(generation="")
"""Lets a call pass before the first reading; its result counts in the generation read then."""


class CircuitOpenError(Exception):
    """The breaker rejects the call; ``retry_after`` is in seconds."""

    code = "circuit_open"

    # A call of the base class' __init__ would cost a rejection a third of its time.
    def __init__(self, name: str, state: str, retry_after: float) -> None:
        self.name = name
        self.state = state
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type["CircuitOpenError"], tuple[str, str, float]]:
        return type(self), (self.name, self.state, self.retry_after)

    def __str__(self) -> str:
        return f"circuit breaker {self.name} is {self.state}; retry in {self.retry_after:.1f} s"


class CircuitBreaker:
    """A breaker by name, shared by every process that uses the name.

    Use it as a decorator, in ``with`` or ``async with``, with ``call`` or with ``acquire``. Get one
    from ``circuit_breaker()``.

    A copy is the same breaker. Pickled, it is the breaker of that name where it is unpickled.
    """

    __slots__ = (
        "_blocks",
        "_policy",
        "_sweep_above",
        "_times_forgotten",
        "engine",
        "local_state",
        "name",
    )

    def __init__(self, name: str, engine: Engine, policy: Callable[[], BreakerPolicy]) -> None:
        self.name = name
        self.engine = engine
        self._policy = policy
        self.local_state = _unused
        self._times_forgotten = 0
        # The open `with` blocks by their frames. A frame goes with its block whatever runs it: a
        # generator, another thread or task, the garbage collector. Two calls of it share no frame.
        self._blocks: dict[FrameType, Permit] = {}
        self._sweep_above = MAX_STRAY_BLOCKS

    def __copy__(self) -> "CircuitBreaker":
        return self

    def __deepcopy__(self, memo: object) -> "CircuitBreaker":
        return self

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}>"

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force: the defaults, then the code's options, then the settings."""
        return self.used_state().policy

    @property
    def state(self) -> str:
        """The state or the operator's hold, such as "open", at most SYNC_INTERVAL old.

        The first use waits for the store, 0.15 s at most. In an event loop nothing waits: until the
        store has answered, the state is "closed".
        """
        state = self.used_state()
        self.engine.snapshot(state)
        return self.engine.display_state(state)

    def forget_local_state(self) -> None:
        """Use the policy and the store of the current settings from the next call on."""
        self._times_forgotten += 1
        self.local_state = _unused

    def use_engine(self, engine: Engine) -> None:
        """Use this engine from the next call on."""
        self.engine = engine
        self.forget_local_state()

    def after_fork(self, running: Set[FrameType]) -> None:
        """Forget the blocks of threads that this forked child does not have.

        Their frames must not be looked into: the interpreter has dropped what they point to.
        """
        blocks = self._blocks.items()
        self._blocks = {frame: permit for frame, permit in blocks if frame in running}

    def acquire(self) -> Permit:
        """Return a permit for one call.

        Raises:
            CircuitOpenError: the breaker rejects the call.
        """
        return cast("Permit", self._acquire())

    async def aacquire(self) -> Permit:
        """Do what ``acquire`` does without blocking the event loop."""
        return cast("Permit", await self._aacquire())

    @overload
    def call(
        self, function: Callable[..., R], /, *args: Any, fallback: Any, **kwargs: Any
    ) -> R: ...

    @overload
    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def call(
        self, function: Callable[..., Any], /, *args: Any, fallback: Any = RAISE, **kwargs: Any
    ) -> Any:
        """Call the function under protection and return its result.

        ``fallback`` is as in the decorator. Call a function that has an argument of this name as
        ``breaker(function)(...)``.

        Raises:
            CircuitOpenError: the breaker rejects the call, and there is no fallback.
            TypeError: the function is a coroutine function; use ``acall``.
        """
        state = self.local_state
        began = clock()
        if began >= state.passes_until or fallback is not RAISE:
            if began < state.rejects_until and fallback is RAISE:
                raise CircuitOpenError(self.name, *state.reject(began))
            _require_plain(function)
            protected = protect(self, function, make_fallback(fallback, awaited=False))
            return protected(*args, **kwargs)
        counter = state.counter
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            report_error(self, counter, began, error)
            raise
        if type(result) is CoroutineType:
            _require_plain(function, result)
        ended = clock()
        if counter is state.counter and ended - began <= state.slow_after:
            next(counter)
            state.newest_success = ended
        else:
            give_permit(self, counter, began).succeed()
        return result

    async def acall(
        self, function: Callable[..., Any], /, *args: Any, fallback: Any = RAISE, **kwargs: Any
    ) -> Any:
        """Do what ``call`` does for a coroutine function."""
        protected = protect_coroutine(self, function, make_fallback(fallback, awaited=True))
        return await protected(*args, **kwargs)

    @overload
    def __call__(self, function: Callable[P, R], /, *, fallback: Any = ...) -> Callable[P, R]: ...

    @overload
    def __call__(self, /, *, fallback: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, function: Any = RAISE, /, *, fallback: Any = RAISE) -> Any:
        """Protect a function, coroutine function, method or other callable.

        If the breaker rejects a call, ``fallback`` answers it: a value, or a callable that gets the
        call's arguments. A coroutine function may have a coroutine function as fallback. Calls that
        pass never use the fallback, however they end.

        Raises:
            TypeError: the argument is not callable or is a generator function, whose body runs
                after its call has returned; or the fallback alone is a coroutine function.
        """
        if function is RAISE:
            if fallback is RAISE:
                raise TypeError("a circuit breaker needs a function to protect, or a fallback")
            return functools.partial(self, fallback=fallback)
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self(function.__func__, fallback=fallback))
        if not callable(function):
            raise TypeError(f"a circuit breaker can protect only a callable, not {function!r}")
        if is_kind_of(function, is_generator):
            raise TypeError(
                "a generator function cannot be protected: its body runs after its call"
            )
        is_coroutine = is_kind_of(function, inspect.iscoroutinefunction)
        protector = protect_coroutine if is_coroutine else protect
        protected = protector(self, function, make_fallback(fallback, awaited=is_coroutine))
        return functools.update_wrapper(protected, function)

    def __enter__(self) -> Permit:
        state = self.local_state
        began = clock()
        if began < state.passes_until:
            permit = Permit()
            permit._breaker = self
            permit._admitted = state.counter
            permit._began = began
        elif began < state.rejects_until:
            raise CircuitOpenError(self.name, *state.reject(began))
        else:
            if len(self._blocks) > self._sweep_above:
                self._sweep()
            frame = _getframe(1)
            outer = self._blocks.get(frame)
            # From here on no call follows, either: the permit may be a probe's.
            permit = self.acquire()
            permit._outer = outer
            self._blocks[frame] = permit
            return permit
        frame = _getframe(1)
        blocks = self._blocks
        # No call comes after this one, where a signal's handler could end what has begun.
        permit._outer = blocks.get(frame)
        blocks[frame] = permit
        return permit

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        permit = None
        try:
            frame = _getframe(1)
            permit = self._blocks.pop(frame, None)
            if error is None and permit is not None and permit._outer is None:
                state = self.local_state
                counter = state.counter
                ended = clock()
                if permit._admitted is counter and ended - permit._began <= state.slow_after:
                    permit._admitted = None
                    next(counter)
                    state.newest_success = ended
                    return
            permit = self._leave(permit, frame)
            _report(permit, error)
        except BaseException:
            _give_up(permit or self._blocks.pop(_getframe(1), None))
            raise

    def __aenter__(self) -> Awaitable[Permit]:
        state = self.local_state
        began = clock()
        frame = _getframe(1)
        if began >= state.passes_until:
            if began < state.rejects_until:
                raise CircuitOpenError(self.name, *state.reject(began))
            return self._aenter(frame, awaiting(frame))
        blocks, permit = self._blocks, give_permit(self, state.counter, began)
        permit._callers, permit._outer = awaiting(frame), blocks.get(frame)
        blocks[frame] = permit
        return _Done(permit)

    async def _aenter(self, frame: FrameType, callers: tuple[FrameType, ...]) -> Permit:
        outer = self._blocks.get(frame)
        permit = await self.aacquire()  # after which no call follows, as in __enter__
        permit._callers, permit._outer = callers, outer
        self._blocks[frame] = permit
        return permit

    def __aexit__(
        self, kind: object, error: BaseException | None, traceback: object
    ) -> Awaitable[None]:
        permit = None
        try:
            frame = _getframe(1)
            permit = self._blocks.pop(frame, None)
            if error is None and permit is not None and permit._outer is None:
                state = self.local_state
                counter = state.counter
                ended = clock()
                if permit._admitted is counter and ended - permit._began <= state.slow_after:
                    permit._admitted, permit._callers = None, ()
                    next(counter)
                    state.newest_success = ended
                    return _NOTHING
            permit = self._leave(permit, frame)
            _report(permit, error)
        except BaseException:
            _give_up(permit or self._blocks.pop(_getframe(1), None))
            raise
        return _NOTHING

    def run(
        self,
        function: Callable[..., Any],
        fallback: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``call`` does; ``fallback`` answers a rejected call unless it is None."""
        permit = self._acquire(rejects=fallback is None)
        if permit is None and fallback is not None:
            return fallback(*args, **kwargs)
        try:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                _report(permit, error)
                raise
            self._report_result(permit, result)
        except BaseException:
            _give_up(permit)
            raise
        return result

    async def arun(
        self,
        function: Callable[..., Any],
        fallback: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``run`` does for a coroutine function; ``fallback`` may be one too."""
        permit = await self._aacquire(rejects=fallback is None)
        if permit is None and fallback is not None:
            result = fallback(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        try:
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                _report(permit, error)
                raise
            self._report_result(permit, result)
        except BaseException:
            _give_up(permit)
            raise
        return result

    def used_state(self) -> LocalState:
        """Return the local state, made at the first use."""
        if (state := self.local_state) is _unused:
            times_forgotten = self._times_forgotten
            state = self.engine.local_state(self.name, self._policy())
            self.local_state = state
            if times_forgotten != self._times_forgotten:  # meanwhile, by another thread
                self.local_state = _unused
        return state

    def _acquire(self, *, rejects: bool = True) -> Permit | None:
        """Return a permit; None, unless a rejected call ``rejects``, for one that is rejected."""
        claim = Claim()
        try:
            admitted = contain(self.name, _PASSES, self._ask, claim)
            return self._permit(admitted, claim, rejects=rejects)
        except BaseException:
            self.engine.abandon(claim)
            raise

    def _ask(self, claim: Claim) -> Snapshot | None:
        return self.engine.admit(self.used_state(), claim)

    async def _aacquire(self, *, rejects: bool = True) -> Permit | None:
        claim = Claim()
        try:
            admitted = await acontain(self.name, _PASSES, self._aask, claim)
            return self._permit(admitted, claim, rejects=rejects)
        except BaseException:  # cancelled, or closed, or as above
            self.engine.abandon(claim)
            raise

    async def _aask(self, claim: Claim) -> Snapshot | None:
        return await self.engine.aadmit(self.used_state(), claim)

    def _permit(self, admitted: Snapshot | None, claim: Claim, *, rejects: bool) -> Permit | None:
        if admitted is not None:
            if admitted is _PASSES:
                self.engine.abandon(claim)
            return give_permit(self, admitted, clock())
        next(self.local_state.rejections)
        if rejects:
            self._reject()
        return None

    def _reject(self) -> NoReturn:
        state, retry_after = contain(self.name, (State.OPEN.value, 0.0), self._rejection)
        raise CircuitOpenError(self.name, state, retry_after)

    def _rejection(self) -> tuple[str, float]:
        state = self.local_state
        return self.engine.display_state(state), self.engine.retry_after(state)

    def _report_result(self, permit: Permit | None, result: Any) -> None:
        is_failure = self.local_state.policy.record_result
        if permit is None:
            return
        if is_failure is not None and bool(is_failure(result)):
            permit.fail()
        else:
            permit.succeed()

    def _leave(self, permit: Permit | None, frame: FrameType) -> Permit | None:
        """Return the permit of the block that ends, if it is any; the block around it goes on."""
        if permit is None:
            entered = find_block(list(self._blocks.items())[::-1], frame, self)
            if entered is None or (permit := self._blocks.pop(entered, None)) is None:
                return None
            frame = entered
            permit._owner = None
        permit._callers = ()
        if permit._outer is not None:
            self._blocks[frame] = permit._outer
        return permit

    def _sweep(self) -> None:
        """Give up the blocks whose frames have ended.

        A signal's handler that raises in the very first step of ``__exit__`` leaves one open. Those
        that are entered in a method, to be left in another, are no ``with`` blocks of its frame.
        """
        for frame in list(self._blocks):
            if not frame.f_code.co_flags & RESUMABLE and has_with_block(frame.f_code):
                with suppress(RuntimeError):  # it is still running
                    frame.clear()
                    self._blocks.pop(frame, None)
        self._sweep_above = max(MAX_STRAY_BLOCKS, 2 * len(self._blocks))


def _report(permit: Permit | None, error: BaseException | None) -> None:
    if permit is None:
        return
    if error is None:
        permit.succeed()
    else:
        permit.fail(error)


def _give_up(permit: Permit | None) -> None:
    """Give back a permit whose end may not be reported: a signal's handler has come between."""
    if permit is not None:
        permit.release()


class _Done(Generic[T]):
    """Awaited, it is the result at once."""

    __slots__ = ("_result",)

    def __init__(self, result: T) -> None:
        self._result = result

    def __await__(self) -> Generator[Any, Any, T]:
        yield from ()
        return self._result


_NOTHING: Final = _Done(None)


# A call that a closed breaker lets pass costs two clock readings and one count. All others take the
# longer way through a permit.


def protect(
    breaker: CircuitBreaker, function: Callable[P, R], fallback: Callable[..., Any] | None
) -> Callable[P, R]:
    def protected(*args: P.args, **kwargs: P.kwargs) -> R:
        state = breaker.local_state
        began = clock()
        if began >= state.passes_until:
            if began < state.rejects_until and fallback is None:
                raise CircuitOpenError(breaker.name, *state.reject(began))
            return cast("R", breaker.run(function, fallback, args, kwargs))
        counter = state.counter
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            report_error(breaker, counter, began, error)
            raise
        ended = clock()
        if counter is state.counter and ended - began <= state.slow_after:
            next(counter)
            state.newest_success = ended
        else:
            give_permit(breaker, counter, began).succeed()
        return result

    return protected


def protect_coroutine(
    breaker: CircuitBreaker, function: Callable[P, Any], fallback: Callable[..., Any] | None
) -> Callable[P, Any]:
    async def protected(*args: P.args, **kwargs: P.kwargs) -> Any:
        state = breaker.local_state
        began = clock()
        if began >= state.passes_until:
            if began < state.rejects_until and fallback is None:
                raise CircuitOpenError(breaker.name, *state.reject(began))
            return await breaker.arun(function, fallback, args, kwargs)
        counter = state.counter
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            report_error(breaker, counter, began, error)
            raise
        ended = clock()
        if counter is state.counter and ended - began <= state.slow_after:
            next(counter)
            state.newest_success = ended
        else:
            give_permit(breaker, counter, began).succeed()
        return result

    return protected


def _require_plain(function: Any, result: Coroutine[Any, Any, Any] | None = None) -> None:
    """Raise TypeError for a coroutine function, and close the coroutine that it has returned."""
    if is_kind_of(function, inspect.iscoroutinefunction):
        if result is not None:
            result.close()
        raise TypeError("call a coroutine function with acall, not with call")


def make_fallback(fallback: Any, *, awaited: bool) -> Callable[..., Any] | None:
    """Return the callable that answers a rejected call, or None if the call is to raise.

    A fallback that is not callable is a value, returned as it is.

    Raises:
        TypeError: a coroutine function whose result nobody awaits.
    """
    if fallback is RAISE:
        return None
    if not callable(fallback):
        return lambda *args, **kwargs: fallback
    if not awaited and is_kind_of(fallback, inspect.iscoroutinefunction):
        raise TypeError(
            f"the fallback of a function that is not async cannot be async: {fallback!r}"
        )
    return cast("Callable[..., Any]", fallback)


def is_kind_of(function: Any, is_kind: Callable[[Any], bool]) -> bool:
    """Return whether a call runs such a function, also through a partial or a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    return is_kind(function) or is_kind(type(function).__call__)


def is_generator(function: Any) -> bool:
    """Return whether this is a generator function, async or not."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
