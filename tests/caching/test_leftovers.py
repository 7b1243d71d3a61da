"""Which keys a sweep or a clear may remove: their beginning and the epoch record decide."""

import pytest

from analytics_admin.caching.entries import HEAD_BYTES, encode_entry, is_needed
from analytics_admin.caching.epochs import EpochRecord

RECORD = EpochRecord(
    accepted=frozenset({"new", "back"}),
    servable_until={"soft": 100.0},
    suspended=frozenset({"unsure"}),
)


def head(epochs: str) -> bytes:
    entry = encode_entry("1", epochs=epochs, stored_ms=1, fresh_until_ms=0, computed_ms=1)
    return entry[:HEAD_BYTES]


@pytest.mark.parametrize(
    ("epochs", "now", "needed"),
    [
        ("new", 0, True),
        ("back", 0, True),
        ("new,tag-epoch", 0, True),
        ("new," + "t" * 500, 0, True),
        ("soft", 99.9, True),
        ("soft,tag-epoch", 99.9, True),
        ("soft", 100.0, False),
        ("unsure", 0, True),
        ("old", 0, False),
        ("old,new", 0, False),
        ("newer", 0, False),
    ],
)
def test_a_value_is_needed_while_its_epoch_is_accepted_suspended_or_servable(epochs, now, needed):
    assert is_needed("value", head(epochs), RECORD, now=now) is needed


@pytest.mark.parametrize(
    "damage", [b"", b"new", b" new", b"\xff\xfe", b"\n", b",new", b"new 1 0 1", b"2 new 1 0 1"]
)
def test_a_damaged_value_is_not_needed(damage):
    assert not is_needed("value", damage, RECORD, now=0)


def test_without_a_record_no_value_is_needed():
    assert not is_needed("value", head("new"), None, now=0)


@pytest.mark.parametrize(
    ("lease", "needed"),
    [
        (b"fence holder 1700000000000 new", True),
        (b"fence holder 1700000.25 new,tag", True),
        (b"fence holder 1700000000000 old", False),
        (b"fence holder new", False),
        (b"", False),
    ],
)
def test_a_lease_is_needed_while_its_epoch_is(lease, needed):
    assert is_needed("lease", lease, RECORD, now=0) is needed


def test_the_epoch_of_a_tag_is_needed_and_what_somebody_else_calls_a_tag_is_not():
    assert is_needed("tag", b"abcdefghij-_", RECORD, now=0)
    assert not is_needed("tag", b'"abcdefghij"', RECORD, now=0)
    assert not is_needed("tag", b"", RECORD, now=0)
