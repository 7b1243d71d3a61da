"""Whether the search cache's database is proven to hold nothing but the search cache.

SEARCH_CACHE_DEDICATED says so. But a flush takes whatever is there, so the settings, the other
cache aliases and the database itself are asked whether they agree.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.cache import caches
from redis import ConnectionPool, Redis
from redis.connection import parse_url
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from analytics_admin.caching.clear.rehearsal import exchange, refusals_of
from analytics_admin.caching.epochs import record_key
from analytics_admin.caching.inspection.survey import MAX_SCANNED_KEYS
from analytics_admin.caching.keyspace import Keyspace, keyspace
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import (
    StoreUnavailable,
    address_of,
    aliases_sharing_database,
    database_of,
    dedicated_client,
    operation_client,
    other_addresses,
)

PROBE_TIMEOUT = 0.1
"""Seconds to ask another alias whether it leads to the same database."""
PROBE_MILLISECONDS = 5000
"""A probe that cannot be taken away again is gone after this time."""
MAX_WALKED_KEYS = 100_000
"""Databases up to this size are searched for other programs' data; of larger ones a sample."""
WALK_COUNT = 1000
SAMPLE_KEYS = 500
NOT_PERMITTED = Message(_("the store's user may not look what else is in the database"))
MAX_DEPTH = 6
MAX_KEY_CHARS = 40

SETTINGS_OF_OTHERS = re.compile(
    r"ARQ|BEAT|BROKER|CACHEOPS|CELERY|CHANNEL|CONSTANCE|DEFENDER|DRAMATIQ|HUEY|JOB|KOMBU|LOCK"
    r"|Q_CLUSTER|QUEUE|RATELIMIT|RESULT|(?<![A-Z])RQ(?![A-Z])|SCHEDULER|SESSION|SOCKET|STREAM"
    r"|TASK|THUMBNAIL|WORKER"
)
"""Names of settings by which other programs find their Redis database."""
KEYS_OF_OTHERS = (
    *("celery", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding.celery"),
    *("rq:queues", "rq:workers", "rq:queue:default", "arq:queue", "arq:queue:health-check"),
    *("dramatiq:default", "dramatiq:__heartbeats__", "huey.redis.huey", "huey.schedule.huey"),
    *("queues", "processes", "schedule", "retry", "resque:queues", "django_q:default:q"),
)
"""What queues call their data where nothing else is said."""
_URL = re.compile(r"(?:rediss?|valkeys?|unix|redis\+socket)://[^\s;,]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is known of a database before it is flushed."""

    neighbour: Message | None = None
    """Why it may hold what is not the search cache's; None: it is the cache's alone."""
    size: int | None = None
    """Its number of keys beside the epoch record; None: unknown."""
    keys: Sequence[bytes] | None = None
    """All of its keys, if they are few."""
    refusal: ResponseError | None = None
    """What the store would refuse a flush with."""


def examine(client: Any, alias: str) -> Findings:
    """Find out whether the database is the search cache's alone, and whether it may be flushed.

    Raises:
        StoreUnavailable: another cache alias shares the database, or the store does not answer.
        RedisError
    """
    unsure = _ask_aliases(client, alias)
    if alias == "default":
        unsure = Message(_("the cache alias 'default' serves the rest of the site, too"))
    unsure = unsure or _ask_settings(client, alias, database_of(alias))
    findings = _examine_database(client, alias)
    return findings if unsure is None else replace(findings, neighbour=unsure)


def _keyspace(alias: str) -> Keyspace | None:
    """Return the keyspace; None if the alias' keys do not look like its own."""
    with suppress(StoreUnavailable):
        return keyspace(alias)
    return None


def refuse_shared_database(aliases: Sequence[str]) -> None:
    """Raise StoreUnavailable if there are such aliases."""
    if aliases:
        names = ", ".join(f"'{alias}'" for alias in aliases)
        message = _(
            "SEARCH_CACHE_DEDICATED is set, but the cache alias %(names)s shares the database"
        )
        raise StoreUnavailable(Message(message, names=names))


# Other cache aliases


def _ask_aliases(client: Any, alias: str) -> Message | None:
    """Refuse if another alias leads to this database; return a message if that is not certain."""
    refuse_shared_database(aliases_sharing_database(alias))
    unsure, sharing = None, []
    for other in other_addresses(alias):
        with suppress(StoreUnavailable), operation_client(other, timeout=PROBE_TIMEOUT) as theirs:
            is_same = _is_same(client, _probe_key(alias), theirs, _probe_key(other))
            if is_same:
                sharing.append(other)
            elif is_same is None:
                text = _("the cache alias '%(alias)s' may lead to the same database")
                unsure = Message(text, alias=other)
    refuse_shared_database(sharing)
    return unsure


def _probe_key(alias: str) -> str:
    return str(caches[alias].make_key(f"analytics_admin:probe:{secrets.token_urlsafe(12)}"))


def _is_same(ours: Any, our_key: str, theirs: Any, their_key: str) -> bool | None:
    """Say whether both clients have one database; None if their users may not find out.

    Each may be limited to the keys of its own prefix, or to reading.
    """
    for writer, reader, key in ((ours, theirs, our_key), (theirs, ours, their_key)):
        try:
            writer.set(key, 1, px=PROBE_MILLISECONDS)
        except NoPermissionError:
            continue
        try:
            return bool(reader.exists(key))
        except NoPermissionError:
            continue
        finally:
            with suppress(RedisError):
                writer.unlink(key)
    return None


# Settings of other programs


class Place(NamedTuple):
    """A Redis database that a setting names."""

    setting: str
    pool: ConnectionPool


def _ask_settings(client: Any, alias: str, own: tuple[object, ...] | None) -> Message | None:
    """Return a message about a setting that leads to this database, or may do so."""
    for place in _places(alias):
        address = address_of(place.pool)
        text = Message(_("the setting %(setting)s names the same database"), setting=place.setting)
        if own is None or address == own:
            return text
        if address[-1] != own[-1]:
            continue
        theirs: Any = Redis(connection_pool=place.pool)
        key = _probe_key(alias)
        try:
            # The other way round is of no use: their keys are unknown.
            client.set(key, 1, px=PROBE_MILLISECONDS)
            if theirs.exists(key):
                return text
        except NoPermissionError:
            return text
        except (RedisError, OSError):  # it is down, or it is none: its settings are believed
            continue
        finally:
            with suppress(RedisError):
                client.unlink(key)
            place.pool.disconnect()
    return None


def _places(alias: str) -> Iterator[Place]:
    for name in dir(settings):
        if name.isupper() and SETTINGS_OF_OTHERS.search(name):
            for pool in _pools(getattr(settings, name), alias):
                yield Place(name, pool)
    for name, value in os.environ.items():
        if SETTINGS_OF_OTHERS.search(name):
            for pool in _pools(value, alias):
                yield Place(name, pool)


def _pools(value: Any, alias: str, depth: int = 0) -> Iterator[ConnectionPool]:
    """Yield a pool for each database that the value of a setting names."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        for url in _URL.findall(value):
            with suppress(ValueError):
                yield _pool_of(url)
    elif _is_address(value):
        yield _limited(host=value[0], port=value[1], db=0)
    elif isinstance(value, Mapping):
        yield from _pools_of_fields({str(key).lower(): item for key, item in value.items()}, alias)
        for item in value.values():
            if not _is_address(item):
                yield from _pools(item, alias, depth + 1)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _pools(item, alias, depth + 1)


def _pools_of_fields(fields: Mapping[str, Any], alias: str) -> Iterator[ConnectionPool]:
    """Yield a pool for each database that a dict names by host, address, path or alias."""
    host, port, path = fields.get("host"), fields.get("port"), fields.get("unix_socket_path")
    address = fields.get("address")
    if _is_address(address):
        host, port = address[0], address[1]
    number = _number(fields.get("db"), 0)
    if isinstance(path, str):
        yield _pool_of(f"unix://{path}?db={number}")
    elif isinstance(host, str) and not _URL.match(host):
        yield _limited(host=host, port=_number(port, 6379), db=number)
    if fields.get("use_redis_cache") == alias:
        yield dedicated_client(alias, timeout=PROBE_TIMEOUT).connection_pool


def _is_address(value: Any) -> TypeGuard[Sequence[Any]]:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _number(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int) or str(value).isdecimal() else default


def _pool_of(url: str) -> ConnectionPool:
    """Return a pool for the URL, of which the last part may be in Celery's own form.

    Raises:
        ValueError: it cannot be understood.
    """
    if url.startswith("redis+socket://"):
        parts = urlsplit(url)
        virtual_host = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")
        url = f"unix://{parts.path}?db={virtual_host or 0}"
    scheme, _, rest = url.partition("://")
    scheme = scheme.replace("valkeys", "rediss").replace("valkey", "redis")
    parse: Callable[[str], Mapping[str, Any]] = parse_url
    given = parse(f"{scheme}://{rest.partition('?')[0]}")
    number = parse_qs(urlsplit(url).query).get("db", [given.get("db") or 0])[0]
    return _limited(**{**given, "db": _number(number, 0)})


def _limited(**kwargs: Any) -> ConnectionPool:
    limits = {"socket_timeout": PROBE_TIMEOUT, "socket_connect_timeout": PROBE_TIMEOUT}
    return ConnectionPool(**{**kwargs, **limits, "protocol": 2, "driver_info": None})


def find_settings(alias: str) -> list[str]:
    """Return the settings of other programs that name the alias' database, sorted.

    Compares settings only.
    """
    own = database_of(alias)
    return sorted({place.setting for place in _places(alias) if address_of(place.pool) == own})


# What lies in the database


def _examine_database(client: Any, alias: str) -> Findings:
    """Look for what no cache stores: what queues keep, and any list, set, hash or stream."""
    key, names = record_key(alias), [*KEYS_OF_OTHERS, *_queues()]
    asked = [*(("EXISTS", name) for name in names), ("EXISTS", key), ("DBSIZE",)]
    *found, has_record, size = exchange(client, asked)
    refusals = refusals_of(client, ("FLUSHDB", "ASYNC"), ("SET", key, ""), ("GET", key))
    findings = Findings(
        size=size - has_record if isinstance(size, int) and has_record in {0, 1} else None,
        refusal=refusals[0] if refusals else None,
    )
    for name, exists in zip(names, found, strict=True):
        if exists == 1:
            return replace(findings, neighbour=_holds(name.encode()))
    if isinstance(size, NoPermissionError):
        return replace(findings, neighbour=NOT_PERMITTED)
    if isinstance(size, ResponseError):
        raise size
    own, keys = _keyspace(alias), set[bytes]()  # SCAN may return a key twice
    try:
        for page in _pages(client, size):
            keys.update(page)
            if (foreign := _find_foreign_type(client, page, own)) is not None:
                return replace(findings, neighbour=_holds(foreign))
    except NoPermissionError:
        return replace(findings, neighbour=NOT_PERMITTED)
    return replace(findings, keys=list(keys) if size <= MAX_SCANNED_KEYS else None)


def _queues() -> Iterator[str]:
    """Yield what the queues that settings name would be kept under."""
    for name in ("CELERY_TASK_DEFAULT_QUEUE", "CELERY_DEFAULT_QUEUE", "task_default_queue"):
        if isinstance(queue := getattr(settings, name, None), str):
            yield from (queue, f"_kombu.binding.{queue}")
    queues = getattr(settings, "RQ_QUEUES", None)
    for queue in queues if isinstance(queues, Mapping) else ():
        yield f"rq:queue:{queue}"


def _pages(client: Any, size: int) -> Iterator[Sequence[bytes]]:
    """Yield the keys of the database; of a large one some that are drawn by lot."""
    if size > MAX_WALKED_KEYS:
        pipeline = client.pipeline(transaction=False)
        for _number_of_key in range(SAMPLE_KEYS):
            pipeline.randomkey()
        yield [key for key in pipeline.execute() if key is not None]
        return
    cursor = 0
    while size:
        cursor, page = client.scan(cursor, count=WALK_COUNT)
        yield page
        if not cursor:
            return


def _find_foreign_type(client: Any, page: Sequence[bytes], own: Keyspace | None) -> bytes | None:
    others = [key for key in page if own is None or not own.is_own(key)]
    if not others:
        return None
    pipeline = client.pipeline(transaction=False)
    for key in others:
        pipeline.type(key)
    for key, kind in zip(others, pipeline.execute(raise_on_error=False), strict=True):
        if kind not in {b"string", b"none"}:  # also where it may not be asked
            return key
    return None


def _holds(key: bytes) -> Message:
    name = key[:MAX_KEY_CHARS].decode(errors="backslashreplace")
    return Message(_("the database holds '%(key)s', which is no value of a cache"), key=name)
