"""A permit for one call, and the report of how the call ended."""

import time
from collections.abc import Callable
from typing import TypeVar

from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.history import note_failure
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Results, Snapshot, State

R = TypeVar("R")

clock = time.monotonic


class Permit:
    """Permission for one call. Report exactly one end; further reports are ignored.

    In code that runs in an event loop use the methods that begin with ``a``.
    """

    __slots__ = ("_admitted", "_began", "_ended", "_engine", "_state")

    def __init__(self, engine: Engine, state: LocalState, admitted: Snapshot, began: float) -> None:
        self._engine = engine
        self._state = state
        self._admitted = admitted
        self._began = began
        self._ended = False

    def succeed(self) -> None:
        """Report success; a call over ``slow_call_duration_threshold`` counts as slow."""
        if (results := self._success()) is not None:
            self._engine.record(self._state, self._admitted, results)

    def fail(self, error: BaseException | None = None) -> None:
        """Report failure; an ``error`` counts as the policy says of its class."""
        self._by_class(error, self._record_failure, self.succeed, self.release)

    def release(self) -> None:
        """Return the permit; the call is not counted."""
        if self._end() and self._is_probe:
            self._engine.release(self._state, self._admitted)

    async def asucceed(self) -> None:
        """Do what ``succeed`` does without blocking the event loop."""
        if (results := self._success()) is not None:
            await self._engine.arecord(self._state, self._admitted, results)

    async def afail(self, error: BaseException | None = None) -> None:
        """Do what ``fail`` does without blocking the event loop."""
        await self._by_class(error, self._arecord_failure, self.asucceed, self.arelease)

    async def arelease(self) -> None:
        """Do what ``release`` does without blocking the event loop."""
        if self._end() and self._is_probe:
            await self._engine.arelease(self._state, self._admitted)

    @property
    def _is_probe(self) -> bool:
        return self._admitted.state is State.HALF_OPEN and self._admitted.hold is None

    def _by_class(
        self,
        error: BaseException | None,
        fail: Callable[[BaseException | None], R],
        succeed: Callable[[], R],
        release: Callable[[], R],
    ) -> R:
        policy = self._state.policy
        if error is None or policy.counts_as_failure(error):
            return fail(error)
        # The end of a program or a cancelled task says nothing about the backend.
        if policy.ignores(error) or not isinstance(error, Exception):
            return release()
        return succeed()

    def _record_failure(self, error: BaseException | None) -> None:
        if self._end():
            self._engine.record(self._state, self._admitted, self._failure(error))

    async def _arecord_failure(self, error: BaseException | None) -> None:
        if self._end():
            await self._engine.arecord(self._state, self._admitted, self._failure(error))

    def _failure(self, error: BaseException | None) -> Results:
        slow = clock() - self._began > self._state.slow_after
        note = note_failure(error, with_text=self._engine.keeps_texts)
        return Results(slow_failures=int(slow), failures=int(not slow), note=note)

    def _success(self) -> Results | None:
        """Count a quick success locally, or return the results to report at once."""
        if not self._end():
            return None
        state, ended = self._state, clock()
        slow = ended - self._began > state.slow_after
        if not slow and not self._is_probe:
            state.count_success(self._admitted.generation, ended)
            return None
        newest = state.store_time(ended)
        if slow:
            return Results(slow_successes=1, newest_success_at=newest)
        return Results(successes=((int(newest), 1),), newest_success_at=newest)

    def _end(self) -> bool:
        """Return whether this is the first report."""
        ended, self._ended = self._ended, True
        return not ended
