"""Which stored values count, from their reading alone."""

import json

import pytest

from analytics_admin.caching.entries import encode_entry
from analytics_admin.caching.epochs import EpochRecord
from analytics_admin.caching.freshness import assess_freshness
from analytics_admin.caching.stores.base import Reading

NOW = 1000.0
T, U, V = b"t" * 12, b"u" * 12, b"v" * 12
RECORD = EpochRecord(accepted=frozenset({"a", "b"}), servable_until={"s": NOW + 5, "over": NOW - 1})


def state(
    epochs: str, *, fresh_until: float = NOW + 1, tags: tuple[bytes | None, ...] = (), stale_for=0
) -> str:
    raw = encode_entry(
        json.dumps("value"),
        epochs=epochs,
        stored_ms=900_000,
        fresh_until_ms=round(fresh_until * 1000),
        computed_ms=0,
    )
    found = assess_freshness(Reading(NOW, RECORD.encode(), tags, raw), stale_for)
    return "fresh" if found.fresh else "stale" if found.stale else "absent"


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [("a", "fresh"), ("b", "fresh"), ("s", "stale"), ("over", "absent"), ("c", "absent")],
)
def test_a_value_counts_by_its_epoch(epochs, expected):
    assert state(epochs) == expected
    assert state(f"{epochs},{T.decode()},{U.decode()}", tags=(T, U)) == expected


@pytest.mark.parametrize("epochs", ["a", "b", "s", "c"])
@pytest.mark.parametrize("tags", [(T,), (T, V), (U, T), (T, U, V), (T, None), (T, b"u"), ()])
def test_a_value_with_other_tags_or_epochs_is_absent(epochs, tags):
    assert state(f"{epochs},{T.decode()},{U.decode()}", tags=tags) == "absent"


def test_a_value_past_its_time_is_stale_for_as_long_as_the_caller_says():
    assert state("a", fresh_until=NOW - 10) == "absent"
    assert state("a", fresh_until=NOW - 10, stale_for=9) == "absent"
    assert state("a", fresh_until=NOW - 10, stale_for=11) == "stale"


def test_a_value_cleared_hard_is_absent_however_stale_a_caller_takes_it():
    assert state("c", stale_for=1e9) == state("over", stale_for=1e9) == "absent"


def test_without_a_record_nothing_counts():
    raw = encode_entry("1", epochs="a", stored_ms=0, fresh_until_ms=0, computed_ms=0)
    for record in (None, b"damaged"):
        found = assess_freshness(Reading(NOW, record, (), raw), 1e9)
        assert (found.fresh, found.stale, found.damage.record) == (None, None, record or b"")
