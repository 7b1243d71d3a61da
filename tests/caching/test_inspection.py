"""What a preview and a status know: keys, bytes, other keys in the database, the load."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from analytics_admin.caching.clear import hard
from analytics_admin.caching.epochs import EpochRecord, record_key
from analytics_admin.caching.inspection import survey
from analytics_admin.caching.inspection.status import inspect
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.caching.statistics.store import Batch, open_statistics_store
from analytics_admin.stores.client import StoreUnavailable
from tests.support.cache_aliases import fill, raw, redis_alias, use_caches
from tests.support.servers import StoreServer, free_port

PASSWORD = "s3cret-pass"
DEDICATED = pytest.mark.parametrize("dedicated", [True, False], ids=["dedicated", "shared"])


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


def as_user(settings: Any, store: StoreServer, *rules: str, dedicated: bool) -> None:
    """Have the search alias use a store's user with these rights."""
    use_caches(settings, dedicated=dedicated, search=redis_alias("s", url=store.url, db=0))
    raw().execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", *rules)
    url = store.url.replace("://", f"://app:{PASSWORD}@")
    use_caches(settings, dedicated=dedicated, search=redis_alias("s", url=url, db=0))


def write(prefix: str, number: int, value: str = "v") -> None:
    script = "for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, ARGV[3]) end"
    raw().eval(script, 0, prefix, number, value)


def found() -> dict[str, tuple[int, float]]:
    foreign = hard.preview().foreign
    assert foreign is not None
    return {kind.prefix: (kind.keys, round(kind.share, 3)) for kind in foreign}


@DEDICATED
def test_strangers_in_a_small_database_are_counted_by_prefix(settings, dedicated):
    use_caches(settings, dedicated=dedicated, search=redis_alias("s"))
    fill("search", range(5))
    write("session:", 3)
    write("queue:mail:", 1)
    raw().set("plain", 1)
    raw().set(b"\xff\x00:1", 1)
    assert found() == {
        "session:": (3, round(3 / 11, 3)),
        "queue:": (1, round(1 / 11, 3)),
        "": (1, round(1 / 11, 3)),
        "\\xff\x00:": (1, round(1 / 11, 3)),
    }
    assert hard.preview().keys == (11 if dedicated else 5)


@DEDICATED
def test_strangers_in_a_large_database_are_told_by_a_sample(settings, dedicated):
    use_caches(settings, dedicated=dedicated, search=redis_alias("s"))
    write("s:1:", 15_000)
    write("session:", 5_000)
    ((prefix, (keys, share)),) = found().items()
    raw().config_resetstat()
    inspect("search", dedicated=dedicated)
    assert prefix == "session:"
    assert abs(keys - 5_000) < 1_000
    assert abs(share - 0.25) < 0.06
    assert "cmdstat_scan" not in raw().info("commandstats")


def test_of_many_kinds_the_ten_most_frequent_are_told(settings):
    use_caches(settings, search=redis_alias("s"))
    for number in range(1, 15):
        write(f"kind{number}:", number)
    assert list(found()) == [f"kind{number}:" for number in range(14, 4, -1)]


def test_the_record_is_no_stranger(settings):
    use_caches(settings, dedicated=True, search=redis_alias("s"))
    hard.clear()
    assert found() == {}


@DEDICATED
def test_bytes_are_about_what_the_keys_take(settings, dedicated):
    use_caches(settings, dedicated=dedicated, search=redis_alias("s"))
    write("s:1:", 500, "x" * 1000)
    size = hard.preview().bytes
    assert size is not None
    assert 500 * 1000 < size < 500 * 1500
    raw().flushdb()
    assert hard.preview().bytes == 0


def test_without_memory_usage_bytes_are_those_of_the_values(settings, store):
    as_user(settings, store, "+@all", "-memory", dedicated=True)
    write("s:1:", 10, "x" * 100)
    assert hard.preview().bytes == 1000


def test_without_any_right_to_sizes_bytes_are_unknown(settings, store):
    as_user(settings, store, "+@all", "-memory", "-strlen", dedicated=True)
    write("s:1:", 10)
    preview = hard.preview()
    assert (preview.keys, preview.bytes) == (10, None)


@DEDICATED
def test_a_user_without_info_and_dangerous_commands_is_no_error(settings, store, dedicated):
    as_user(settings, store, "+@all", "-@dangerous", dedicated=dedicated)
    write("s:1:", 10)
    seen = inspect("search", dedicated=dedicated)
    assert seen.survey is not None
    assert (seen.survey.keys, seen.server_bytes) == (10, None)


def test_what_the_server_uses_and_may_use_is_told(settings, store):
    use_caches(settings, search=redis_alias("s", url=store.url, db=0))
    assert inspect("search", dedicated=False).server_bytes_limit is None
    raw().config_set("maxmemory", 100_000_000)
    seen = inspect("search", dedicated=False)
    assert seen.server_bytes_limit == 100_000_000
    assert 100_000 < (seen.server_bytes or 0) < 100_000_000


def test_keys_that_cannot_be_told_apart_are_unknown_in_a_shared_database_only(settings):
    options = {"KEY_FUNCTION": "tests.caching.test_inspection.odd_key"}
    use_caches(settings, dedicated=True, search=redis_alias("s", **options))
    write("s|1|", 5)
    assert (hard.preview().keys, hard.preview().foreign) == (5, None)
    assert inspect("search", dedicated=False).survey is None


def odd_key(key: str, prefix: str, version: int) -> str:
    return f"{prefix}|{version}|{key}"


@pytest.mark.parametrize("raw_record", [b"", b"[", b'{"accepted": []}'])
def test_a_damaged_record_means_that_nothing_can_be_undone(settings, raw_record):
    use_caches(settings, search=redis_alias("s"))
    raw().set(record_key("search"), raw_record)
    assert inspect("search", dedicated=False).undo_until is None


def test_a_soft_clear_can_be_undone_until_its_bound(settings):
    use_caches(settings, search=redis_alias("s"))
    now = time.time()
    for bound, expected in ((60, now + 60), (-1, None)):
        record = EpochRecord(accepted=frozenset({"a"})).soft_cleared(now=now, bound=bound)
        raw().set(record_key("search"), record.encode())
        assert inspect("search", dedicated=False).undo_until == expected


def test_the_load_follows_from_the_last_five_minutes(settings):
    use_caches(settings, search=redis_alias("s"))
    counts = Counts(hits=3000, misses=1000, compute_seconds=20.0, saved_seconds=60.0)
    last_minute = int(time.time() // 60) - 1
    open_statistics_store("breakers", "search", timeout=5).add(
        "one", [Batch("1", last_minute, counts)]
    )
    load = hard.preview().load
    assert load is not None
    assert load.hit_ratio == 0.75
    assert 13 < load.calls == load.computations_after < 17
    assert abs(load.computations - load.calls / 4) < 0.01
    assert abs(load.compute_seconds_after - 4 * load.compute_seconds) < 0.01


def test_without_the_breakers_alias_the_load_is_unknown_and_the_preview_there(settings):
    use_caches(settings, search=redis_alias("s"), breakers=redis_alias(url="redis://127.0.0.1:1"))
    fill("search", range(3))
    preview = hard.preview()
    assert (preview.keys, preview.load) == (3, None)
    assert preview.load_unknown == "the store cannot be reached"


def test_a_store_that_is_away_is_said_to_be(settings):
    use_caches(settings, search=redis_alias(url="redis://127.0.0.1:1"))
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        inspect("search", dedicated=False)


def test_a_sample_is_some_round_trips_whatever_the_size(settings, monkeypatch):
    use_caches(settings, search=redis_alias("s"))
    monkeypatch.setattr(survey, "MAX_SCANNED_KEYS", 10)
    write("s:1:", 200)
    raw().config_resetstat()
    keys = survey.survey(raw(), "search", dedicated=False).keys
    calls = {name: stat["calls"] for name, stat in raw().info("commandstats").items()}
    assert keys == 200
    assert calls["cmdstat_randomkey"] == survey.SAMPLE_KEYS
    assert calls["cmdstat_memory|usage"] <= survey.SIZE_SAMPLE_KEYS
