"""A permit for one call, and the report of how the call ended."""

import os
import sys
import time
from enum import Enum
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, SupportsIndex

from analytics_admin.breakers.containment import contain
from analytics_admin.breakers.history import take_note
from analytics_admin.breakers.local_state import Outcome, SuccessCounter
from analytics_admin.breakers.policy import FAILURE, IGNORE, SLOW, BreakerPolicy
from analytics_admin.breakers.state import Snapshot, State
from analytics_admin.stores.interruption import is_cancellation, is_raised_by_handler

if TYPE_CHECKING:
    from analytics_admin.breakers.breaker import CircuitBreaker

Admitted = Snapshot | SuccessCounter
"""What let a call pass: the engine's snapshot, or the counter of a closed breaker."""

clock = time.monotonic


class Permit:
    """Permission for one call. Report exactly one end; further reports are ignored.

    In code that runs in an event loop use the methods that begin with ``a``. A permit cannot be
    copied or pickled: a copy would report the same call once more.
    """

    __slots__ = ("_admitted", "_began", "_breaker", "_callers", "_outer", "_owner")
    # A `with` block sets these itself, as a call of __init__ would cost it a sixth of its time.
    _breaker: "CircuitBreaker"
    _admitted: Admitted | None
    """None once an end is reported."""
    _began: float
    _outer: "Permit | None"
    """The permit of the block around this one in the same frame."""
    _callers: tuple[FrameType, ...]
    """The coroutines that awaited the block's entry, up to the task; a coroutine's frame forgets
    its caller."""
    _owner: object
    """The object whose method entered the block, once it was looked for."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a permit is for one call in one process: it cannot be copied or pickled")

    def succeed(self) -> None:
        """Report success; a call over ``slow_call_duration_threshold`` counts as slow."""
        self._end(_End.SUCCESS)

    def fail(self, error: BaseException | None = None) -> None:
        """Report failure; an ``error`` counts as the policy says of its class."""
        self._end(_End.FAILURE, error)

    def release(self) -> None:
        """Return the permit; the call is not counted."""
        self._end(_End.RELEASE)

    # No report waits for the store. These three are here for code that awaits what it calls.

    async def asucceed(self) -> None:
        """Do what ``succeed`` does."""
        self.succeed()

    async def afail(self, error: BaseException | None = None) -> None:
        """Do what ``fail`` does."""
        self.fail(error)

    async def arelease(self) -> None:
        """Do what ``release`` does."""
        self.release()

    def _end(self, end: "_End", error: BaseException | None = None) -> None:
        if (admitted := self._take()) is not None:
            try:
                contain(self._breaker.name, None, self._report, admitted, end, error)
            except BaseException:  # a signal's handler; nobody knows whether it is reported
                contain(self._breaker.name, None, self._report, admitted, _End.RELEASE, None)
                raise

    def _take(self) -> Admitted | None:
        """Return what admitted the call, at the first report alone."""
        admitted, self._admitted = self._admitted, None
        return admitted

    def _report(self, admitted: Admitted, end: "_End", error: BaseException | None) -> None:
        _record(self._breaker, admitted, self._began, end, error)


class _ProbePermit(Permit):
    """A probe's permit; if nobody reports its end, it goes back when the object goes.

    It is of the process that won it: a forked child's copy reports nothing.
    """

    __slots__ = ("_process_id",)
    _process_id: int

    def _take(self) -> Admitted | None:
        if self._process_id != os.getpid():
            self._admitted = None
        return super()._take()  # after which no signal comes before the report

    def __del__(self) -> None:
        # A signal's handler may have ended give_permit() halfway; modules may be gone at the end.
        if getattr(self, "_admitted", None) and sys is not None and not sys.is_finalizing():
            self._end(_End.RELEASE)


def report_error(
    breaker: "CircuitBreaker", admitted: SuccessCounter, began: float, error: BaseException
) -> None:
    """Report how a call ended that a closed breaker let pass, as a permit does."""
    contain(breaker.name, None, _record, breaker, admitted, began, _End.FAILURE, error)


class _End(Enum):
    SUCCESS = 1
    FAILURE = 2
    CANCELLED = 3  # counts as a slow call
    RELEASE = 4  # counts as nothing


def give_permit(breaker: "CircuitBreaker", admitted: Admitted, began: float) -> Permit:
    """Return a permit for a call that began at this monotonic instant."""
    permit = Permit()
    if is_probe(admitted):
        permit = _ProbePermit()
        permit._process_id = os.getpid()
    permit._breaker = breaker
    permit._began = began
    permit._outer = None
    permit._admitted = admitted
    return permit


def is_probe(admitted: Admitted) -> bool:
    """Return whether the call is a probe, with one of the fleet's permits."""
    return (
        isinstance(admitted, Snapshot)
        and admitted.state is State.HALF_OPEN
        and admitted.hold is None
    )


def _record(
    breaker: "CircuitBreaker",
    admitted: Admitted,
    began: float,
    end: _End,
    error: BaseException | None,
) -> None:
    state, ended, engine = breaker.used_state(), clock(), breaker.engine
    is_slow = ended - began > state.slow_after
    if error is not None and not (
        # Most errors, at the least cost: each step of a failed call delays its caller.
        state.counts_every_exception
        and isinstance(error, Exception)
        and not is_raised_by_handler(error)
    ):
        end = _end_by_error(state.policy, error, is_slow=is_slow)
    if end is _End.FAILURE:
        note = take_note(error, with_text=engine.keeps_texts)
        # Half of the time of a call of Outcome, at each failure.
        failed = (admitted.generation, began, ended, True, is_slow, True, note)
        engine.record(state, tuple.__new__(Outcome, failed))
    elif end is _End.RELEASE:
        if is_probe(admitted):
            engine.release(state, admitted.generation)
    elif end is _End.CANCELLED:  # the backend has not answered
        cancelled = Outcome(admitted.generation, began, ended, slow=True, ends_run=False)
        engine.record(state, cancelled)
    elif is_slow or is_probe(admitted):
        engine.record(state, Outcome(admitted.generation, began, ended, slow=is_slow))
    else:
        state.count_success(admitted.generation, ended)
        if not state.has_succeeded:
            engine.report_first_success(state)


def _end_by_error(policy: BreakerPolicy, error: BaseException, *, is_slow: bool) -> _End:
    is_of_program = not isinstance(error, Exception)
    if policy.ignores(error):
        return _End.RELEASE
    is_failure = policy.counts_as_failure(error)
    if not is_of_program and not is_raised_by_handler(error):
        return _End.FAILURE if is_failure else _End.SUCCESS
    # The default counts every Exception; another class counts if the policy names it.
    if is_of_program and is_failure:
        return _End.FAILURE
    # The end of a program says nothing about the backend.
    is_cancelled = is_cancellation(error)
    return _end_of_cancelled(policy, is_slow=is_slow) if is_cancelled else _End.RELEASE


def _end_of_cancelled(policy: BreakerPolicy, *, is_slow: bool) -> _End:
    if policy.record_cancelled == FAILURE:
        return _End.FAILURE
    if policy.record_cancelled == IGNORE or policy.slow_call_rate_threshold is None:
        return _End.RELEASE
    return _End.CANCELLED if is_slow or policy.record_cancelled == SLOW else _End.RELEASE
