"""Hooks for the end and the fork of a process. They do not keep their object alive."""

import atexit
import multiprocessing.util
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol


class ProcessAware(Protocol):
    """An object with work to do when its process ends or forks."""

    def flush(self) -> None:
        """Send what is still pending; the process ends."""

    def after_fork(self) -> None:
        """Start afresh in a forked child."""


_after_fork: list[Callable[[], None]] = []
_at_end: list[Callable[[], None]] = []
_pid = os.getpid()


def notice_fork() -> None:
    """Have forked children start afresh whose parent forked without Python's knowledge.

    So does uWSGI without threads.
    """
    global _pid  # noqa: PLW0603  one per process
    if _pid != os.getpid():
        _pid = os.getpid()
        for start_afresh in _after_fork:
            start_afresh()


os.register_at_fork(after_in_child=notice_fork)


def register_process_hooks(target: ProcessAware) -> None:
    """Call ``flush`` when this process ends and ``after_fork`` in forked children."""
    flush = _weakly(target.flush)
    atexit.register(flush)
    _at_end.append(flush)
    multiprocessing.util.register_after_fork(target, _flush_at_end_of_child)
    if multiprocessing.parent_process() is not None:  # created by a child, after its fork
        _flush_at_end_of_child(target)
    _flush_at_end_of_worker(target)
    reference = weakref.ref(target)
    _after_fork.append(lambda: _start_afresh(reference()))


def flush_all() -> None:
    """Send all that is pending, for a process that ends in a way that runs no hook."""
    with ExitStack() as flushes:
        for flush in _at_end:
            flushes.callback(flush)


def _flush_at_end_of_child(target: ProcessAware) -> None:
    """Use a finalizer: children of multiprocessing end without atexit."""
    multiprocessing.util.Finalize(None, _weakly(target.flush), exitpriority=10)


def _start_afresh(target: ProcessAware | None) -> None:
    if target is not None:
        target.after_fork()
        _flush_at_end_of_billiards_child(target)
        _flush_at_end_of_worker(target)


def _flush_at_end_of_billiards_child(target: ProcessAware) -> None:
    """Use its own finalizer: Celery's pool has a copy of multiprocessing, which knows no other."""
    billiard = sys.modules.get("billiard.util")
    if billiard is not None:
        billiard.Finalize(None, _weakly(target.flush), exitpriority=10)


def _flush_at_end_of_worker(target: ProcessAware) -> None:
    """Use Celery's signal, if it is imported: its prefork workers end by ``os._exit``."""
    celery = sys.modules.get("celery.signals")
    if celery is not None:
        flush = _weakly(target.flush)
        celery.worker_process_shutdown.connect(
            lambda **_: flush(), weak=False, dispatch_uid=("analytics_admin", id(target))
        )


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a callable that does not keep the method's object alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (bound := reference()) is not None:
            bound()

    return call
