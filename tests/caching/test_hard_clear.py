"""A hard clear removes all of the search cache and nothing else; a preview removes nothing."""

from dataclasses import asdict
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard, scan, soft
from analytics_admin.caching.epochs import ensure_record, read_record, record_key
from analytics_admin.caching.keyspace import SCAN_COUNT
from analytics_admin.stores.client import StoreUnavailable
from tests.support.cache_aliases import (
    OTHER_DB,
    fill,
    keys_in,
    raw,
    record,
    redis_alias,
    use_caches,
)
from tests.support.servers import StoreServer, free_port

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def test_a_dedicated_database_is_emptied_but_for_the_new_epoch(settings: Any) -> None:
    use_caches(settings, dedicated=True, search=redis_alias("search"))
    fill("search", range(250))
    raw().set("raw:foreign", "x")
    before = ensure_record(raw(), record_key("search"))
    outcome = hard.clear()
    assert asdict(outcome) == {
        "alias": "search",
        "dedicated": True,
        "keys": 251,
        "way": "flush",
        "not_flushed": "",
        "finished": True,
        "stopped": "",
        "keys_before": None,
    }
    assert keys_in() == set()
    after = record()
    assert after is not None
    assert after.replaces(before)


def test_in_a_shared_database_only_the_alias_own_keys_go(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    fill("search", range(2500))
    caches["search"].set("old", "value", version=7)
    raw().mset({"searching:1:x": "", "celery": "", b"\xff\x00garbage": "", "search:x": ""})
    foreign = {b"searching:1:x", b"celery", b"\xff\x00garbage", b"search:x"}
    before = ensure_record(raw(), record_key("search"))
    outcome = hard.clear()
    assert asdict(outcome) == {
        "alias": "search",
        "dedicated": False,
        "keys": 2501,
        "way": "unlink",
        "not_flushed": "",
        "finished": True,
        "stopped": "",
        "keys_before": None,
    }
    assert keys_in() == foreign
    after = record()
    assert after is not None
    assert after.replaces(before)


def test_breakers_sessions_throttles_and_other_prefixes_survive_in_the_same_database(
    settings: Any,
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.SESSION_CACHE_ALIAS = "sessions"
    use_caches(
        settings,
        search=redis_alias("search"),
        breakers=redis_alias("breakers"),
        sessions=redis_alias("search:sessions"),
        default=redis_alias(""),
        longer=redis_alias("search:1"),
    )
    for alias in ("search", "breakers", "sessions", "default", "longer"):
        fill(alias, [alias, f"{alias}:1:x"])
    fill("default", ["throttle_write_1"])
    survivors = keys_in() - {b"search:1:search", b"search:1:search:1:x"}
    hard.clear()
    assert keys_in() == survivors
    assert len(survivors) == 9


def test_the_neighbouring_databases_stay_as_they_are(settings: Any) -> None:
    for dedicated in (True, False):
        use_caches(
            settings, dedicated=dedicated, search=redis_alias(), twin=redis_alias(db=OTHER_DB + 1)
        )
        fill("twin", range(10))
        fill("search", range(10))
        assert hard.clear().keys == 10
        assert len(keys_in("twin")) == 10


def test_glob_characters_in_a_prefix_match_only_themselves(settings: Any) -> None:
    use_caches(settings, search=redis_alias("sh*p[12]?"), other=redis_alias("shop1x"))
    fill("search", range(20))
    fill("other", range(20))
    assert hard.clear().keys == 20
    assert len(keys_in()) == 20


def test_a_shared_database_with_an_alias_of_the_same_prefix_is_refused(settings: Any) -> None:
    use_caches(settings, search=redis_alias(), default=redis_alias())
    fill("search", range(10))
    for ask in (hard.clear, hard.preview):
        with pytest.raises(StoreUnavailable, match="'default' has the same key prefix"):
            ask()
    assert len(keys_in()) == 10
    assert record() is None


def test_a_dedicated_database_that_an_alias_shares_is_refused(settings: Any) -> None:
    use_caches(settings, dedicated=True, search=redis_alias("a"), breakers=redis_alias("b"))
    fill("search", range(10))
    for ask in (hard.clear, hard.preview):
        with pytest.raises(StoreUnavailable, match="alias 'breakers' shares the database"):
            ask()
    assert len(keys_in()) == 10
    assert record() is None


def test_sharing_by_another_address_is_found_out_before_the_flush(settings: Any) -> None:
    with StoreServer(port=free_port()) as store:
        by_port = redis_alias("s", url=store.url)
        by_socket = redis_alias("q", url=f"unix://{store.socket_path}")
        use_caches(settings, dedicated=True, search=by_port, queue=by_socket)
        fill("queue", range(10))
        with pytest.raises(StoreUnavailable, match="alias 'queue' shares the database"):
            hard.clear()
        assert len(keys_in("queue")) == 10


def test_an_alias_elsewhere_that_is_down_does_not_hinder_a_flush(settings: Any) -> None:
    gone = redis_alias(url=f"redis://127.0.0.1:{free_port()}")
    use_caches(settings, dedicated=True, search=redis_alias(), elsewhere=gone)
    fill("search", range(10))
    assert hard.clear().keys == 10


@pytest.mark.parametrize("dedicated", [True, False])
def test_breakers_in_the_alias_itself_are_refused(settings: Any, dedicated: bool) -> None:
    use_caches(settings, search=redis_alias())
    settings.ANALYTICS_ADMIN = {
        "BREAKER_CACHE": "search",
        "SEARCH_CACHE_DEDICATED": dedicated,
    }
    fill("search", range(10))
    with pytest.raises(StoreUnavailable, match="circuit breakers live in the same cache alias"):
        hard.clear()
    assert len(keys_in()) == 10


def test_sessions_in_the_alias_itself_are_refused(settings: Any) -> None:
    use_caches(settings, search=redis_alias())
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    settings.SESSION_CACHE_ALIAS = "search"
    with pytest.raises(StoreUnavailable, match="sessions live in the same cache alias"):
        hard.clear()


@pytest.mark.parametrize("dedicated", [True, False])
def test_an_alias_that_decodes_replies_is_cleared_like_any_other(
    settings: Any, dedicated: bool
) -> None:
    decoding = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}}
    url = f"{redis_alias()['LOCATION']}&client_name=decoding"  # pools are kept by URL
    search = redis_alias("search", options=decoding) | {"LOCATION": url}
    use_caches(settings, dedicated=dedicated, search=search, plain=redis_alias(db=OTHER_DB))
    fill("search", range(10))
    raw().set(b"search:1:\xff\xfe", "not UTF-8")
    assert hard.preview().keys == 11
    assert hard.clear().keys == 11


def test_an_empty_cache_clears_too(settings: Any) -> None:
    for dedicated in (True, False):
        use_caches(settings, dedicated=dedicated, search=redis_alias("search"))
        assert hard.clear().keys == 0
        assert record() is not None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"accepted": []}', b"\xff", "list"])
@pytest.mark.parametrize("dedicated", [True, False])
def test_a_damaged_record_is_replaced(settings: Any, damage: bytes | str, dedicated: bool) -> None:
    use_caches(settings, dedicated=dedicated, search=redis_alias("search"))
    key = record_key("search")
    if damage == "list":
        raw().rpush(key, "x")
    else:
        raw().set(key, damage)
    fill("search", range(10))
    assert hard.clear().keys == 10
    assert record() is not None


def test_drawing_again_returns_the_record_that_is_there(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    drawn = ensure_record(raw(), "k")
    assert ensure_record(raw(), "k") == read_record(raw(), "k") == drawn


def test_progress_counts_the_keys_that_are_gone(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    fill("search", range(3000))
    seen: list[int] = []
    assert hard.clear(on_progress=seen.append).keys == 3000
    assert seen == sorted(seen)
    assert len(seen) >= 3000 // SCAN_COUNT
    assert seen[-1] == 3000


def test_no_command_of_a_clear_holds_the_server_for_long(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    fill("search", range(1500))
    raw().config_resetstat()
    hard.clear()
    calls = {name: stat["calls"] for name, stat in raw().info("commandstats").items()}
    assert calls["cmdstat_unlink"] >= 1500 / scan.BATCH_KEYS
    assert not calls.keys() & {f"cmdstat_{slow}" for slow in ("keys", "del", "flushdb", "eval")}


class TestPreview:
    def test_counts_a_dedicated_database_exactly(self, settings: Any) -> None:
        use_caches(settings, dedicated=True, search=redis_alias("search"))
        fill("search", range(42))
        hard.clear()
        fill("search", range(42))
        preview = asdict(hard.preview())
        assert (
            preview.items()
            >= {
                "alias": "search",
                "dedicated": True,
                "keys": 42,
                "exact": True,
                "foreign": (),
            }.items()
        )

    def test_counts_a_small_shared_database_exactly(self, settings: Any) -> None:
        use_caches(settings, search=redis_alias("search"), other=redis_alias("other"))
        fill("search", range(42))
        fill("other", range(500))
        preview = hard.preview()
        assert (preview.keys, preview.exact) == (42, True)

    def test_estimates_a_large_shared_database_unless_asked(self, settings: Any) -> None:
        use_caches(settings, search=redis_alias("search"), other=redis_alias("other"))
        raw().eval("for i = 1, 15000 do redis.call('SET', ARGV[1] .. i, 'v') end", 0, "search:1:")
        raw().eval("for i = 1, 5000 do redis.call('SET', ARGV[1] .. i, 'v') end", 0, "other:1:")
        about, exact = hard.preview(), hard.preview(exact=True)
        assert not about.exact
        assert abs(about.keys - 15000) < 1000  # seven standard deviations
        assert (exact.keys, exact.exact) == (15000, True)

    def test_changes_nothing(self, settings: Any) -> None:
        for dedicated in (True, False):
            use_caches(settings, dedicated=dedicated, search=redis_alias("search"))
            fill("search", range(10))
            everything = set(raw().keys("*"))
            hard.preview()
            hard.preview(exact=True)
            assert set(raw().keys("*")) == everything
            assert record() is None


class TestLocalMemory:
    def _use(self, settings: Any, **aliases: str) -> None:
        settings.CACHES = {
            alias: {"BACKEND": LOCMEM, "LOCATION": "shared", "KEY_PREFIX": prefix}
            for alias, prefix in aliases.items()
        }
        caches["search"].clear()
        for alias in aliases:
            fill(alias, range(10))

    def test_only_the_alias_own_keys_go(self, settings: Any) -> None:
        self._use(settings, default="", search="shop", stock="shop:1")
        caches["search"].set("old", "value", version=3)
        assert hard.preview().keys == 11
        outcome = hard.clear()
        assert (outcome.keys, outcome.way) == (11, "memory")
        assert caches["search"].get("1") is None
        assert caches["search"].get("old", version=3) is None
        assert [caches[a].get("1") for a in ("default", "stock")] == ["value", "value"]
        assert hard.preview().keys == 0

    def test_a_site_with_one_memory_for_all_its_aliases_can_clear_it(self, settings: Any) -> None:
        self._use(settings, default="", search="", breakers="")
        assert hard.clear().keys == 10
        assert caches["search"].get("1") is None


def test_an_alias_that_is_no_redis_is_refused(settings: Any) -> None:
    use_caches(settings, search={"BACKEND": "django.core.cache.backends.dummy.DummyCache"})
    with pytest.raises(StoreUnavailable, match="not a django-redis cache"):
        hard.clear()


def test_a_missing_alias_is_refused(settings: Any) -> None:
    use_caches(settings)
    with pytest.raises(StoreUnavailable, match="settings are not usable"):
        hard.clear()


def test_the_epochs_of_tags_go_with_the_values_that_carry_them(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    cache = SearchCache(lambda: "search")
    for number in range(20):
        cache.set(number, "x", timeout=None, tags=[f"user:{number}"])
    assert hard.preview().keys == 40
    assert hard.clear().keys == 40
    assert raw().dbsize() == 1
    cache.set("q", "x", timeout=None, tags=["user:1"])
    assert cache.get("q", tags=["user:1"]) == "x"


def test_the_epochs_of_tags_outlive_soft_clears_and_no_hard_one(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_SOFT_CLEAR_GRACE": 0.001}
    cache = SearchCache(lambda: "search")
    (tag,) = cache._connect().tag_keys(["a"])
    epochs = set()
    for number in range(3):
        cache.set("q", number, tags=["a"])
        soft.clear_softly()
        cache.set("q", number, tags=["a"])
        epochs.add(raw().get(tag))
        assert cache.get("q", tags=["a"]) == number
    assert len(epochs) == 1
    raw().set("search:1:kept", "x")
    left = raw().get(tag)
    hard.clear()
    raw().set(tag, left)  # a removal that was cut off
    cache.set("q", 1, tags=["a"])
    assert raw().get(tag) not in epochs
    assert cache.get("q", tags=["a"]) == 1
