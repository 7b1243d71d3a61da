"""Connections of the interpreter's own sockets, for a thread that gevent's hub must not hold up."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from redis._parsers import hiredis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from analytics_admin.stores.threads import allocate_rlock, has_greenlets


def use_own_sockets(pool: Any) -> None:
    """Have a pool's connections use no greenlets; those with TLS stay as they are.

    Does nothing where gevent has replaced nothing.
    """
    if not has_greenlets() or issubclass(pool.connection_class, SSLConnection):
        return
    pool.connection_class = _own_class(pool.connection_class)
    pool.connection_kwargs["parser_class"] = _own_parser()

    def reset() -> None:  # in a forked child, too
        type(pool).reset(pool)
        pool._lock = allocate_rlock()

    pool.reset = reset
    reset()


class _Own:
    """A module as it was before gevent replaced parts of it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        from gevent import monkey

        return monkey.get_original(self._module, name)


def _own_class(connection_class: type) -> type:
    """Return a class that opens its sockets as the driver does, from the original modules."""
    for base in (UnixDomainSocketConnection, Connection):
        if issubclass(connection_class, base):
            connect = _with_names(base._connect, socket=_Own("socket"))
            own = type("OwnConnection", (base,), {"_connect": connect})
            if connection_class is base:
                return own
            return type("OwnConnection", (connection_class, own), {})
    return connection_class


def _own_parser() -> type:
    own = _Own("select")
    can_read = _with_names(
        hiredis._HiredisParser.can_read,
        _socket_can_read=_with_names(hiredis._socket_can_read, select=own),
        _socket_is_closed=_with_names(hiredis._socket_is_closed, select=own),
    )
    return type("OwnParser", (hiredis._HiredisParser,), {"can_read": can_read})


def _with_names(function: Callable[..., Any], **names: Any) -> Any:
    """Return the function with other meanings of some global names."""
    given: Any = function
    copied = FunctionType(
        given.__code__,
        {**given.__globals__, **names},
        given.__name__,
        given.__defaults__,
        given.__closure__,
    )
    copied.__kwdefaults__ = given.__kwdefaults__
    return copied
