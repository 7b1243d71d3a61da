"""What callers ask of the reporter, and how they wait for its answers.

A ``TimeoutError`` may be the caller's own time limit, raised by a signal's handler in the middle of
a wait: the waits here end without one.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.state import Snapshot
from analytics_admin.stores.threads import allocate_lock, has_greenlets


class Answer:
    """An answer that comes once, or never if it is cancelled; callers wait for it.

    It has no lock: the handler of a signal may end a caller at any step, also in the middle of
    these methods, and must not leave the reporter waiting.
    """

    __slots__ = ("_right", "_wakes", "is_cancelled", "is_done", "result")

    def __init__(self) -> None:
        self.is_done = self.is_cancelled = False
        self.result: Any = None
        self._right = [None]  # to set the result: the thread that takes it out has it
        self._wakes: list[Callable[[], object]] = []

    def give(self, result: Any) -> bool:
        """Answer, unless it is cancelled or answered; return whether that was so."""
        if not self._decide():
            return False
        self.result = result
        self._end()
        return True

    def cancel(self) -> bool:
        """Want no answer any more; return whether none will come."""
        if self._decide():
            self.is_cancelled = True
            self._end()
        return self.is_cancelled

    def when_done(self, wake: Callable[[], object]) -> None:
        """Call this once there is an answer, or there will be none."""
        self._wakes.append(wake)
        if self.is_done:
            self._wake_all()

    def wait(self, timeout: float) -> None:
        """Wait for it, but not for longer than so many seconds."""
        if self.is_done or timeout <= 0:
            return
        if has_greenlets():
            event = threading.Event()
            self.when_done(event.set)
            event.wait(timeout)
            return
        lock = allocate_lock()
        lock.acquire()
        self.when_done(lock.release)
        lock.acquire(timeout=timeout)

    async def await_it(self, timeout: float) -> None:
        """Do what ``wait`` does, without blocking the event loop."""
        if self.is_done:
            return
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_finish, done)

        self.when_done(wake)
        await asyncio.wait([done], timeout=timeout)

    def _decide(self) -> bool:
        try:
            self._right.pop()
        except IndexError:
            return False
        return True

    def _end(self) -> None:
        self.is_done = True
        self._wake_all()

    def _wake_all(self) -> None:
        with suppress(IndexError):
            while True:
                self._wakes.pop()()


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


class Wish(Enum):
    """What a request asks for."""

    LOOK = 1  # read the breaker
    PERMIT = 2  # let a probe pass
    RETURN = 3  # take a probe's permit back
    FLUSH = 4  # report everything
    LEAVE = 5  # tell the store that this process ends
    TELL = 6  # tell the store what this process obeys


def _ignore(answer: Any) -> None:
    """Take back nothing."""


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A caller's request, answered in ``answer`` unless the caller has cancelled that.

    ``take_back`` receives an answer that its caller did not take. ``spare_for`` is for how many
    seconds another call may take one that came after its caller had left.
    """

    wish: Wish
    state: LocalState | None = None
    generation: str = ""
    take_back: Callable[[Any], None] = _ignore
    spare_for: float = 0.0
    is_abandoned: bool = False
    answer: Answer = field(default_factory=Answer)

    def give(self, answer: Any) -> bool:
        """Return whether the caller still waits for it."""
        return self.answer.give(answer)

    def refuse(self) -> None:
        """Answer None, unless it is answered: there is no store to ask."""
        self.answer.give(None)

    def wait(self, timeout: float) -> Any:
        """Return the answer; None if there is none in ``timeout`` seconds, or never will be.

        Whoever is interrupted in the middle has to abandon it.
        """
        self.answer.wait(timeout)
        return self._answer_or_none()

    async def await_answer(self, timeout: float) -> Any:
        """Do what ``wait`` does, without blocking the event loop."""
        await self.answer.await_it(timeout)
        return self._answer_or_none()

    def _answer_or_none(self) -> Any:
        if not self.answer.is_done:
            self.abandon()
        return self.answer.result if not self.is_abandoned else None

    def abandon(self) -> None:
        """Have the answer taken back, whenever it comes; the second time does nothing."""
        if self.is_abandoned:
            return
        self.is_abandoned = True
        if not self.answer.cancel():
            self.answer.when_done(self._take_back)

    def _take_back(self) -> None:
        if (answer := self.answer.result) is not None:
            self.take_back(answer)


class Claim:
    """What a caller may have got before it has its permit.

    An exception may end the caller at any step: one that the handler of a signal raises, or a
    cancellation. ``Engine.abandon`` gives back what is noted here. Each note is made before, or in
    the same step as, what it is of.
    """

    __slots__ = ("request", "state", "taken")

    def __init__(self) -> None:
        self.state: LocalState | None = None
        self.request: Request | None = None
        self.taken: Snapshot | None = None
        """A permit that was there without a request."""
