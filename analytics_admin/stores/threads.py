"""Threads and locks of the interpreter's own, also where gevent has replaced Python's by greenlets.

What talks to a store must not wait for the greenlets of a process to make way. Where nothing is
replaced, all of this is what the standard library has.
"""

import _thread
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from analytics_admin.stores.contained_logger import ContainedLogger

RETRY_SECONDS = 2.0
"""Wait before a thread that was not to be had is tried again."""
MAX_BIRTH_SECONDS = 10.0
"""A thread that has not begun its work by then never will: starting it was interrupted."""

FIRST_ERROR_PAUSE_SECONDS = 1.0
MAX_ERROR_PAUSE_SECONDS = 60.0
"""Before work that has raised begins again. Each further pause is twice as long."""

_hub: Any = None
_own: set[int] = set()
"""The threads that were started beside greenlets."""


def has_greenlets() -> bool:
    """Return whether gevent has replaced this process' threads by greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def may_start_threads() -> bool:
    """Return whether threads run in this process: uWSGI lets none run without an option."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)
    if not isinstance(options, dict):
        return True
    return bool(uwsgi_options() & {"enable-threads", "threads", "gevent"})


def uwsgi_options() -> set[str]:
    """Return the names of the options with which uWSGI runs this process; none without it."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)
    if not isinstance(options, dict):
        return set()
    return {name.decode() if isinstance(name, bytes) else str(name) for name in options}


def start_thread(work: Callable[..., None], *arguments: Any, name: str) -> None:
    """Run a function in a thread of the interpreter's own, which ends with the process.

    Raises:
        RuntimeError, MemoryError: no thread is to be had.
    """
    global _hub  # noqa: PLW0603  one per process
    if has_greenlets() and may_start_threads():
        from gevent import get_hub, monkey

        if _ident() not in _own:  # nothing runs in the hub of a thread of ours
            _hub = get_hub()
        monkey.get_original("_thread", "start_new_thread")(_run_own, (work, *arguments))
        return
    start_plain_thread(work, *arguments, name=name)


def _run_own(work: Callable[..., None], *arguments: Any) -> None:
    _own.add(_ident())
    try:
        work(*arguments)
    finally:
        _own.discard(_ident())


def _ident() -> int:
    return int(_original("get_ident")())


def start_plain_thread(work: Callable[..., None], *arguments: Any, name: str) -> None:
    """Run a function in a thread of Python's, which gevent makes a greenlet of this one.

    Raises:
        RuntimeError, MemoryError: no thread is to be had.
    """
    if not may_start_threads():
        raise RuntimeError("uWSGI runs no threads without enable-threads")
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()


class KeptThread:
    """One thread, begun when needed: again if it has ended, later if there was none to be had.

    After a fork the child needs another. With a ``log``, work that raises is logged there and
    begins again, whatever it raises: no exception can be meant for this thread.
    """

    def __init__(
        self,
        work: Callable[..., None],
        *arguments: Any,
        name: str,
        log: ContainedLogger | None = None,
    ) -> None:
        self._work = work
        self._arguments = arguments
        self._name = name
        self._log = log
        self._lock = allocate_rlock()
        self._run: object = None
        self._unborn_until = self._retry_at = float("-inf")
        self._was_tried = self.is_alive = False
        """Whether it works, or is about to."""

    @property
    def is_missing(self) -> bool:
        """Whether it was begun, or tried, and does not work now."""
        return self._was_tried and not self.is_alive

    def begin(self, start: Callable[..., None] = start_thread) -> bool:
        """Begin it unless it works already; return whether it does, or is about to."""
        # Nobody waits here for a start that is under way: a busy process takes long to begin it.
        if self.is_alive and (
            self._unborn_until == float("inf") or time.monotonic() < self._unborn_until
        ):
            return True
        with self._lock:
            now = time.monotonic()
            if self.is_alive and now < self._unborn_until:
                return True
            if now < self._retry_at:
                return False
            run = self._run = object()
            self._was_tried = True
            self.is_alive, self._unborn_until = True, now + MAX_BIRTH_SECONDS
            try:
                start(self._live, run, name=self._name)
            # No thread to be had, or the interpreter is ending. After any other exception, of a
            # signal's handler, the thread may have begun.
            except (RuntimeError, MemoryError):
                self.is_alive, self._run = False, None
                self._retry_at = now + RETRY_SECONDS
                return False
        return True

    def _live(self, run: object) -> None:
        with self._lock:
            if run is not self._run:
                return  # another has taken its place
            self._unborn_until = float("inf")
        try:
            if self._log is None:
                self._work(*self._arguments)
            else:
                self._work_on(self._log)
        finally:
            with self._lock:
                if run is self._run:
                    self.is_alive, self._run = False, None

    def _work_on(self, log: ContainedLogger) -> None:
        pause = FIRST_ERROR_PAUSE_SECONDS
        while True:
            began_at = time.monotonic()
            try:
                self._work(*self._arguments)
                return
            except BaseException as error:
                with suppress(BaseException):
                    log.error("%s: internal error", self._name, exc_info=error)
            if time.monotonic() - began_at > MAX_ERROR_PAUSE_SECONDS:
                pause = FIRST_ERROR_PAUSE_SECONDS
            time.sleep(pause)
            pause = min(2 * pause, MAX_ERROR_PAUSE_SECONDS)


def run_in_greenlet(work: Callable[[], None]) -> bool:
    """Run a function in a greenlet beside those that use stores; return False without any."""
    if _hub is None or not has_greenlets():
        return False
    from gevent import spawn

    try:
        _hub.loop.run_callback_threadsafe(spawn, work)
    except Exception:  # the thread of that hub has ended
        return False
    return True


def allocate_lock() -> Any:
    """Return a lock of the interpreter's own."""
    return _original("allocate_lock")()


def allocate_rlock() -> Any:
    """Return a re-entrant lock of the interpreter's own.

    All greenlets of a thread share it: nothing may wait while it is held.
    """
    return _original("RLock")()


def _original(name: str) -> Any:
    if has_greenlets():
        from gevent import monkey

        return monkey.get_original("_thread", name)
    return getattr(_thread, name)
