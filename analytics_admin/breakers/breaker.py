"""CircuitBreaker: how code asks for protection. Decides nothing; the view and the machine do."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from analytics_admin.breakers.fleet import View
from analytics_admin.breakers.machine import Snapshot
from analytics_admin.breakers.policy import BreakerPolicy

P = ParamSpec("P")
R = TypeVar("R")


class CircuitOpenError(Exception):
    """The breaker rejects the call; ``retry_after`` is in seconds."""

    code = "circuit_open"

    def __init__(self, name: str, state: str, retry_after: float) -> None:
        self.name = name
        self.state = state
        self.retry_after = retry_after
        super().__init__(f"circuit breaker {name} is {state}; retry in {retry_after:.1f} s")


class Permit:
    """Leave for one call. Report exactly one end; further reports are ignored."""

    __slots__ = ("_admitted", "_breaker", "_ended")

    def __init__(self, breaker: "CircuitBreaker", admitted: Snapshot) -> None:
        self._breaker = breaker
        self._admitted = admitted
        self._ended = False

    def succeed(self) -> None:
        """Report that the call succeeded."""
        if self._end():
            self._breaker.view.succeeded(self._admitted)

    def fail(self, error: BaseException | None = None) -> None:
        """Report that the call failed; an ``error`` counts as the policy says of its class."""
        policy = self._breaker.policy
        if error is None or policy.counts_as_failure(error):
            if self._end():
                self._breaker.view.failed(self._admitted)
        elif policy.ignores(error) or not isinstance(error, Exception):
            self.release()
        else:
            self.succeed()

    def release(self) -> None:
        """Give the permit back; the call counts as nothing."""
        if self._end():
            self._breaker.view.released(self._admitted)

    def _end(self) -> bool:
        ended, self._ended = self._ended, True
        return not ended


class CircuitBreaker:
    """A breaker by name, shared by every process that uses the name.

    Use it as a decorator, in ``with`` or ``async with``, through ``call``, or with permits of your
    own (``acquire``). Get one from ``circuit_breaker()``.
    """

    def __init__(self, name: str, policy: Callable[[], BreakerPolicy]) -> None:
        self.name = name
        self._policy = policy
        self.view = View(name, policy)
        # The permits of the `with` blocks that the current thread or task is in, outermost first.
        self._entered: ContextVar[tuple[Permit, ...]] = ContextVar(f"permits of {name}", default=())

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}>"

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force: defaults, then what the code declared, then the settings."""
        return self._policy()

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half_open", at most SYNC_INTERVAL old."""
        return self.view.snapshot().state.value

    def acquire(self) -> Permit:
        """Return leave for one call.

        Raises:
            CircuitOpenError: the call may not pass now.
        """
        admitted = self.view.admit()
        if admitted is not None:
            return Permit(self, admitted)
        snapshot = self.view.snapshot()
        raise CircuitOpenError(self.name, snapshot.state.value, self.view.retry_after(snapshot))

    async def aacquire(self) -> Permit:
        """Return leave for one call without blocking the event loop; raises as acquire does."""
        return await asyncio.to_thread(self.acquire)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function under protection and return what it returns."""
        with self:
            return function(*args, **kwargs)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Protect a function or coroutine function.

        Raises:
            TypeError: for a generator function, whose body runs after its call has returned.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator function cannot be protected: its calls run nothing yet")
        if inspect.iscoroutinefunction(function):
            return cast("Callable[P, R]", self._protect_coroutine(function))

        @functools.wraps(function)
        def protected(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return protected

    def _protect_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def protected(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return protected

    def __enter__(self) -> Permit:
        return self._enter(self.acquire())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _finish(self._leave(), error)

    async def __aenter__(self) -> Permit:
        return self._enter(await self.aacquire())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        # Shielded: a cancelled caller must not leave its result half told.
        await asyncio.shield(asyncio.to_thread(_finish, self._leave(), error))

    def _enter(self, permit: Permit) -> Permit:
        self._entered.set((*self._entered.get(), permit))
        return permit

    def _leave(self) -> Permit:
        *outer, permit = self._entered.get()
        self._entered.set(tuple(outer))
        return permit


def _finish(permit: Permit, error: BaseException | None) -> None:
    if error is None:
        permit.succeed()
    else:
        permit.fail(error)
