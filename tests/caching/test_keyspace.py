"""Which keys belong to an alias: the whole form decides, for any prefix and any neighbour."""

import fnmatch
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching.epochs import LAYOUT
from analytics_admin.caching.keys import name_key, name_tags
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.stores.client import (
    StoreUnavailable,
    aliases_sharing_database,
    other_addresses,
)
from tests.support.cache_aliases import OTHER_DB, raw, redis_alias, use_caches


def test_a_prefix_does_not_reach_into_a_longer_one(settings: Any) -> None:
    use_caches(settings, search=redis_alias("shop"), stock=redis_alias("shop:1"))
    search = keyspace("search")
    assert search.owns(b"shop:1:product")
    assert not search.owns(b"shop:1:1:product")
    assert not search.owns(b"shop:1:22:product")
    assert keyspace("stock").owns(b"shop:1:1:product")
    assert not keyspace("stock").owns(b"shop:1:product")


def test_without_that_neighbour_in_the_database_the_same_keys_are_ours(settings: Any) -> None:
    use_caches(settings, search=redis_alias("shop"), stock=redis_alias("shop:1", db=OTHER_DB))
    assert keyspace("search").owns(b"shop:1:1:product")


@pytest.mark.parametrize(
    "key", [b"search:1:a", b"search:22:a", b"search:-3:a", b"search:1:", b"search:1:\xff\n\x00"]
)
def test_every_version_is_ours_whatever_the_rest_holds(settings: Any, key: bytes) -> None:
    use_caches(settings, search=redis_alias("search"))
    assert keyspace("search").owns(key)


@pytest.mark.parametrize(
    "key",
    [
        b"search",
        b"search:",
        b"search:1",
        b"search:x:a",
        b"search::a",
        b"searches:1:a",
        b"xsearch:1:a",
        b"Search:1:a",
        b"search:\xd9\xa1:a",
        b":1:a",
        b"",
    ],
)
def test_what_has_not_the_whole_shape_is_not_ours(settings: Any, key: bytes) -> None:
    use_caches(settings, search=redis_alias("search"))
    assert not keyspace("search").owns(key)


def test_a_version_that_is_a_word_is_ours_when_the_alias_says_so(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search", VERSION="blue"))
    assert keyspace("search").owns(b"search:blue:a")
    assert not keyspace("search").owns(b"search:green:a")


def test_an_empty_prefix_owns_only_keys_that_begin_with_a_colon(settings: Any) -> None:
    use_caches(settings, search=redis_alias(""), stock=redis_alias("stock"))
    search = keyspace("search")
    assert search.owns(b":1:a")
    assert not any(search.owns(key) for key in (b"stock:1:a", b"celery", b"1:a", b"::a"))


@pytest.mark.parametrize("prefix", ["a*", "a?b", "[ab]", "back\\slash", "[^x]", "größe"])
def test_glob_characters_in_a_prefix_mean_themselves(settings: Any, prefix: str) -> None:
    use_caches(settings, search=redis_alias(prefix))
    search = keyspace("search")
    assert search.owns(f"{prefix}:1:k".encode())
    assert not search.owns(b"axb:1:k")
    assert not search.owns(b"a:1:k")
    assert not fnmatch.fnmatchcase("axb:1:k", search.pattern.decode())


def test_the_token_record_is_spared(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    search = keyspace("search")
    assert not search.owns(search.record)
    assert search.record.startswith(b"search:1:")


def test_throttle_counters_are_spared_when_the_default_alias_is_cleared(settings: Any) -> None:
    use_caches(settings, default=redis_alias("site"))
    assert not keyspace("default").owns(b"site:1:throttle_write_1")
    assert keyspace("default").owns(b"site:1:query")


def test_an_alias_with_the_same_prefix_in_the_database_is_refused(settings: Any) -> None:
    use_caches(settings, search=redis_alias(""), default=redis_alias("", VERSION=2))
    with pytest.raises(StoreUnavailable, match="'default' has the same key prefix"):
        keyspace("search")


def _bare(key: str, prefix: str, version: int) -> str:
    return key


def _hashed(key: str, prefix: str, version: int) -> str:
    return f"{prefix}:{version}:{hash(key)}"


def _hashed_if_long(key: str, prefix: str, version: int) -> str:
    return f"{prefix}:{version}:{hash(key) if len(key) > 100 else key}"


def _standard(key: str, prefix: str, version: int) -> str:
    return f"{prefix}:{version}:{key}"


@pytest.mark.parametrize("function", [_bare, _hashed, _hashed_if_long])
def test_a_key_function_that_changes_the_keys_is_refused(settings: Any, function: Any) -> None:
    """Nothing could tell a value from a tag's epoch, or from others' keys."""
    use_caches(settings, search=redis_alias("search", KEY_FUNCTION=function))
    with pytest.raises(StoreUnavailable, match="KEY_FUNCTION"):
        keyspace("search")


def test_a_key_function_that_keeps_the_shape_is_fine(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search", KEY_FUNCTION=_standard))
    assert keyspace("search").owns(b"search:1:123")


def test_aliases_share_a_database_however_its_address_is_spelt(settings: Any) -> None:
    tcp = "redis://LOCALHOST:6379/3"
    settings.CACHES = {
        "search": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1/3"},
        "same": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": tcp},
        "django": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://user:pw@127.0.0.1:6379?db=3",
        },
        "other_db": redis_alias(url="redis://127.0.0.1:6379", db=4),
        "other_port": redis_alias(url="redis://127.0.0.1:6380", db=3),
        "elsewhere": redis_alias(url="unix:///tmp/x.sock", db=3),
        "malformed": redis_alias(url="redis://127.0.0.1:secret", db=3),
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "missing": {"BACKEND": "no.such.Cache"},
    }
    assert aliases_sharing_database("search") == ["django", "same"]
    assert other_addresses("search") == ["elsewhere", "other_port"]
    assert aliases_sharing_database("malformed") == aliases_sharing_database("memory") == []


HOSTILE = ["", "search", "a[b]*?\\\\", "ü:1", "value:k"]


@pytest.mark.parametrize("prefix", HOSTILE)
def test_the_search_caches_own_keys_are_told_by_kind(settings: Any, prefix: str) -> None:
    use_caches(settings, search=redis_alias(prefix))
    keys, full = keyspace("search"), caches["search"].make_key
    for key in ("q", ("search", "ü", 1), "x" * 5000, {"a": None}):
        for kind in ("value", "lease"):
            assert keys.kind_of(full(f"{LAYOUT}:{kind}:{name_key(key)}").encode()) == kind
    assert keys.kind_of(full(f"{LAYOUT}:tag:{name_tags(['ä b'])[0]}").encode()) == "tag"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "value",
        "value:",
        "value:k",
        "value:k:",
        "value:x:1",
        "values:k:1",
        "value:h:abc",
        "value:k:1",
    ],
)
def test_what_others_store_under_the_alias_is_of_no_kind(settings: Any, name: str) -> None:
    use_caches(settings, search=redis_alias("search"))
    full = caches["search"].make_key
    assert keyspace("search").kind_of(full(name).encode()) == ""
    if name != "value:k:1":  # the key of another layout
        assert keyspace("search").kind_of(full(f"{LAYOUT}:{name}").encode()) == ""
    assert keyspace("search").kind_of(full(f"{LAYOUT}:value:k:1", version=9).encode()) == ""


@pytest.mark.parametrize("prefix", HOSTILE)
def test_a_sweep_meets_every_value_and_nothing_of_another_version(
    settings: Any, prefix: str
) -> None:
    use_caches(settings, search=redis_alias(prefix))
    full = caches["search"].make_key
    values = {full(f"{LAYOUT}:value:{name_key(key)}") for key in ("q", 1, "x" * 5000)}
    kinds = ("2:lease:k:1", "2:tag:k:1", "value:k:1")
    others = {*map(full, kinds), full("2:value:k:1", version=9), "2:value:k:1"}
    raw().mset(dict.fromkeys(values | others, "x"))
    met = set(raw().scan_iter(match=keyspace("search").entries, count=1000))
    assert met == {key.encode() for key in values}
