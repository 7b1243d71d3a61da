"""CircuitBreaker: how code asks for protection. The fleet and the machine decide."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.fallback import RAISE, is_generator, is_kind_of, make_fallback
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.permit import Permit, clock
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.protection import protect, protect_coroutine
from analytics_admin.breakers.state import Snapshot

P = ParamSpec("P")
R = TypeVar("R")

_unused = LocalState("", BreakerPolicy())  # lets nothing pass unasked
# The `with` blocks that the current thread or task is in, of all breakers, outermost first.
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

    Use it as a decorator, in ``with`` or ``async with``, through ``call``, or with permits of your
    own (``acquire``). Get one from ``circuit_breaker()``.
    """

    __slots__ = ("_policy", "fleet", "name", "view")

    def __init__(self, name: str, fleet: Engine, policy: Callable[[], BreakerPolicy]) -> None:
        self.name = name
        self.fleet = fleet
        self._policy = policy
        self.view = _unused

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}>"

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force: defaults, then what the code declared, then the settings."""
        return self._local_state().policy

    @property
    def state(self) -> str:
        """Return "closed", "open", "half_open" or an operator's hold, at most SYNC_INTERVAL old."""
        view = self._local_state()
        self.fleet.snapshot(view)
        return self.fleet.display_state(view)

    def forget_local_state(self) -> None:
        """Begin anew with the policy and the store as the settings have them now."""
        self.view = _unused

    def join(self, fleet: Engine) -> None:
        """Belong to this fleet from the next call on."""
        self.fleet = fleet
        self.forget_local_state()

    def acquire(self) -> Permit:
        """Return leave for one call.

        Raises:
            CircuitOpenError: the call may not pass now.
        """
        admitted = self.fleet.admit(self._local_state())
        return self._permit(admitted)

    async def aacquire(self) -> Permit:
        """Return leave for one call without blocking the event loop; raises as acquire does."""
        admitted = await self.fleet.aadmit(self._local_state())
        return self._permit(admitted)

    @overload
    def call(
        self, function: Callable[..., R], /, *args: Any, fallback: Any, **kwargs: Any
    ) -> R: ...

    @overload
    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def call(
        self, function: Callable[..., Any], /, *args: Any, fallback: Any = RAISE, **kwargs: Any
    ) -> Any:
        """Call the function under protection and return what it returns.

        ``fallback`` is as in the decorator; a function with an argument of that name is called
        as ``breaker(function)(...)``.

        Raises:
            CircuitOpenError: the call may not pass now, and there is no fallback.
            TypeError: for a coroutine function, whose body runs after its call; see acall.
        """
        if is_kind_of(function, inspect.iscoroutinefunction):
            raise TypeError("a coroutine function is awaited under protection by acall, not call")
        return self.run(function, make_fallback(fallback, awaited=False), args, kwargs)

    async def acall(
        self, function: Callable[..., Any], /, *args: Any, fallback: Any = RAISE, **kwargs: Any
    ) -> Any:
        """Await the coroutine function's call under protection and return what it returns."""
        return await self.arun(function, make_fallback(fallback, awaited=True), args, kwargs)

    @overload
    def __call__(self, function: Callable[P, R], /, *, fallback: Any = ...) -> Callable[P, R]: ...

    @overload
    def __call__(self, /, *, fallback: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, function: Any = RAISE, /, *, fallback: Any = RAISE) -> Any:
        """Protect a function, coroutine function, method or other callable.

        A call that the breaker rejects is answered by ``fallback``, if there is one: the value, or
        what the callable returns for the call's arguments; a coroutine function's may be one too.
        It has no part in calls that pass, however they end.

        Raises:
            TypeError: for what cannot be called, and for a generator function, whose body runs
                after its call has returned; for a coroutine function behind one that is none.
        """
        if function is RAISE:
            if fallback is RAISE:
                raise TypeError("a circuit breaker wants a function to protect, or a fallback")
            return functools.partial(self, fallback=fallback)
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self(function.__func__, fallback=fallback))
        if not callable(function):
            raise TypeError(f"a circuit breaker protects what can be called, not {function!r}")
        if is_kind_of(function, is_generator):
            raise TypeError("a generator function cannot be protected: its calls run nothing yet")
        is_coroutine = is_kind_of(function, inspect.iscoroutinefunction)
        protector = protect_coroutine if is_coroutine else protect
        protected = protector(self, function, make_fallback(fallback, awaited=is_coroutine))
        return functools.update_wrapper(protected, function)

    def __enter__(self) -> Permit:
        return self._enter(self.acquire())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        permit = self._leave()
        if error is None:
            permit.succeed()
        else:
            permit.fail(error)

    async def __aenter__(self) -> Permit:
        return self._enter(await self.aacquire())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        permit = self._leave()
        if error is None:
            await permit.asucceed()
        else:
            await permit.afail(error)

    def run(
        self,
        function: Callable[..., Any],
        fallback_call: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``call`` does, with ``fallback_call`` in place of a rejected call unless it is
        None."""
        admitted = self.fleet.admit(self._local_state())
        if admitted is None and fallback_call is not None:
            next(self.view.rejections)
            return fallback_call(*args, **kwargs)
        permit = self._permit(admitted)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            permit.fail(error)
            raise
        if self._is_bad(result):
            permit.fail()
        else:
            permit.succeed()
        return result

    async def arun(
        self,
        function: Callable[..., Any],
        fallback_call: Callable[..., Any] | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Do what ``run`` does for a coroutine function; ``fallback_call`` may be one too."""
        admitted = await self.fleet.aadmit(self._local_state())
        if admitted is None and fallback_call is not None:
            next(self.view.rejections)
            result = fallback_call(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        permit = self._permit(admitted)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await permit.afail(error)
            raise
        if self._is_bad(result):
            await permit.afail()
        else:
            await permit.asucceed()
        return result

    def permit_since(self, generation: str, began: float) -> Permit:
        """Return the permit of a call that passed unasked, to report its end in the longer way."""
        return Permit(self.fleet, self.view, Snapshot(generation=generation), began)

    def _local_state(self) -> LocalState:
        if self.view is _unused:
            self.view = self.fleet.view(self.name, self._policy())
        return self.view

    def _permit(self, admitted: Snapshot | None) -> Permit:
        view = self.view
        if admitted is not None:
            return Permit(self.fleet, view, admitted, clock())
        next(view.rejections)
        raise CircuitOpenError(
            self.name, self.fleet.display_state(view), self.fleet.retry_after(view)
        )

    def _is_bad(self, result: Any) -> bool:
        judge = self.view.policy.record_result
        return judge is not None and judge(result)

    def _enter(self, permit: Permit) -> Permit:
        _entered.set((*_entered.get(), (self, permit)))
        return permit

    def _leave(self) -> Permit:
        """Take off the innermost block of this breaker: generators may end blocks out of order."""
        entered = _entered.get()
        at = len(entered) - 1
        while entered[at][0] is not self:
            at -= 1
        _entered.set(entered[:at] + entered[at + 1 :])
        return entered[at][1]
