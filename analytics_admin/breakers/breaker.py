"""CircuitBreaker: the object with which code protects its calls."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.permit import Permit, clock
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.state import Snapshot

P = ParamSpec("P")
R = TypeVar("R")

RAISE: Final = object()
"""No fallback: a rejected call raises. None is a fallback value like any other."""

_unused = LocalState("", BreakerPolicy())  # no call passes it unchecked
# The `with` blocks of all breakers in the current thread or task, outermost first.
_entered: ContextVar[tuple[tuple["CircuitBreaker", Permit], ...]] = ContextVar(
    "entered circuit breakers", default=()
)


class CircuitOpenError(Exception):
    """The breaker rejects the call; ``retry_after`` is in seconds."""

    code = "circuit_open"

    def __init__(self, name: str, state: str, retry_after: float) -> None:
        self.name = name
        self.state = state
        self.retry_after = retry_after
        super().__init__(name, state, retry_after)

    def __str__(self) -> str:
        return f"circuit breaker {self.name} is {self.state}; retry in {self.retry_after:.1f} s"


class CircuitBreaker:
    """A breaker by name, shared by every process that uses the name.

    Use it as a decorator, in ``with`` or ``async with``, with ``call`` or with ``acquire``. Get one
    from ``circuit_breaker()``.
    """

    __slots__ = ("_policy", "engine", "local_state", "name")

    def __init__(self, name: str, engine: Engine, policy: Callable[[], BreakerPolicy]) -> None:
        self.name = name
        self.engine = engine
        self._policy = policy
        self.local_state = _unused

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}>"

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force: the defaults, then the code's options, then the settings."""
        return self._used_state().policy

    @property
    def state(self) -> str:
        """The state or the operator's hold, such as "open", at most SYNC_INTERVAL old."""
        state = self._used_state()
        self.engine.snapshot(state)
        return self.engine.display_state(state)

    def forget_local_state(self) -> None:
        """Use the policy and the store of the current settings from the next call on."""
        self.local_state = _unused

    def use_engine(self, engine: Engine) -> None:
        """Use this engine from the next call on."""
        self.engine = engine
        self.forget_local_state()

    def acquire(self) -> Permit:
        """Return a permit for one call.

        Raises:
            CircuitOpenError: the breaker rejects the call.
        """
        return self._permit(self.engine.admit(self._used_state()))

    async def aacquire(self) -> Permit:
        """Do what ``acquire`` does without blocking the event loop."""
        return self._permit(await self.engine.aadmit(self._used_state()))

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
        if is_kind_of(function, inspect.iscoroutinefunction):
            raise TypeError("call a coroutine function with acall, not with call")
        return self.run(function, make_fallback(fallback, awaited=False), args, kwargs)

    async def acall(
        self, function: Callable[..., Any], /, *args: Any, fallback: Any = RAISE, **kwargs: Any
    ) -> Any:
        """Do what ``call`` does for a coroutine function."""
        return await self.arun(function, make_fallback(fallback, awaited=True), args, kwargs)

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
        return self._enter(self.acquire())

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        permit = self._leave()
        if error is None:
            permit.succeed()
        else:
            permit.fail(error)

    async def __aenter__(self) -> Permit:
        return self._enter(await self.aacquire())

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        permit = self._leave()
        if error is None:
            await permit.asucceed()
        else:
            await permit.afail(error)

    def run(
        self,
        function: Callable[..., Any],
        fallback: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``call`` does; ``fallback`` answers a rejected call unless it is None."""
        admitted = self.engine.admit(self._used_state())
        if admitted is None and fallback is not None:
            next(self.local_state.rejections)
            return fallback(*args, **kwargs)
        permit = self._permit(admitted)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            permit.fail(error)
            raise
        if self._is_failure(result):
            permit.fail()
        else:
            permit.succeed()
        return result

    async def arun(
        self,
        function: Callable[..., Any],
        fallback: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``run`` does for a coroutine function; ``fallback`` may be one too."""
        admitted = await self.engine.aadmit(self._used_state())
        if admitted is None and fallback is not None:
            next(self.local_state.rejections)
            result = fallback(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        permit = self._permit(admitted)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await permit.afail(error)
            raise
        if self._is_failure(result):
            await permit.afail()
        else:
            await permit.asucceed()
        return result

    def permit_since(self, generation: str, began: float) -> Permit:
        """Return a permit for a call that passed unchecked, to report its end."""
        return Permit(self.engine, self.local_state, Snapshot(generation=generation), began)

    def _used_state(self) -> LocalState:
        if self.local_state is _unused:
            self.local_state = self.engine.local_state(self.name, self._policy())
        return self.local_state

    def _permit(self, admitted: Snapshot | None) -> Permit:
        state = self.local_state
        if admitted is not None:
            return Permit(self.engine, state, admitted, clock())
        next(state.rejections)
        raise CircuitOpenError(
            self.name, self.engine.display_state(state), self.engine.retry_after(state)
        )

    def _is_failure(self, result: Any) -> bool:
        is_failure = self.local_state.policy.record_result
        return is_failure is not None and is_failure(result)

    def _enter(self, permit: Permit) -> Permit:
        _entered.set((*_entered.get(), (self, permit)))
        return permit

    def _leave(self) -> Permit:
        """Remove the innermost block of this breaker: generators may end blocks out of order."""
        entered = _entered.get()
        index = len(entered) - 1
        while entered[index][0] is not self:
            index -= 1
        _entered.set(entered[:index] + entered[index + 1 :])
        return entered[index][1]


# A call that a closed breaker lets pass costs two clock readings and one count. All others take the
# longer way through a permit.


def protect(
    breaker: CircuitBreaker, function: Callable[P, R], fallback: Callable[..., Any] | None
) -> Callable[P, R]:
    def protected(*args: P.args, **kwargs: P.kwargs) -> R:
        state = breaker.local_state
        began = clock()
        if began >= state.passes_until:
            return cast("R", breaker.run(function, fallback, args, kwargs))
        counter = state.counter
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            breaker.permit_since(counter.generation, began).fail(error)
            raise
        ended = clock()
        if counter is state.counter and ended - began <= state.slow_after:
            next(counter)
            state.newest_success = ended
        else:
            breaker.permit_since(counter.generation, began).succeed()
        return result

    return protected


def protect_coroutine(
    breaker: CircuitBreaker, function: Callable[P, Any], fallback: Callable[..., Any] | None
) -> Callable[P, Any]:
    async def protected(*args: P.args, **kwargs: P.kwargs) -> Any:
        state = breaker.local_state
        began = clock()
        if began >= state.passes_until:
            return await breaker.arun(function, fallback, args, kwargs)
        counter = state.counter
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await breaker.permit_since(counter.generation, began).afail(error)
            raise
        ended = clock()
        if counter is state.counter and ended - began <= state.slow_after:
            next(counter)
            state.newest_success = ended
        else:
            await breaker.permit_since(counter.generation, began).asucceed()
        return result

    return protected


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
