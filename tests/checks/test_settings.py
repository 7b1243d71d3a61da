"""Each system check: what it reports, that it has a hint, and that it shows no secret."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from analytics_admin.checks.settings import RULES, TAG
from analytics_admin.conf import KEYS

PASSWORD = "hunter2-hunter2"
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


def redis(
    database: int, *, pool: dict[str, Any] | None = None, location: Any = None, **options: Any
) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location or f"redis://:{PASSWORD}@nowhere.invalid:6379/{database}",
        "OPTIONS": {
            "SOCKET_TIMEOUT": 0.5,
            "SOCKET_CONNECT_TIMEOUT": 0.5,
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            **({"CONNECTION_POOL_KWARGS": pool} if pool else {}),
            **options,
        },
    }


@contextmanager
def site(caches: dict[str, Any] | None = None, **settings: Any) -> Iterator[None]:
    aliases = {"default": redis(0), "search": redis(1), "breakers": redis(2), **(caches or {})}
    given = {key: value for key, value in aliases.items() if value is not None}
    with override_settings(CACHES=given, ANALYTICS_ADMIN=settings):
        yield


def issues() -> list[CheckMessage]:
    """Run the app's checks; whatever they find, it has a hint and holds no password."""
    found = run_checks(tags=[TAG])
    for issue in found:
        assert issue.hint
        assert PASSWORD not in f"{issue}{issue.hint}{issue.obj}"
    return found


def ids() -> list[str]:
    return [str(issue.id).removeprefix("analytics_admin.") for issue in issues()]


def text() -> str:
    (issue,) = issues()
    return f"{issue.msg} {issue.hint}"


def test_a_valid_site_prints_nothing() -> None:
    with site(SEARCH_CACHE_DEDICATED=True):
        assert issues() == []


def test_the_tests_own_settings_are_valid() -> None:
    assert issues() == []


def test_every_setting_has_a_rule() -> None:
    assert RULES.keys() == KEYS.keys()


def test_the_defaults_pass_their_own_rules() -> None:
    with override_settings(ANALYTICS_ADMIN={}):
        assert issues() == []


def test_settings_that_are_no_dict_are_an_error() -> None:
    with override_settings(ANALYTICS_ADMIN=[PASSWORD]):
        assert ids() == ["E001"]


def test_an_unknown_setting_is_an_error_with_the_nearest_name() -> None:
    with site(SEARCH_CAHCE="search"):
        assert ids() == ["E002"]
        assert "Did you mean 'SEARCH_CACHE'?" in text()


def test_an_unknown_setting_like_no_other_is_answered_with_the_list() -> None:
    with site(COLOUR="red"):
        assert "READ_ONLY" in text()


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("STORE_RETRY_INTERVAL", 0, "more than 0 seconds"),
        ("STORE_TIMEOUT", 0.01, "0.05 to 60 seconds"),
        ("STORE_TIMEOUT", 61, "0.05 to 60 seconds"),
        ("SYNC_INTERVAL", 0, "more than 0 seconds"),
        ("SEARCH_CACHE_LEASE", 0, "more than 0 seconds"),
        ("SEARCH_CACHE_LEASE", 0.0004, "0.01 to 3600 seconds"),
        ("SEARCH_CACHE_LEASE", 1e15, "0.01 to 3600 seconds"),
        ("SEARCH_CACHE_SOFT_CLEAR_GRACE", 1e300, "0.01 to 86400 seconds"),
        ("SEARCH_CACHE_BACKGROUND_CONTEXT", 1, "a callable or its dotted path"),
        ("SEARCH_CACHE_BACKGROUND_CONTEXT", "no.such.hook", "cannot be imported"),
        ("SEARCH_CACHE_BACKGROUND_CONTEXT", "math.pi", "is not callable"),
        ("SEARCH_CACHE_BACKGROUND_REFRESHES", -1, "at least 0"),
        ("SEARCH_CACHE_BACKGROUND_REFRESHES", True, "a whole number, not a value of type bool"),
        ("SEARCH_CACHE_MAX_VALUE_BYTES", 0, "more than 0 bytes"),
        ("SEARCH_CACHE_MAX_VALUE_BYTES", 1.5, "whole number of bytes"),
        ("SEARCH_CACHE_MAX_VALUE_BYTES", True, "whole number of bytes"),
        ("SYNC_INTERVAL", -1.0, "more than 0 seconds"),
        ("SYNC_INTERVAL", float("nan"), "more than 0 seconds"),
        ("SYNC_INTERVAL", True, "number of seconds"),
        ("SYNC_INTERVAL", PASSWORD, "number of seconds"),
        ("SEARCH_CACHE", "", "cache alias"),
        ("BREAKER_CACHE", {"LOCATION": PASSWORD}, "cache alias"),
        ("SEARCH_CACHE_DEDICATED", "yes", "True or False"),
        ("REQUIRE_MODEL_PERMISSIONS", 1, "True or False"),
        ("REQUIRE_REASON", None, "True or False"),
        ("REQUIRE_ENVIRONMENT_NAME", "yes", "True or False"),
        ("READ_ONLY", "off", "True or False"),
        ("EXTERNAL_TOKEN_MAX_LIFETIME", "1h", "number of seconds"),
        ("RETIRE_BREAKERS_AFTER", "30d", "number of seconds"),
        ("RETIRE_BREAKERS_AFTER", 0, "more than 0 seconds"),
        ("KEEP_EXCEPTION_TEXTS", 0, "True or False"),
        ("EXTERNAL_TOKEN_MAX_LIFETIME", timedelta(0), "more than 0 seconds"),
        ("BREAKERS", ["catalog"], "dict"),
        ("BREAKERS", {"catalog": 5}, "'catalog' does not"),
        ("BREAKER_DEFAULTS", 5, "dict"),
        ("CONSOLE_REFRESH_SECONDS", 0.5, "1 to 3600 seconds"),
        ("CONSOLE_REFRESH_SECONDS", "5", "number of seconds"),
        ("ENVIRONMENT_NAME", None, "a text, not a value of type NoneType"),
        ("ENVIRONMENT_NAME", "p" * 41, "at most 40 characters"),
        ("ENVIRONMENT_COLOR", "crimson", "one of gray, red"),
        ("THROTTLE_RATES", "30/min", "dict"),
        ("THROTTLE_RATES", {"write": "often"}, "30/min"),
        ("THROTTLE_RATES", {"write": "0/min"}, "at least 1"),
        ("THROTTLE_RATES", {"write": 30}, "30/min"),
        ("THROTTLE_RATES", {"wirte": "30/min"}, "write, login"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_that_names_key_and_bound(
    key: str, value: Any, bound: str
) -> None:
    with site(**{key: value}):
        assert ids() == ["E003"]
        assert f"ANALYTICS_ADMIN['{key}']" in text()
        assert bound in text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SYNC_INTERVAL", 1),
        ("EXTERNAL_TOKEN_MAX_LIFETIME", None),
        ("RETIRE_BREAKERS_AFTER", None),
        ("RETIRE_BREAKERS_AFTER", timedelta(days=7)),
        ("KEEP_EXCEPTION_TEXTS", False),
        ("EXTERNAL_TOKEN_MAX_LIFETIME", 3600),
        ("EXTERNAL_TOKEN_MAX_LIFETIME", timedelta(hours=1)),
        ("THROTTLE_RATES", {"write": None, "login": "5/hour"}),
        ("BREAKERS", {"only.in.settings": {"failure_threshold": 3}}),
    ],
)
def test_a_value_of_the_right_kind_passes(key: str, value: Any) -> None:
    with site(**{key: value}):
        assert issues() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"BREAKERS": {"catalog": {"failure_threshold": 0}}}, ["catalog", "failure_threshold"]),
        ({"BREAKERS": {"catalog": {"failure_treshold": 5}}}, ["catalog", "failure_threshold"]),
        ({"BREAKERS": {"no spaces": {}}}, ["no spaces", "letters"]),
        ({"BREAKER_DEFAULTS": {"wait_duration_in_open_state": -1}}, ["BREAKER_DEFAULTS", "wait"]),
    ],
)
def test_an_unusable_policy_is_an_error_that_names_the_breaker_and_the_option(
    settings: dict[str, Any], words: list[str]
) -> None:
    with site(**settings):
        assert ids() == ["E004"]
        assert all(word in text() for word in words)


@pytest.mark.parametrize("name", ["", " \t "])
def test_a_name_that_is_to_be_typed_and_is_empty_is_an_error_with_a_hint(name: str) -> None:
    with site(REQUIRE_ENVIRONMENT_NAME=True, ENVIRONMENT_NAME=name):
        assert ids() == ["E011"]
        assert "ENVIRONMENT_NAME is empty. Say in ENVIRONMENT_NAME which site this is" in text()


def test_a_name_that_is_to_be_typed_is_fine_and_so_is_one_that_is_only_shown() -> None:
    for required in (True, False):
        with site(REQUIRE_ENVIRONMENT_NAME=required, ENVIRONMENT_NAME="production"):
            assert issues() == []


def test_searches_in_other_threads_without_a_context_are_a_warning() -> None:
    with site(SEARCH_CACHE_BACKGROUND=True):
        assert ids() == ["W011"]
        assert "SEARCH_CACHE_BACKGROUND_CONTEXT" in text()
    for hook in ("contextlib.nullcontext", nullcontext):
        with site(SEARCH_CACHE_BACKGROUND=True, SEARCH_CACHE_BACKGROUND_CONTEXT=hook):
            assert issues() == []


@pytest.mark.parametrize("alias", ["search", "breakers"])
def test_a_missing_alias_is_an_error(alias: str) -> None:
    with site({alias: None}):
        assert ids() == ["E005"]
        assert f"'{alias}'" in text()


@pytest.mark.parametrize("alias", ["search", "breakers"])
def test_a_local_memory_cache_is_a_warning(alias: str) -> None:
    with site({alias: LOCMEM}):
        assert ids() == ["W001"]


@pytest.mark.parametrize("alias", ["search", "breakers"])
@pytest.mark.parametrize(
    "backend",
    [
        "django.core.cache.backends.dummy.DummyCache",
        "django.core.cache.backends.filebased.FileBasedCache",
        "django.core.cache.backends.db.DatabaseCache",
        "no.such.Backend",
    ],
)
def test_any_other_cache_is_an_error(alias: str, backend: str, tmp_path: Path) -> None:
    location = f"{tmp_path}/redis://:{PASSWORD}@nowhere.invalid"  # a file cache makes its folder
    with site({alias: {"BACKEND": backend, "LOCATION": location}}):
        assert ids() == ["E006"]
        assert f"'{alias}'" in text()


@pytest.mark.parametrize(
    "location",
    [
        f"http://:{PASSWORD}@host:6379/1",
        f"redis://:{PASSWORD}@host:port/1",
        f"redis://:{PASSWORD}@host:6379/search",
        f"redis://:{PASSWORD}@[host/1",
        f"redis://:{PASSWORD}@host/1?socket_timeout=soon",
        PASSWORD,
    ],
)
def test_a_malformed_location_is_an_error_that_does_not_show_it(location: str) -> None:
    with site({"breakers": redis(2, location=location)}):
        assert ids() == ["E007"]
        assert "'breakers'" in text()


def test_a_class_that_cannot_be_imported_is_an_error() -> None:
    with site({"breakers": redis(2, SERIALIZER="no.such.Serializer")}):
        assert ids() == ["E007"]


def test_an_option_that_the_client_does_not_know_is_an_error() -> None:
    with site({"breakers": redis(2, location=f"{redis(2)['LOCATION']}?nonsense=1")}):
        assert ids() == ["E007"]
    location = "redis://other.invalid:6379/2"  # pools are kept by URL
    with site({"breakers": redis(2, location=location, pool={"nonsense": 1})}):
        assert ids() == ["E007"]


class OwnClient:
    """A client that django-redis knows nothing of."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ShardClient", {"CLIENT_CLASS": "django_redis.client.ShardClient"}),
        ("OwnClient", {"CLIENT_CLASS": f"{__name__}.OwnClient"}),
    ],
)
def test_a_client_that_does_not_lead_to_one_server_is_named(
    name: str, options: dict[str, Any]
) -> None:
    for alias in ("search", "breakers"):
        with site({alias: redis(1, **options)}):
            assert ids() == ["E013"]
            assert f"its client {name} " in text()


FACTORY = "django_redis.pool.SentinelConnectionFactory"


@pytest.mark.parametrize("client", ["DefaultClient", "SentinelClient"])
def test_an_alias_that_asks_sentinels_is_right_if_it_names_them(client: str) -> None:
    options = {
        "CLIENT_CLASS": f"django_redis.client.{client}",
        "CONNECTION_FACTORY": FACTORY,
        "SENTINELS": [("nowhere.invalid", 26379)],
    }
    place = "redis://checked-service/{}?is_master=1"
    aliases = {
        name: redis(1, location=place.format(number), **options)
        for number, name in enumerate(("search", "breakers"))
    }
    with site(aliases):
        assert ids() == []
    for missing in ("CONNECTION_FACTORY", "SENTINELS"):
        rest = {name: value for name, value in options.items() if name != missing}
        with site({"search": redis(1, location=f"redis://checked-{missing}/1", **rest)}):
            assert ids() == (
                [] if client + missing == "DefaultClientCONNECTION_FACTORY" else ["E007"]
            )


def djangos(database: int, **options: Any) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"redis://:{PASSWORD}@nowhere.invalid:6379/{database}",
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, **options},
    }


def test_djangos_own_redis_cache_is_right_under_its_own_names_of_options() -> None:
    with site({"search": djangos(1, serializer=f"{__name__}.OwnClient"), "breakers": djangos(2)}):
        assert ids() == []
    with site({"search": djangos(1)}):
        assert ids() == ["W004"]
        assert "OPTIONS['serializer']" in text()
    long = {"serializer": f"{__name__}.OwnClient", "socket_timeout": 60, "retry_on_timeout": True}
    with site({"search": djangos(1, **long)}):
        assert ids() == ["W003", "W003"]
        assert "OPTIONS['socket_timeout']" in " ".join(str(issue.hint) for issue in issues())
    with site({"search": djangos(1, no_such_option=1)}):
        assert ids() == ["E007"]


def slotted(tag: str = "found", *, database: int = 0, prefix: str = "{found}") -> dict[str, Any]:
    alias = redis(
        database,
        pool={"nodes": ["nowhere.invalid:6380", ("nowhere.invalid", 6381)]},
        CONNECTION_POOL_CLASS="analytics_admin.stores.cluster.SlotPool",
        location=f"redis://cluster.invalid/{database}?tag={tag}",
    )
    return {**alias, "KEY_PREFIX": prefix}


def test_an_alias_in_a_cluster_is_right_if_all_its_keys_have_one_slot() -> None:
    with site({"search": slotted(), "breakers": slotted("b", prefix="of{b}.")}):
        assert ids() == []
    for prefix in ("found", "{other}", ""):
        with site({"search": slotted(prefix=prefix)}):
            assert ids() == ["E014"]
            assert "'{found}'" in text()
    with site({"search": slotted(database=3)}):
        assert ids() == ["E015"]
    with site({"search": slotted()}, SEARCH_CACHE_DEDICATED=True):
        assert ids() == ["E016"]
    with site({"search": slotted("")}):
        assert ids() == ["E007"]


class OwnCluster:
    """A client class that leads to many servers."""


def test_a_client_class_of_a_cluster_is_unusable() -> None:
    with site({"search": redis(1, REDIS_CLIENT_CLASS=f"{__name__}.OwnCluster")}):
        assert ids() == ["E007"]


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_sessions_in_the_alias_of_the_search_cache_are_an_error(engine: str) -> None:
    sessions = {
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "SESSION_CACHE_ALIAS": "search",
    }
    with override_settings(**sessions), site():
        assert ids() == ["E017"]
    with override_settings(**{**sessions, "SESSION_CACHE_ALIAS": "default"}), site():
        assert ids() == []
    with override_settings(SESSION_CACHE_ALIAS="search"), site():
        assert ids() == []


@pytest.mark.parametrize("name", ["DefaultClient", "HerdClient"])
def test_a_client_that_leads_to_one_server_is_right(name: str) -> None:
    with site({"search": redis(1, CLIENT_CLASS=f"django_redis.client.{name}")}):
        assert ids() == []


def test_a_shared_database_is_a_warning() -> None:
    with site({"search": redis(0) | {"KEY_PREFIX": "search"}}):
        assert ids() == ["W002"]
        assert "default" in text()


def test_a_shared_database_is_an_error_when_a_clear_would_flush_it() -> None:
    with site({"search": redis(0) | {"KEY_PREFIX": "search"}}, SEARCH_CACHE_DEDICATED=True):
        assert ids() == ["E008"]
        assert "default" in text()


def test_a_queue_in_a_database_that_a_clear_would_flush_is_an_error() -> None:
    broker = redis(1)["LOCATION"]
    with site({"search": redis(1)}, SEARCH_CACHE_DEDICATED=True):
        assert ids() == []
        with override_settings(CELERY_BROKER_URL=broker):
            assert ids() == ["E008"]
            assert "CELERY_BROKER_URL" in text()
            assert broker not in text()


def test_the_sites_own_cache_is_never_dedicated() -> None:
    with site({"search": None}, SEARCH_CACHE="default", SEARCH_CACHE_DEDICATED=True):
        assert "E012" in ids()


def test_one_alias_for_both_is_sharing_too() -> None:
    with site({"breakers": None}, BREAKER_CACHE="search", SEARCH_CACHE_DEDICATED=True):
        assert ids() == ["E008"]


def test_keys_that_no_clear_can_tell_apart_are_an_error() -> None:
    with site({"search": redis(0)}):  # no prefix, beside an alias without one
        assert ids() == ["E010"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"SOCKET_TIMEOUT": None}, "SOCKET_TIMEOUT is not set"),
        ({"SOCKET_CONNECT_TIMEOUT": 0}, "SOCKET_CONNECT_TIMEOUT is not set"),
        ({"SOCKET_TIMEOUT": 30}, "SOCKET_TIMEOUT is longer than 5 s"),
        ({"pool": {"socket_timeout": 30}}, "SOCKET_TIMEOUT is longer than 5 s"),
        ({"location": f"redis://:{PASSWORD}@host/2?socket_timeout=30"}, "longer than 5 s"),
        ({"pool": {"retry_on_timeout": True}}, "retried"),
        ({"pool": {"retry": Retry(NoBackoff(), 3)}}, "retried"),
    ],
)
def test_a_store_that_can_hold_a_call_up_is_a_warning(changed: dict[str, Any], word: str) -> None:
    with site({"breakers": redis(2, **changed)}):
        assert ids() == ["W003"]
        assert word in text()


def test_a_retry_of_none_and_time_outs_in_the_url_pass() -> None:
    location = "redis://host/2?socket_timeout=1&socket_connect_timeout=1"
    pool = {"retry": Retry(NoBackoff(), 0)}
    alias = redis(2, location=location, pool=pool, SOCKET_TIMEOUT=None, SOCKET_CONNECT_TIMEOUT=None)
    with site({"breakers": alias}):
        assert issues() == []


def test_pickle_behind_the_search_cache_is_a_warning_also_as_the_silent_default() -> None:
    silent = redis(1)
    del silent["OPTIONS"]["SERIALIZER"]
    explicit = redis(1, SERIALIZER="django_redis.serializers.pickle.PickleSerializer")
    for alias in (silent, explicit):
        with site({"search": alias}):
            assert ids() == ["W004"]
