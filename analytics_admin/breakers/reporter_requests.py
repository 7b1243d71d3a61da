"""What callers ask of the reporter, and how they wait for its answers.

A ``TimeoutError`` may be the caller's own time limit, raised by a signal's handler in the middle of
a wait: the waits here end without one.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from analytics_admin.breakers.local_state import LocalState
from analytics_admin.stores.threads import allocate_rlock, has_greenlets


def new_answer() -> "Future[Any]":
    """Return a future that the reporter can fulfil without waiting for any greenlet."""
    answer: Future[Any] = Future()
    if has_greenlets():
        answer._condition = threading.Condition(allocate_rlock())
    return answer


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A caller's request, answered in ``answer`` unless the caller has cancelled that.

    ``take_back`` receives an answer that came after its caller had left.
    """

    wish: Wish
    state: LocalState | None = None
    generation: str = ""
    take_back: Callable[[Any], None] = _ignore
    answer: "Future[Any]" = field(default_factory=new_answer)

    def give(self, answer: Any) -> bool:
        """Return whether the caller still waits for it."""
        if not self.answer.set_running_or_notify_cancel():
            return False
        self.answer.set_result(answer)
        return True

    def refuse(self) -> None:
        """Answer None, unless it is answered: there is no store to ask."""
        if not self.answer.done():
            self.give(None)

    def wait(self, timeout: float) -> Any:
        """Return the answer; None if there is none in ``timeout`` seconds, or never will be."""
        try:
            wait([self.answer], timeout=timeout, return_when=FIRST_COMPLETED)
            return self._answer_or_none()
        except BaseException:
            self._abandon()
            raise

    async def await_answer(self, timeout: float) -> Any:
        """Do what ``wait`` does, without blocking the event loop."""
        try:
            if not self.answer.done():
                await asyncio.wait([asyncio.wrap_future(self.answer)], timeout=timeout)
            return self._answer_or_none()
        except BaseException:  # cancelled, or closed
            self._abandon()
            raise

    def _answer_or_none(self) -> Any:
        if not self.answer.done():
            self._abandon()
        elif not self.answer.cancelled():
            return self.answer.result()
        return None

    def _abandon(self) -> None:
        """Have what comes too late taken back."""
        if not self.answer.cancel():
            self.answer.add_done_callback(self._take_back)

    def _take_back(self, answer: "Future[Any]") -> None:
        if not answer.cancelled() and answer.result() is not None:
            self.take_back(answer.result())
