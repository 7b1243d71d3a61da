"""What interrupts a call from outside: cancellation, time limits, handlers of signals."""

# Each failure asks for the handlers; signal.getsignal takes 40 times as long to say "none".
from _signal import getsignal  # type: ignore[import-not-found]
from asyncio import CancelledError
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

_GREENLET_PACKAGES = ("gevent", "greenlet", "eventlet")
_GREENLET_CLASSES = ("Timeout", "GreenletExit")
_SIGNALS = range(1, 32)


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
    """Return whether the handler of a signal raised the exception."""
    handlers = [getsignal(number) for number in _SIGNALS]
    codes = {id(_code_of(handler)) for handler in handlers if callable(handler)}
    return bool(codes) and any(id(frame.f_code) in codes for frame in traceback_frames(error))


def traceback_frames(error: BaseException) -> Iterator[FrameType]:
    """Return the frames through which the exception has come, the outermost first."""
    entry = error.__traceback__
    while entry is not None:
        yield entry.tb_frame
        entry = entry.tb_next


def _is_of_greenlets(cls: type) -> bool:
    """Go by names: these packages need not be installed."""
    package = str(cls.__module__).partition(".")[0]
    return cls.__name__ in _GREENLET_CLASSES and package in _GREENLET_PACKAGES


def _code_of(handler: Any) -> object:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    called = function if hasattr(function, "__code__") else type(function).__call__
    return getattr(called, "__code__", called)
