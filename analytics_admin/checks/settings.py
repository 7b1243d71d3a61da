"""System checks of settings and stores: what would go wrong later, said before the start.

They read settings alone: no store, no database. No text holds a setting's value that could be a
secret, so a LOCATION is never shown.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.registry import validate_name
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.checks.setting_rules import RULES, Problem, describe_type
from analytics_admin.conf import KEYS, SETTING, AppSettings, app_settings
from analytics_admin.stores.client import StoreUnavailable, dedicated_client, shares_database

TAG = "analytics_admin"
MAX_TIMEOUT_SECONDS = 5.0
"""Seconds; redis-py's own default, which is already too long for a page."""
LOCAL_MEMORY = "django.core.cache.backends.locmem.LocMemCache"
PICKLE = "django_redis.serializers.pickle.PickleSerializer"


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Find keys of ``ANALYTICS_ADMIN`` that do not exist, and values that can't be used."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        text = f"{SETTING} must be a dict, not {describe_type(given)}"
        return [_error("E001", text, f"Write {SETTING} = {{}} or leave it out.")]
    found: list[CheckMessage] = []
    for key, value in given.items():
        if key not in KEYS:
            found.append(_unknown_key(key))
        elif problem := RULES[key](value):
            hint = f"Correct {SETTING}['{key}'], or leave it out for its default."
            found.append(_error("E003", f"{SETTING}['{key}'] {problem}", hint))
    return found or [*_environment(app_settings()), *_policies(app_settings())]


@register(TAG)
def check_stores(**kwargs: Any) -> list[CheckMessage]:
    """Find cache aliases that can't hold the breakers or the search cache, or not well."""
    if any(issue.is_serious() for issue in check_settings()):
        return []
    site = app_settings()
    named = {"SEARCH_CACHE": site.search_cache, "BREAKER_CACHE": site.breaker_cache}
    found: list[CheckMessage] = []
    usable: set[str] = set()
    for key, alias in named.items():
        issues = _backend(key, alias) or list(_location(alias))
        if not issues:
            usable.add(alias)
        found += issues
    for alias in sorted(usable):
        found += _hanging(alias)
    if site.search_cache in usable:
        found += [*_serializer(site.search_cache), *_sharing(site)]
    return found


def _error(number: str, text: str, hint: str) -> Error:
    return Error(f"{text}.", hint=hint, id=f"{TAG}.{number}")


def _warning(number: str, text: str, hint: str) -> Warning:
    return Warning(f"{text}.", hint=hint, id=f"{TAG}.{number}")


def _unknown_key(key: object) -> Error:
    near = difflib.get_close_matches(str(key).upper(), KEYS, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(KEYS))}."
    return _error("E002", f"{SETTING} has no setting {str(key)!r}", hint)


def _environment(site: AppSettings) -> Iterator[Error]:
    """Find that operators are to type a name that there is not: they could do nothing."""
    if site.require_environment_name and not site.environment_name.strip():
        text = f"{SETTING}['REQUIRE_ENVIRONMENT_NAME'] is on, and ENVIRONMENT_NAME is empty"
        hint = "Say in ENVIRONMENT_NAME which site this is, or leave REQUIRE_ENVIRONMENT_NAME out."
        yield _error("E011", text, hint)


def _policies(site: AppSettings) -> Iterator[Error]:
    """Try each policy as it will be merged; the defaults are judged once."""
    if problem := _policy(site.breaker_defaults):
        yield _error("E004", f"{SETTING}['BREAKER_DEFAULTS']: {problem}", _POLICY_HINT)
        return
    for name, options in site.breakers.items():
        if problem := _policy({**site.breaker_defaults, **options}, name=name):
            yield _error("E004", f"{SETTING}['BREAKERS'][{name!r}]: {problem}", _POLICY_HINT)


_POLICY_HINT = "analytics_admin.breakers.policy lists the options with their units and bounds."


def _policy(options: Mapping[str, Any], *, name: str = "any") -> Problem:
    try:
        validate_name(name)
        BreakerPolicy.from_options(options)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _backend(key: str, alias: str) -> list[CheckMessage]:
    """Judge what kind of cache the alias is; empty when django-redis stands behind it."""
    config = settings.CACHES.get(alias)
    if config is None:
        text = f"CACHES has no alias '{alias}', which {SETTING}['{key}'] names"
        hint = f"Add it with django_redis.cache.RedisCache, or name another alias in '{key}'."
        return [_error("E005", text, hint)]
    try:
        kinds = import_string(config["BACKEND"]).__mro__
    except (ImportError, KeyError, AttributeError):
        return [_error("E006", f"CACHES['{alias}'] has no usable BACKEND", _BACKEND_HINT)]
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    if LOCAL_MEMORY in names:
        text = f"CACHES['{alias}'] is a local memory cache: each process has one of its own"
        hint = "Right for tests and first tries; several processes need django-redis there."
        return [_warning("W001", text, hint)]
    if not any(name.startswith("django_redis.") for name in names):
        text = f"CACHES['{alias}'] can't serve as {key}: {names[0]} is not a django-redis cache"
        return [_error("E006", text, _BACKEND_HINT)]
    return []


_BACKEND_HINT = "Use django_redis.cache.RedisCache, or LocMemCache in the tests of one process."


def _locations(alias: str) -> Iterable[Any]:
    given = settings.CACHES[alias].get("LOCATION", "")
    return given.split(",") if isinstance(given, str) else given


def _location(alias: str) -> Iterator[Error]:
    """Find an address that the client refuses, or whose database it would silently take as 0."""
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
    yield _error("E007", f"CACHES['{alias}'] can't be used as it is written", hint)


def _hanging(alias: str) -> Iterator[Warning]:
    """Find what lets one call wait long for a store that is frozen or far."""
    options: Mapping[str, Any] = settings.CACHES[alias].get("OPTIONS", {})
    pool: Mapping[str, Any] = options.get("CONNECTION_POOL_KWARGS", {})
    query = parse_qs(urlsplit(next(iter(_locations(alias)))).query)
    for key in ("SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT"):
        word = key.lower()
        seconds = float(query[word][0]) if word in query else pool.get(word, options.get(key))
        if not seconds or seconds > MAX_TIMEOUT_SECONDS:
            state = f"is longer than {MAX_TIMEOUT_SECONDS:g} s" if seconds else "is not set"
            text = f"CACHES['{alias}']: {key} {state}, so a frozen store holds calls up"
            yield _warning("W003", text, f"Set OPTIONS['{key}'] to 0.5, say.")
    retry = pool.get("retry")
    again = pool.get("retry_on_timeout") or pool.get("retry_on_error")
    if again or "retry_on_timeout" in query or (retry is not None and retry.get_retries() != 0):
        text = f"CACHES['{alias}']: calls are retried, which multiplies the wait for a sick store"
        yield _warning("W003", text, "Take the retry options out of CONNECTION_POOL_KWARGS.")


def _serializer(alias: str) -> Iterator[Warning]:
    """A warning, not an error: it is django-redis' default, and harms only with the store lost."""
    if settings.CACHES[alias].get("OPTIONS", {}).get("SERIALIZER", PICKLE) != PICKLE:
        return
    text = f"CACHES['{alias}'] unpickles what it reads: who can write the store can run code here"
    hint = "Set OPTIONS['SERIALIZER'] to 'django_redis.serializers.json.JSONSerializer'."
    yield _warning("W004", text, hint)


def _sharing(site: AppSettings) -> Iterator[CheckMessage]:
    """Find neighbours in the search cache's database: a flush takes them, a clear walks by them."""
    alias = site.search_cache
    try:
        others = set(shares_database(alias))
        if not site.search_cache_dedicated:
            keyspace(alias)
    except StoreUnavailable as error:
        hint = "Give the search cache a KEY_PREFIX or a database of its own."
        yield _error("E010", f"CACHES['{alias}'] can't be cleared: {error.reason}", hint)
        return
    if site.breaker_cache == alias:
        others.add("the circuit breakers")
    if not others:
        return
    text = f"CACHES['{alias}'] shares its Redis database with {', '.join(sorted(others))}"
    if site.search_cache_dedicated:
        hint = "Another database number for 'search', or SEARCH_CACHE_DEDICATED = False."
        yield _error("E008", f"{text}; SEARCH_CACHE_DEDICATED would flush it all", hint)
    else:
        hint = "With a database of its own and SEARCH_CACHE_DEDICATED = True a clear is instant."
        yield _warning("W002", f"{text}: a clear has to walk by all their keys", hint)
