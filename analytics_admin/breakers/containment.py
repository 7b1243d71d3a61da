"""Keeps what goes wrong inside the engine out of protected calls: it is logged, and they go on."""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.interruption import is_injected, is_raised_by_handler

D = TypeVar("D")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

contained_logger = get_logger("analytics_admin.breakers")

LOG_INTERVAL_SECONDS = 60.0
"""An error of the engine is logged once in this time for each breaker."""
MAX_NAMES_LOGGED = 10_000

_logged_at: dict[str, float] = {}

# Around protected calls, the two functions below catch every Exception of the engine; its threads,
# and what runs a site's own code, catch their own. Whatever is wrong in it, a settings mistake or a
# store's odd answer, must not become the site's outage.


def contain(name: str, otherwise: D, function: Callable[[*Ts], T], *args: *Ts) -> T | D:
    """Call a function of the engine. If it raises, log that and return ``otherwise``.

    ``name`` is the breaker's. What the site's own code raises meanwhile is raised: a time limit
    that a signal's handler enforces, for example. While the interpreter ends, the engine is not
    called: its threads are gone.
    """
    if sys.is_finalizing():
        return otherwise
    try:
        return function(*args)
    except Exception as error:
        if not _is_of_engine(error):
            raise
        _log(name, error)
        return otherwise


async def acontain(
    name: str, otherwise: D, function: Callable[[*Ts], Awaitable[T]], *args: *Ts
) -> T | D:
    """Do what ``contain`` does for a coroutine function."""
    if sys.is_finalizing():
        return otherwise
    try:
        return await function(*args)
    except Exception as error:
        if not _is_of_engine(error):
            raise
        _log(name, error)
        return otherwise


def _is_of_engine(error: Exception) -> bool:
    """Return whether the engine failed, rather than the process or the code around the call."""
    if isinstance(error, MemoryError | RecursionError) or is_raised_by_handler(error):
        return False
    return not is_injected(error)


def _log(name: str, error: Exception) -> None:
    now = time.monotonic()
    if now - _logged_at.get(name, float("-inf")) < LOG_INTERVAL_SECONDS:
        return
    if len(_logged_at) >= MAX_NAMES_LOGGED:
        _logged_at.clear()
    _logged_at[name] = now
    contained_logger.error(
        "circuit breaker %s: its call goes on after an error in the breaker itself",
        name,
        exc_info=error,
    )
