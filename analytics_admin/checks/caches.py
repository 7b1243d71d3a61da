"""System checks of the cache aliases behind the breakers and the search cache.

Only ``check --deploy`` contacts a server. No message shows a LOCATION: it may hold a password.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache as DjangoRedisCache
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.utils.module_loading import import_string

from analytics_admin.breakers import runtime
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.caching.clear.hard import has_sessions
from analytics_admin.caching.clear.ownership import find_settings
from analytics_admin.caching.inspection.keeping import Keeping, ask_keeping
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.checks.settings import TAG, are_unusable, check_settings, error, warning
from analytics_admin.conf import SETTING, AppSettings, app_settings
from analytics_admin.stores.client import (
    StoreUnavailable,
    aliases_sharing_database,
    cluster_tag,
    database_of,
    dedicated_client,
    is_local_memory,
)
from analytics_admin.stores.cluster import share_slot

MAX_TIMEOUT_SECONDS = 5.0
"""redis-py's own default, which is already too long for a page."""
LOCAL_MEMORY = "django.core.cache.backends.locmem.LocMemCache"
DJANGOS_REDIS = f"{DjangoRedisCache.__module__}.{DjangoRedisCache.__qualname__}"
DEFAULT_CLIENT = "django_redis.client.DefaultClient"
PICKLE = "django_redis.serializers.pickle.PickleSerializer"
BACKEND_HINT = "Use django_redis.cache.RedisCache, or LocMemCache in the tests of one process."


@register(TAG)
def check_stores(**kwargs: Any) -> list[CheckMessage]:
    """Report aliases that cannot hold the breakers or the search cache, or only badly."""
    if are_unusable(check_settings()):
        return []
    site = app_settings()
    aliases = {"SEARCH_CACHE": site.search_cache, "BREAKER_CACHE": site.breaker_cache}
    messages: list[CheckMessage] = []
    usable: set[str] = set()
    for key, alias in aliases.items():
        problems = _backend(key, alias) or [*_client_class(key, alias)] or list(_location(alias))
        if not problems:
            usable.add(alias)
        messages += problems
    for alias in sorted(usable):
        messages += [*_timeouts(alias), *_cluster(alias)]
    if site.search_cache in settings.CACHES and has_sessions(site.search_cache):
        text = f"CACHES['{site.search_cache}'] holds the sessions: a clear would log everybody out"
        hint = "Name another alias in SESSION_CACHE_ALIAS, or in SEARCH_CACHE."
        messages.append(error("E017", text, hint))
    if site.search_cache in usable:
        messages += [*_serializer(site.search_cache), *_neighbours(site)]
    return messages


@register(TAG, deploy=True)
def check_breaker_store(**kwargs: Any) -> list[CheckMessage]:
    """Report a server that can lose breakers, by eviction or at its restart."""
    if are_unusable([*check_settings(), *check_stores()]):
        return []
    messages: list[CheckMessage] = []
    try:
        store = runtime.operator_store()
        if not isinstance(store, RedisStore):
            return []
        if store.may_evict():
            text = "The breakers' store drops any key when its memory is full, breakers too"
            hint = "Set its maxmemory-policy to noeviction or to one of the volatile policies."
            messages.append(warning("W006", text, hint))
        if not store.is_persistent():
            text = "The breakers' store keeps nothing on disk: a restart closes every breaker"
            hint = "Switch on appendonly, or snapshots, if an open breaker should outlive it."
            messages.append(warning("W007", text, hint))
    except StoreUnavailable as problem:
        text = f"The breakers' store could not be asked how it keeps its data: {problem.reason}."
        messages.append(Info(text, hint="Run this check where the site runs.", id=f"{TAG}.I001"))
    return messages


@register(TAG, deploy=True)
def check_search_store(**kwargs: Any) -> list[CheckMessage]:
    """Report what a restart, a failover or a full memory does to the search cache."""
    alias = app_settings().search_cache if not are_unusable(check_settings()) else ""
    if not alias or are_unusable(check_stores()) or is_local_memory(alias):
        return []
    try:
        return list(_keeping(ask_keeping(alias)))
    except StoreUnavailable as problem:
        text = (
            f"The search cache's store could not be asked how it keeps its data: {problem.reason}."
        )
        return [Info(text, hint="Run this check where the site runs.", id=f"{TAG}.I001")]


def _keeping(keeping: Keeping) -> Iterator[CheckMessage]:
    if not keeping.has_identity:
        text = (
            "The search cache's store does not tell its user which server it is: after a restart "
            "or a failover, results from before a lost clear are served for a moment"
        )
        yield warning("W009", text, "Permit INFO to the user of the search cache.")
    if keeping.may_evict:
        text = (
            "The search cache's store drops any key when its memory is full: "
            "with the epoch record, all results are lost at once"
        )
        hint = "Set its maxmemory-policy to one of the volatile policies."
        yield warning("W010", text, hint)
    if keeping.kept == "nothing":
        text = (
            "The search cache's store keeps nothing on disk: "
            "a restart empties the cache, and every search is computed again."
        )
        hint = "Switch on snapshots or appendonly, if that is too much for the backend."
        yield Info(text, hint=hint, id=f"{TAG}.I003")
    elif keeping.kept == "snapshots":
        text = (
            "The search cache's store keeps snapshots: after a crash it lacks the clears since the "
            "last one. That is found out, and the cache is then empty."
        )
        yield Info(text, hint="Switch on appendonly to lose a second at most.", id=f"{TAG}.I004")


def _backend(key: str, alias: str) -> list[CheckMessage]:
    """Check the alias's kind of cache; empty when it is django-redis."""
    config = settings.CACHES.get(alias)
    if config is None:
        text = f"CACHES has no alias '{alias}', which {SETTING}['{key}'] names"
        hint = f"Add it with django_redis.cache.RedisCache, or name another alias in '{key}'."
        return [error("E005", text, hint)]
    try:
        kinds = import_string(config["BACKEND"]).__mro__
    except (ImportError, KeyError, AttributeError):
        return [error("E006", f"CACHES['{alias}'] has no usable BACKEND", BACKEND_HINT)]
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    if LOCAL_MEMORY in names:
        text = f"CACHES['{alias}'] is a local memory cache: each process has one of its own"
        hint = "Right for tests and first tries; several processes need django-redis there."
        return [warning("W001", text, hint)]
    if DJANGOS_REDIS not in names and not any(name.startswith("django_redis.") for name in names):
        text = f"CACHES['{alias}'] can't serve as {key}: {names[0]} is not a Redis cache"
        return [error("E006", text, BACKEND_HINT)]
    return []


def _client_class(key: str, alias: str) -> Iterator[Error]:
    """Report a client of django-redis that does not lead to one server."""
    options: Mapping[str, Any] = settings.CACHES[alias].get("OPTIONS", {})
    path = str(options.get("CLIENT_CLASS", DEFAULT_CLIENT))
    try:
        kinds = [kind.__name__ for kind in import_string(path).__mro__]
    except (ImportError, AttributeError):
        return  # the address cannot be used, either
    if "ShardClient" in kinds:
        problem = "spreads its keys over several servers, and a clear would reach one of them"
    elif "DefaultClient" in kinds or settings.CACHES[alias]["BACKEND"] == LOCAL_MEMORY:
        return
    else:
        problem = "is not one of django-redis' own"
    text = f"CACHES['{alias}'] can't serve as {key}: its client {path.rpartition('.')[2]} {problem}"
    yield error("E013", text, "Leave CLIENT_CLASS out for this alias: the default is right.")


def _locations(alias: str) -> Iterable[Any]:
    given = settings.CACHES[alias].get("LOCATION", "")
    separators = "[;,]" if _is_djangos(alias) else ","
    return re.split(separators, given) if isinstance(given, str) else given


def _is_djangos(alias: str) -> bool:
    return isinstance(caches[alias], DjangoRedisCache)


def _location(alias: str) -> Iterator[Error]:
    """Report an address that the client rejects, or whose database it would silently take as 0."""
    try:
        dedicated_client(alias, timeout=MAX_TIMEOUT_SECONDS)
        urls = [urlsplit(str(location)) for location in _locations(alias)]
        numbers = [url.path.strip("/") for url in urls if url.scheme != "unix"]
        if all(number.isdecimal() for number in numbers if number):
            return
    except (StoreUnavailable, ValueError, TypeError):
        pass
    hint = (
        "LOCATION must be like redis://host:6379/1, rediss://host:6379/1 or unix:///path?db=1, "
        "and every class named in OPTIONS importable. It is not shown: it may hold a password."
    )
    yield error("E007", f"CACHES['{alias}'] can't be used as it is written", hint)


def _timeouts(alias: str) -> Iterator[Warning]:
    """Report options that let one call wait long for a frozen or distant server."""
    options: Mapping[str, Any] = settings.CACHES[alias].get("OPTIONS", {})
    is_djangos = _is_djangos(alias)  # it hands all its options on to the connection
    pool: Mapping[str, Any] = options if is_djangos else options.get("CONNECTION_POOL_KWARGS", {})
    query = parse_qs(urlsplit(next(iter(_locations(alias)))).query)
    for key in ("SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT"):
        name = key.lower()
        own = name if is_djangos else key
        seconds = float(query[name][0]) if name in query else pool.get(name, options.get(own))
        if not seconds or seconds > MAX_TIMEOUT_SECONDS:
            state = f"is longer than {MAX_TIMEOUT_SECONDS:g} s" if seconds else "is not set"
            text = f"CACHES['{alias}']: {own} {state}, so a frozen store holds calls up"
            yield warning("W003", text, f"Set OPTIONS['{own}'] to 0.5, say.")
    retry = pool.get("retry")
    retries = pool.get("retry_on_timeout") or pool.get("retry_on_error")
    if retries or "retry_on_timeout" in query or (retry is not None and retry.get_retries() != 0):
        text = f"CACHES['{alias}']: calls are retried, which multiplies the wait for a sick store"
        where = "OPTIONS" if is_djangos else "CONNECTION_POOL_KWARGS"
        yield warning("W003", text, f"Take the retry options out of {where}.")


def _cluster(alias: str) -> Iterator[Error]:
    """Report what an alias in a Redis Cluster cannot have."""
    if (tag := cluster_tag(alias)) is None:
        return
    if not share_slot(tag, map(caches[alias].make_key, "ab")):
        text = f"CACHES['{alias}']: its keys do not have the hash tag '{tag}' that it is told"
        hint = f"Set KEY_PREFIX to '{{{tag}}}', and give each alias a tag of its own in LOCATION."
        yield error("E014", text, hint)
    if (database_of(alias) or (0,))[-1] != 0:
        text = f"CACHES['{alias}'] names a database number, and a cluster has none but 0"
        yield error("E015", text, "Leave the number out; KEY_PREFIX tells the aliases apart.")


def _serializer(alias: str) -> Iterator[Warning]:
    """Report pickle: a warning only, as it is the default of both backends."""
    options = settings.CACHES[alias].get("OPTIONS", {})
    if _is_djangos(alias):
        if options.get("serializer") is not None:
            return
        hint = "Name a class in OPTIONS['serializer'] that reads JSON."
    else:
        if options.get("SERIALIZER", PICKLE) != PICKLE:
            return
        hint = "Set OPTIONS['SERIALIZER'] to 'django_redis.serializers.json.JSONSerializer'."
    text = f"CACHES['{alias}'] unpickles what it reads: who can write the store can run code here"
    yield warning("W004", text, hint)


def _neighbours(site: AppSettings) -> Iterator[CheckMessage]:
    """Report other data in the search cache's database: a flush takes it, a clear scans past it."""
    alias = site.search_cache
    try:
        others = set(aliases_sharing_database(alias))
        if not site.search_cache_dedicated:
            keyspace(alias)
    except StoreUnavailable as problem:
        hint = "Give the search cache a KEY_PREFIX or a database of its own."
        yield error("E010", f"CACHES['{alias}'] can't be cleared: {problem.reason}", hint)
        return
    if site.breaker_cache == alias:
        others.add("the circuit breakers")
    if cluster_tag(alias) is not None:
        if site.search_cache_dedicated:
            text = f"SEARCH_CACHE_DEDICATED is on, and CACHES['{alias}'] is in a cluster"
            hint = "Set it to False: a flush would take all that lies on the same node."
            yield error("E016", text, hint)
        return
    if site.search_cache_dedicated:
        others |= {f"what {name} names" for name in find_settings(alias)}
        if alias == "default":
            text = (
                "SEARCH_CACHE_DEDICATED is on, and SEARCH_CACHE is the site's own cache, 'default'"
            )
            hint = "Give the search cache an alias and a database of its own."
            yield error("E012", text, hint)
    if not others:
        return
    text = f"CACHES['{alias}'] shares its Redis database with {', '.join(sorted(others))}"
    if site.search_cache_dedicated:
        hint = "Another database number for 'search', or SEARCH_CACHE_DEDICATED = False."
        yield error("E008", f"{text}; SEARCH_CACHE_DEDICATED would flush it all", hint)
    else:
        hint = "With a database of its own and SEARCH_CACHE_DEDICATED = True a clear is instant."
        yield warning("W002", f"{text}: a clear has to walk by all their keys", hint)
