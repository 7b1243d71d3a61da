"""What has to be done when the process ends or forks; keeps nobody alive for it."""

import atexit
import multiprocessing.util
import os
import weakref
from collections.abc import Callable
from typing import Protocol


class ProcessAware(Protocol):
    """Something that has last words, and cannot be used as it is on the other side of a fork."""

    def flush(self) -> None:
        """Say the last words."""

    def after_fork(self) -> None:
        """Begin anew, in the child."""


def register_process_hooks(follower: ProcessAware) -> None:
    """Have the follower flushed when this process ends, and begun anew in forked children."""
    atexit.register(_weakly(follower.flush))
    multiprocessing.util.register_after_fork(follower, _flush_at_end_of_child)
    if multiprocessing.parent_process() is not None:  # begun by a child, after its fork
        _flush_at_end_of_child(follower)
    os.register_at_fork(after_in_child=_weakly(follower.after_fork))


def _flush_at_end_of_child(follower: ProcessAware) -> None:
    """multiprocessing's children leave without atexit; this is their way."""
    multiprocessing.util.Finalize(None, _weakly(follower.flush), exitpriority=10)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a callable that does not keep the method's object alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
