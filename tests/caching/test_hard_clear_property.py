"""For any prefixes and keys, a clear removes all of the cache's keys and nothing else."""

from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analytics_admin.caching.clear import hard
from analytics_admin.caching.epochs import record_key
from analytics_admin.stores.client import StoreUnavailable
from tests.support.cache_aliases import OTHER_DB, keys_in, raw, redis_alias

pytestmark = pytest.mark.lengthy

# Few characters, so that prefixes, versions and keys collide often.
pieces = st.lists(st.sampled_from(["a", "b", ":", "1", "2", "*", "?", "[", "]", "\\", "^", "ü"]))
words = pieces.map("".join)
# The fixture that empties the store runs once for all examples; each empties its own database.
UNCLEAN = [HealthCheck.function_scoped_fixture]
versions = st.sampled_from([1, 2, 12, -1])
values = st.tuples(words, versions)


def _is_key_of(key: bytes, prefix: str) -> bool:
    """Say, without regular expressions, whether the key reads as prefix:version:rest."""
    start = f"{prefix}:".encode()
    version, colon, _ = key.removeprefix(start).partition(b":")
    digits = version.removeprefix(b"-")
    is_number = digits.isdigit() and digits.isascii()
    return key.startswith(start) and bool(colon) and is_number


@settings(max_examples=150, deadline=None, suppress_health_check=UNCLEAN)
@given(
    prefix=words,
    others=st.lists(words, max_size=3, unique=True),
    ours=st.lists(values, max_size=8),
    theirs=st.lists(st.tuples(st.integers(0, 2), values), max_size=8),
    foreign=st.lists(st.binary(min_size=1) | words.filter(bool).map(str.encode), max_size=8),
)
def test_all_of_ours_go_and_nothing_else(
    prefix: str, others: list[str], ours: Any, theirs: Any, foreign: list[bytes]
) -> None:
    assume(prefix not in others)
    names = {f"other{index}": other for index, other in enumerate(others)}
    aliases: dict[str, Any] = {
        "default": redis_alias(db=OTHER_DB),
        "breakers": redis_alias("breakers", db=OTHER_DB),
        "search": redis_alias(prefix),
        **{name: redis_alias(other) for name, other in names.items()},
    }
    with override_settings(CACHES=aliases, ANALYTICS_ADMIN={}):
        raw().flushdb()
        for key in foreign:
            raw().set(key, "x")
        for index, (key, version) in theirs:
            if f"other{index}" in names:
                caches[f"other{index}"].set(key, "x", version=version)
        for key, version in ours:
            caches["search"].set(key, "x", version=version)
        everything = keys_in()
        longer = [other for other in others if len(other) > len(prefix)]
        expected = {
            key
            for key in everything
            if _is_key_of(key, prefix) and not any(_is_key_of(key, other) for other in longer)
        }
        assert hard.preview().keys == len(expected)
        outcome = hard.clear()
        assert outcome.keys == len(expected)
        assert keys_in() == everything - expected


@settings(max_examples=20, deadline=None, suppress_health_check=UNCLEAN)
@given(prefix=words, keys=st.lists(values, max_size=5))
def test_the_same_prefix_twice_is_refused_and_nothing_goes(prefix: str, keys: Any) -> None:
    aliases = {alias: redis_alias(prefix) for alias in ("default", "search")}
    aliases["breakers"] = redis_alias(db=OTHER_DB)
    with override_settings(CACHES=aliases, ANALYTICS_ADMIN={}):
        raw().flushdb()
        for key, version in keys:
            caches["default"].set(key, "x", version=version)
        before = keys_in()
        with pytest.raises(StoreUnavailable, match="same key prefix"):
            hard.clear()
        assert keys_in() == before
        assert raw().exists(record_key("search")) == 0
