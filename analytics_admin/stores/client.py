"""Dedicated Redis clients for the server behind a cache alias.

django-redis shares one pool per URL, so the time-outs of the first alias to connect hold for all.
Here each caller states its own, and nothing is retried. The other options are the alias' own.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.resources import files
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.core.cache import BaseCache, InvalidCacheBackendError, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache as DjangoRedisCache
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer, SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as StoreTimeout
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from analytics_admin.i18n import Message, OperatorError
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.cluster import SlotPool
from analytics_admin.stores.connections import (
    ELSEWHERE,
    Route,
    base_class,
    is_elsewhere,
    own_class,
    own_kwargs,
)
from analytics_admin.stores.routes import RoutedPool
from analytics_admin.stores.sentinel import sentinel_route
from analytics_admin.stores.tls import explain_tls, prepare_tls

P = ParamSpec("P")
R = TypeVar("R")


class StoreUnavailable(OperatorError):
    """The store behind a cache alias did not carry out a request; ``reason`` holds no secret."""

    code = "store_unavailable"


class StoreSilent(StoreUnavailable):
    """The store has not answered in time."""


class RequestRefused(StoreUnavailable):
    """The store answers, but with an error, or with what cannot be read: to this request alone?"""


class StoreFull(StoreUnavailable):
    """The store answers, but has no memory left for a write."""


class OutcomeUnknown(OperatorError):
    """The store fell silent during the operation: it may have happened or not."""

    code = "outcome_unknown"


# By exception class name, nearest class first. The driver's texts can hold a URL with its password,
# so they are never shown.
_REASONS = {
    "AuthenticationError": Message(_("the store refused the user name or password")),
    "AuthenticationWrongNumberOfArgsError": Message(
        _("the store refused the user name or password")
    ),
    "AuthorizationError": Message(_("the store's user lacks a permission that this needs")),
    "NoPermissionError": Message(_("the store's user lacks a permission that this needs")),
    "OutOfMemoryError": Message(_("the store is out of memory")),
    "ReadOnlyError": Message(_("the store is a read-only replica")),
    "MasterDownError": Message(_("the store is a replica that has lost its primary")),
    "BusyLoadingError": Message(_("the store is loading its data")),
    "MovedError": Message(_("the key lies on another node of the cluster")),
    "AskError": Message(_("the cluster is moving the key to another node")),
    "TryAgainError": Message(_("the cluster is moving the key to another node")),
    "ClusterDownError": Message(_("the cluster has no node for the key at present")),
    "ClusterCrossSlotError": Message(_("the keys lie on several nodes of a cluster")),
    "NoGuide": Message(_("nobody who knows the store's address can be reached")),
    "NoPrimary": Message(_("there is no primary of the store at present")),
    "MaxConnectionsError": Message(_("the store has no connection left")),
    "TimeoutError": Message(_("the store did not answer in time")),
    "ConnectionError": Message(_("the store cannot be reached")),
    "ResponseError": Message(_("the store refused the command")),
    "InvalidResponse": Message(_("the store's answer cannot be read")),
    "OSError": Message(_("the store cannot be reached")),
}

# Errors for which the driver has no class of their own.
_REASONS_BY_TEXT = {
    "ACL failure in script": Message(_("the store's user lacks a permission that this needs")),
    "READONLY": Message(_("the store is a read-only replica")),
    "MISCONF": Message(_("the store cannot write its data to disk")),
    "MASTERDOWN": Message(_("the store is a replica that has lost its primary")),
    "NOREPLICAS": Message(_("the store has lost its replicas")),
    "is busy running": Message(_("the store is busy with a script")),
}

_NO_POOL = Message(_("the alias' client does not lead to one server"))

# What a cache alias with unusable settings raises before it connects.
_NUMBERS = (int, float)
_UNUSABLE = (
    AttributeError,
    ValueError,
    TypeError,
    ImportError,
    NotImplementedError,
    InvalidCacheBackendError,
    ImproperlyConfigured,
)


def explain_error(error: BaseException) -> Message:
    """Return a message for operators about an exception of the redis client, without its text."""
    if (about_tls := explain_tls(error)) is not None:
        return about_tls
    text = str(error)
    if "OOM command not allowed" in text or "used memory > 'maxmemory'" in text:
        return _REASONS["OutOfMemoryError"]
    for part, reason in _REASONS_BY_TEXT.items():
        if part in text:
            return reason
    for cls in type(error).__mro__:
        if cls.__name__ in _REASONS:
            return _REASONS[cls.__name__]
    return Message(_("the store's settings are not usable"))


def translate_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise a kind of StoreUnavailable for the client's errors, without any secret."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            reason = explain_error(error)
            if reason == _REASONS["OutOfMemoryError"]:
                raise StoreFull(reason) from None
            if isinstance(error, StoreTimeout | TimeoutError):
                raise StoreSilent(reason) from None
            is_refused = isinstance(error, ResponseError) and not is_elsewhere(error)
            raise (RequestRefused if is_refused else StoreUnavailable)(reason) from None
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise RequestRefused(_REASONS["InvalidResponse"]) from error

    return wrapper


def is_local_memory(alias: str) -> bool:
    """Return whether the alias is Django's in-process cache, which other processes do not see."""
    try:
        return isinstance(caches[alias], LocMemCache)
    except _UNUSABLE:
        return False


@contextmanager
def operation_client(alias: str, *, timeout: float) -> Iterator[Any]:
    """Provide a client for one operation and close its connections afterwards.

    Raises:
        StoreUnavailable: for whatever the client raises, without any secret.
    """
    client = dedicated_client(alias, timeout=timeout)
    try:
        yield client
    except RedisError as error:
        raise StoreUnavailable(explain_error(error)) from None
    finally:
        client.connection_pool.disconnect()


def dedicated_client(alias: str, *, timeout: float) -> Any:
    """Return a redis client for the alias' server that no other code shares.

    ``timeout`` (seconds) holds for connecting and for each reply. Replies are bytes, whatever the
    alias decodes. The client connects at its first command, where there is a choice of servers to
    the one that has the data then.

    Raises:
        StoreUnavailable: the alias' settings are unusable, for example a malformed URL.
    """
    pool = _alias_pool(alias)
    try:
        kwargs = own_kwargs(pool.connection_kwargs, timeout=timeout)
        kwargs["command_packer"] = CommandPacker()
        connection_class, route = pool.connection_class, _route(pool)
        if route is not None:
            kwargs.pop("connection_pool", None)  # of Sentinel's own connections
            retry = Retry(NoBackoff(), 1, supported_errors=ELSEWHERE)
            kwargs |= {"route": route, "retry": retry}
            if isinstance(pool, SentinelConnectionPool):
                connection_class = base_class(connection_class)
        connection_class = own_class(connection_class, is_routed=route is not None)
        connection = connection_class(**kwargs)  # an option unknown to it would fail every request
        if issubclass(connection_class, SSLConnection):
            prepare_tls(connection)
        return Redis(connection_pool=ConnectionPool(connection_class=connection_class, **kwargs))
    except (*_UNUSABLE, OSError) as error:
        raise StoreUnavailable(explain_error(error)) from None


def _alias_pool(alias: str) -> Any:
    """Return the connection pool that the alias itself uses.

    Raises:
        StoreUnavailable: there is none, or not for one server.
    """
    try:
        cache = caches[alias]
        _require_one_server(cache)
        pool = getattr(_alias_client(cache), "connection_pool", None)
    except StoreUnavailable:
        raise
    # The client's class and factory are the site's own, and raise whatever they like.
    except Exception as error:
        raise StoreUnavailable(explain_error(error)) from None
    if not hasattr(pool, "connection_class"):
        raise StoreUnavailable(_NO_POOL)
    return pool


def _require_one_server(cache: BaseCache) -> None:
    """Raise StoreUnavailable for a client class that would connect to a cluster by itself."""
    client = getattr(cache, "client", None)
    path = getattr(client, "_options", {}).get("REDIS_CLIENT_CLASS")
    if path is not None and not issubclass(import_string(path), Redis):
        raise StoreUnavailable(_NO_POOL)


def _route(pool: Any) -> Route | None:
    if isinstance(pool, SentinelConnectionPool):
        return sentinel_route(pool)
    return pool.route if isinstance(pool, RoutedPool) else None


def read_string(client: Any, key: str) -> bytes | None:
    """Return what the key holds; None if there is none, or if it holds something of another type.

    Raises:
        RedisError
    """
    try:
        value: bytes | None = client.get(key)
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return None
        raise
    return value


def load_script(package: str, name: str) -> str:
    """Return the text of ``lua/NAME.lua`` in the folder of the package."""
    return files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


@cache
def script_hash(script: str) -> str:
    """Return the hash by which a server knows a script that it has run or loaded."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class CommandPacker(HiredisRespSerializer):
    """Encodes commands, with numbers as text.

    When hiredis (3.5) converts a number itself, a signal handler that raises, such as Ctrl-C's,
    ends the process with a segmentation fault.
    """

    def pack(self, *args: Any) -> Any:
        texts: Any = [str(arg) if isinstance(arg, _NUMBERS) else arg for arg in args]
        return super().pack(*texts)


def aliases_sharing_database(alias: str) -> list[str]:
    """Return the other aliases in CACHES with the same server and database, sorted.

    Compares settings only. Aliases without Redis or with unusable settings are left out; if
    ``alias`` is one of them, the list is empty.
    """
    database = database_of(alias)
    if database is None:
        return []
    others = (other for other in settings.CACHES if other != alias)
    return sorted(other for other in others if database_of(other) == database)


def other_addresses(alias: str) -> list[str]:
    """Return the aliases that may reach the same database under another address, sorted.

    They have the same database number: behind a socket, another host name or a replica. Compares
    settings only.
    """
    database = database_of(alias)
    if database is None:
        return []
    databases = {other: database_of(other) for other in settings.CACHES if other != alias}
    return sorted(
        other
        for other, address in databases.items()
        if address is not None and address != database and address[-1] == database[-1]
    )


def cluster_tag(alias: str) -> str | None:
    """Return the hash tag by which the alias finds its node of a cluster; None without one."""
    try:
        pool = _alias_pool(alias)
    except StoreUnavailable:
        return None
    return pool.tag if isinstance(pool, SlotPool) else None


_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def database_of(alias: str) -> tuple[object, ...] | None:
    """Return what identifies the alias' Redis database, or None if it has none."""
    try:
        return address_of(_alias_pool(alias))
    except (*_UNUSABLE, StoreUnavailable):
        return None


def address_of(pool: Any) -> tuple[object, ...]:
    """Return what identifies the database that the pool's connections lead to; its number last."""
    kwargs = pool.connection_kwargs
    number = int(kwargs.get("db") or 0)
    if service := getattr(pool, "service_name", None):  # Sentinel
        return ("service", service, number)
    if isinstance(pool, SlotPool):
        return ("cluster", *sorted(pool.nodes), number)
    if path := kwargs.get("path"):
        return ("path", os.path.realpath(path), number)
    host = str(kwargs.get("host") or "localhost").lower().rstrip(".")
    host = "localhost" if host in _LOOPBACK else host
    return ("host", host, int(kwargs.get("port") or 6379), number)


def _alias_client(cache: BaseCache) -> Any:
    """Return the client that the alias itself uses; it connects on its first command."""
    if isinstance(cache, DjangoRedisCache):
        return cache._cache.get_client(write=True)
    client = getattr(cache, "client", None)
    if client is None:
        raise StoreUnavailable(Message(_("the cache alias is not a django-redis cache")))
    return client.get_client(write=True)
