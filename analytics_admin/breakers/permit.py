"""Permit: leave for one call, and the report of how the call ended."""

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
    """Leave for one call. Report exactly one end; further reports are ignored.

    In code that runs in an event loop use the forms that begin with ``a``.
    """

    __slots__ = ("_admitted", "_began", "_ended", "_fleet", "_view")

    def __init__(self, fleet: Engine, view: LocalState, admitted: Snapshot, began: float) -> None:
        self._fleet = fleet
        self._view = view
        self._admitted = admitted
        self._began = began
        self._ended = False

    def succeed(self) -> None:
        """Report that the call succeeded; one that took too long counts as slow."""
        if (results := self._success()) is not None:
            self._fleet.tell(self._view, self._admitted, results)

    def fail(self, error: BaseException | None = None) -> None:
        """Report that the call failed; an ``error`` counts as the policy says of its class."""
        self._by_class(error, self._tell_failure, self.succeed, self.release)

    def release(self) -> None:
        """Give the permit back; the call counts as nothing."""
        if self._end() and self._is_probe:
            self._fleet.release(self._view, self._admitted)

    async def asucceed(self) -> None:
        """Do what ``succeed`` does without blocking the event loop."""
        if (results := self._success()) is not None:
            await self._fleet.atell(self._view, self._admitted, results)

    async def afail(self, error: BaseException | None = None) -> None:
        """Do what ``fail`` does without blocking the event loop."""
        await self._by_class(error, self._atell_failure, self.asucceed, self.arelease)

    async def arelease(self) -> None:
        """Do what ``release`` does without blocking the event loop."""
        if self._end() and self._is_probe:
            await self._fleet.arelease(self._view, self._admitted)

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
        policy = self._view.policy
        if error is None or policy.counts_as_failure(error):
            return fail(error)
        # What ends a program or cancels a task says nothing of the backend.
        if policy.ignores(error) or not isinstance(error, Exception):
            return release()
        return succeed()

    def _tell_failure(self, error: BaseException | None) -> None:
        if self._end():
            self._fleet.tell(self._view, self._admitted, self._failure(error))

    async def _atell_failure(self, error: BaseException | None) -> None:
        if self._end():
            await self._fleet.atell(self._view, self._admitted, self._failure(error))

    def _failure(self, error: BaseException | None) -> Results:
        slow = clock() - self._began > self._view.slow_after
        note = note_failure(error, with_text=self._fleet.keeps_texts)
        return Results(slow_failures=int(slow), failures=int(not slow), note=note)

    def _success(self) -> Results | None:
        """Count a quick success locally, or return what has to be told at once."""
        if not self._end():
            return None
        view, ended = self._view, clock()
        slow = ended - self._began > view.slow_after
        if not slow and not self._is_probe:
            view.count_success(self._admitted.generation, ended)
            return None
        newest = view.store_time(ended)
        if slow:
            return Results(slow_successes=1, newest_success_at=newest)
        return Results(successes=((int(newest), 1),), newest_success_at=newest)

    def _end(self) -> bool:
        ended, self._ended = self._ended, True
        return not ended
