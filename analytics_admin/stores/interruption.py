"""What interrupts a call from outside: cancellation, time limits, handlers of signals."""

import sys

# Failures ask for the handlers; signal.getsignal takes 40 times as long to say "none".
from _signal import getsignal  # type: ignore[import-not-found]
from asyncio import CancelledError
from functools import partial
from inspect import CO_VARARGS
from types import CodeType
from typing import Any, Final

_GREENLET_PACKAGES = ("gevent", "greenlet", "eventlet")
_GREENLET_CLASSES = ("Timeout", "GreenletExit")
_SIGNALS = range(1, 32)
_OWN_PACKAGES: Final = frozenset(
    {"analytics_admin", "django", "django_redis", "redis", "valkey", "hiredis"}
)
# The handlers of these signals and the ids of their code.
_known: tuple[tuple[Any, ...], frozenset[int]] = ((), frozenset())


def is_cancellation(error: BaseException) -> bool:
    """Return whether a call was cancelled or timed out from outside, rather than failed.

    So end a cancelled task, a greenlet that is killed or over its ``gevent.Timeout``, and a call
    that the handler of a signal such as SIGALRM interrupts with an exception of its own.
    """
    if isinstance(error, CancelledError):
        return True
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return False
    if not isinstance(error, Exception) and any(map(_is_of_greenlets, type(error).__mro__)):
        return True
    return is_raised_by_handler(error)


def is_raised_by_handler(error: BaseException) -> bool:
    """Return whether the handler of a signal raised the exception that another frame caught."""
    codes: frozenset[int] | None = None
    entry = error.__traceback__
    while entry is not None and (entry := entry.tb_next) is not None:
        code = entry.tb_frame.f_code
        # A handler takes a signal and a frame, so that few errors need to ask for the handlers.
        if code.co_argcount > 1 or code.co_flags & CO_VARARGS:
            if codes is None and not (codes := _handler_codes()):
                return False
            if id(code) in codes:
                return True
    return False


def is_injected(error: BaseException) -> bool:
    """Return whether another thread has raised an exception of the site's in this one.

    Packages that limit the time of threads do so. Nothing of the engines raises such a class.
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


def _handler_codes() -> frozenset[int]:
    """Return the ids of the code of this process' handlers, looked up again if one has changed."""
    global _known  # noqa: PLW0603  replaced as a whole
    handlers = tuple(map(getsignal, _SIGNALS))
    known, codes = _known
    if _differ(handlers, known):
        own = [_code_of(handler) for handler in handlers if callable(handler)]
        codes = frozenset(id(code) for code in own if code is not None)
        _known = handlers, codes
    return codes


def _differ(handlers: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Compare as fast as can be: handlers that are the same need no comparison of their own."""
    try:
        return handlers != known
    except Exception:  # a handler's own code
        return True


def _is_of_greenlets(cls: type) -> bool:
    """Go by names: these packages need not be installed."""
    package = str(cls.__module__).partition(".")[0]
    return cls.__name__ in _GREENLET_CLASSES and package in _GREENLET_PACKAGES


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that runs as the handler; None for one that is built in."""
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    called = function if hasattr(function, "__code__") else type(function).__call__
    code = getattr(called, "__code__", None)
    return code if isinstance(code, CodeType) else None
