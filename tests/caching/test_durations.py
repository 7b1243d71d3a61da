"""Durations of the search cache: a timeout is shortened only, so no value outlives its promise."""

from datetime import timedelta

import pytest

from analytics_admin.caching.request import CacheRequest, shortened, to_seconds
from analytics_admin.caching.stores.base import EntryKeys


def test_a_timeout_is_shortened_by_up_to_a_tenth():
    timeouts = [shortened(100) for _ in range(1000)]
    assert 90 <= min(timeouts) < 91
    assert 99 < max(timeouts) <= 100


def test_a_value_is_kept_past_its_time_for_as_long_as_it_may_be_served():
    request = CacheRequest(
        keys=EntryKeys("r", "e", "l", ()), timeout=100, stale_for=50, lease=5, max_bytes=1
    )
    ttl = request.ttl()
    assert 90_000 <= ttl.fresh_ms <= 100_000
    assert ttl.kept_ms - ttl.fresh_ms == 50_000
    assert ttl.tags_ms > ttl.kept_ms


@pytest.mark.parametrize("given", [5, 5.0, timedelta(seconds=5)])
def test_seconds_and_timedeltas_mean_the_same(given):
    assert to_seconds(given, name="timeout") == 5


def test_a_refusal_names_what_was_refused():
    with pytest.raises(ValueError, match="stale_for must be at least 0"):
        to_seconds(-1, name="stale_for", allow_zero=True)
    with pytest.raises(ValueError, match="timeout is over ten years"):
        to_seconds(timedelta(days=4000), name="timeout")
