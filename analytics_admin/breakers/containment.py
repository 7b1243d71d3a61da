"""Keeps what goes wrong inside the engine out of protected calls: it is logged, and they go on."""

import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, TypeVarTuple

from analytics_admin.breakers.interruption import is_raised_by_handler

D = TypeVar("D")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger("analytics_admin.breakers")

LOG_INTERVAL_SECONDS = 60.0
"""An error of the engine is logged once in this time for each breaker."""
MAX_NAMES_LOGGED = 10_000

_OWN_PACKAGES: Final = frozenset(
    {"analytics_admin", "django", "django_redis", "redis", "valkey", "hiredis"}
)
_logged_at: dict[str, float] = {}


class ContainedLogger(logging.LoggerAdapter[logging.Logger]):
    """The engine's log. A site's filter or handler that raises harms no call and no thread."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        try:
            super().log(level, msg, *args, **({"stacklevel": 2} | options))
        except (Exception, SystemExit) as error:
            if is_raised_by_handler(error) or _is_injected(error):
                raise


contained_logger = ContainedLogger(logger)

# In protected calls, only the two functions below catch every Exception of the engine; its threads
# catch their own. Whatever is wrong in it, a settings mistake or a store's odd answer, must not
# become the site's outage.


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
    return not _is_injected(error)


def _is_injected(error: BaseException) -> bool:
    """Return whether another thread has raised an exception of the site's in this one.

    Packages that limit the time of threads do so. Nothing of the engine raises such a class.
    """
    raised_at = error.__traceback__
    while raised_at is not None and raised_at.tb_next is not None:
        raised_at = raised_at.tb_next
    where = _package(raised_at and raised_at.tb_frame.f_globals.get("__name__"))
    return _is_own(where) and not _is_own(_package(type(error).__module__))


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def _is_own(package: str) -> bool:
    return package in _OWN_PACKAGES or package in sys.stdlib_module_names or package == "builtins"


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
