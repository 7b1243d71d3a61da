"""Threads and locks of the interpreter's own, also where gevent has replaced Python's by greenlets.

What talks to a store must not wait for the greenlets of a process to make way. Where nothing is
replaced, all of this is what the standard library has.
"""

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Any

_hub: Any = None


def has_greenlets() -> bool:
    """Return whether gevent has replaced this process' threads by greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def may_start_threads() -> bool:
    """Return whether threads run in this process: uWSGI lets none run without an option."""
    uwsgi = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if not isinstance(options, dict):
        return True
    names = {name.decode() if isinstance(name, bytes) else str(name) for name in options}
    return bool(names & {"enable-threads", "threads", "gevent"})


def start_thread(work: Callable[..., None], *arguments: Any, name: str) -> None:
    """Run a function in a thread that ends with the process.

    Raises:
        RuntimeError: no thread is to be had.
    """
    global _hub  # noqa: PLW0603  one per process
    if not may_start_threads():
        raise RuntimeError("uWSGI runs no threads without enable-threads")
    if has_greenlets():
        from gevent import get_hub, monkey

        _hub = get_hub()
        monkey.get_original("_thread", "start_new_thread")(work, arguments)
        return
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()


def run_in_greenlet(work: Callable[[], None]) -> bool:
    """Run a function in a greenlet beside those that use stores; return False without any."""
    if _hub is None or not has_greenlets():
        return False
    from gevent import spawn

    _hub.loop.run_callback_threadsafe(spawn, work)
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
