"""CircuitBreaker: how code asks for protection. The fleet and the machine decide.

A call that a closed breaker lets pass costs two looks at the clock and one count; everything else
takes the longer way through a permit.
"""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from analytics_admin.breakers.fleet import Fleet
from analytics_admin.breakers.permit import Permit, clock
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.snapshot import Snapshot
from analytics_admin.breakers.view import View

P = ParamSpec("P")
R = TypeVar("R")

_unused = View("", BreakerPolicy())  # lets nothing pass unasked
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

    def __init__(self, name: str, fleet: Fleet, policy: Callable[[], BreakerPolicy]) -> None:
        self.name = name
        self.fleet = fleet
        self._policy = policy
        self.view = _unused

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}>"

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force: defaults, then what the code declared, then the settings."""
        return self._used_view().policy

    @property
    def state(self) -> str:
        """Return "closed", "open", "half_open" or an operator's hold, at most SYNC_INTERVAL old."""
        view = self._used_view()
        self.fleet.snapshot(view)
        return self.fleet.shown_state(view)

    def forget_view(self) -> None:
        """Begin anew with the policy and the store as the settings have them now."""
        self.view = _unused

    def acquire(self) -> Permit:
        """Return leave for one call.

        Raises:
            CircuitOpenError: the call may not pass now.
        """
        admitted = self.fleet.admit(self._used_view())
        return self._permit(admitted)

    async def aacquire(self) -> Permit:
        """Return leave for one call without blocking the event loop; raises as acquire does."""
        admitted = await self.fleet.aadmit(self._used_view())
        return self._permit(admitted)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function under protection and return what it returns."""
        permit = self.acquire()
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

    async def acall(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Await the coroutine function's call under protection and return what it returns."""
        permit = await self.aacquire()
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

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Protect a function, coroutine function, method or other callable.

        Raises:
            TypeError: for what cannot be called, and for a generator function, whose body runs
                after its call has returned.
        """
        given: Any = function
        if isinstance(given, classmethod | staticmethod):
            within: Any = type(given)(self(given.__func__))
            return cast("Callable[P, R]", within)
        if not callable(given):
            raise TypeError(f"a circuit breaker protects what can be called, not {given!r}")
        if _runs(given, inspect.isgeneratorfunction) or _runs(given, inspect.isasyncgenfunction):
            raise TypeError("a generator function cannot be protected: its calls run nothing yet")
        if _runs(given, inspect.iscoroutinefunction):
            protected: Any = _protect_coroutine(self, function)
        else:
            protected = _protect(self, function)
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

    def late_permit(self, generation: str, began: float) -> Permit:
        """Return the permit of a call that passed unasked, to report its end in the longer way."""
        return Permit(self.fleet, self.view, Snapshot(generation=generation), began)

    def _used_view(self) -> View:
        if self.view is _unused:
            self.view = self.fleet.view(self.name, self._policy())
        return self.view

    def _permit(self, admitted: Snapshot | None) -> Permit:
        view = self.view
        if admitted is not None:
            return Permit(self.fleet, view, admitted, clock())
        raise CircuitOpenError(
            self.name, self.fleet.shown_state(view), self.fleet.retry_after(view)
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


def _runs(function: Any, kind: Callable[[Any], bool]) -> bool:
    """Say whether a call runs a function of this kind, be it in a partial or an object's own."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(type(function).__call__)


def _protect(breaker: CircuitBreaker, function: Callable[P, R]) -> Callable[P, R]:
    def protected(*args: P.args, **kwargs: P.kwargs) -> R:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return breaker.call(function, *args, **kwargs)
        tick = view.tick
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            breaker.late_permit(tick.generation, began).fail(error)
            raise
        ended = clock()
        if tick is view.tick and ended - began <= view.slow_after:
            next(tick)
            view.newest_success = ended
        else:
            breaker.late_permit(tick.generation, began).succeed()
        return result

    return protected


def _protect_coroutine(breaker: CircuitBreaker, function: Callable[P, Any]) -> Callable[P, Any]:
    async def protected(*args: P.args, **kwargs: P.kwargs) -> Any:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return await breaker.acall(function, *args, **kwargs)
        tick = view.tick
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await breaker.late_permit(tick.generation, began).afail(error)
            raise
        ended = clock()
        if tick is view.tick and ended - began <= view.slow_after:
            next(tick)
            view.newest_success = ended
        else:
            await breaker.late_permit(tick.generation, began).asucceed()
        return result

    return protected
