"""Epoch record and entries: they read back as written; damaged ones count as missing."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_admin.caching.entries import decode_entry, entry_head
from analytics_admin.caching.epochs import EpochRecord, decode_record, new_record

epochs = st.text(max_size=20)
records = st.builds(
    EpochRecord,
    accepted=st.frozensets(epochs, min_size=1),
    servable_until=st.dictionaries(epochs, st.floats(allow_nan=False, allow_infinity=False)),
)


@given(records)
def test_a_record_reads_back_as_it_was_written(record: EpochRecord) -> None:
    assert decode_record(record.encode()) == record


@given(st.binary())
def test_whatever_lies_there_reads_as_a_record_or_as_missing(raw: bytes) -> None:
    assert decode_record(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"accepted": [], "servable_until": {}}',
        b'{"accepted": "abc", "servable_until": {}}',
        b'{"accepted": [1], "servable_until": {}}',
        b'{"accepted": ["a"]}',
        b'{"accepted": ["a"], "servable_until": []}',
        b'{"accepted": ["a"], "servable_until": {"b": "soon"}}',
        b'{"accepted": ["a"], "servable_until": {"b": true}}',
        b'{"accepted": ["a"], "servable_until"',
        b"\xff\xfe",
    ],
)
def test_a_damaged_record_counts_as_missing(raw: bytes | None) -> None:
    assert decode_record(raw) is None


def test_every_new_record_replaces_every_other() -> None:
    drawn = [new_record() for _ in range(100)]
    assert all(a.replaces(b) for a in drawn for b in drawn if a is not b)


def test_a_record_that_keeps_one_epoch_replaces_nothing() -> None:
    earlier = EpochRecord(accepted=frozenset({"a", "b"}))
    assert not EpochRecord(accepted=frozenset({"b", "c"})).replaces(earlier)
    assert EpochRecord(accepted=frozenset({"c"})).replaces(earlier)


def test_a_soft_clear_accepts_a_new_epoch_and_leaves_the_old_servable_for_its_bound():
    before = EpochRecord(accepted=frozenset({"a"}))
    after = before.soft_cleared(now=100.0, bound=30.0)
    assert after.replaces(before)
    assert after.servable_until == {"a": 130.0}


def test_a_second_soft_clear_outlasts_the_first_and_drops_what_is_over():
    first = EpochRecord(accepted=frozenset({"a"}), servable_until={"over": 99.0, "long": 1000.0})
    second = first.soft_cleared(now=100.0, bound=30.0)
    assert set(second.servable_until) == {"a", "long"}
    assert second.servable_until["long"] < second.servable_until["a"] == 130.0


def test_undo_accepts_the_values_before_the_last_soft_clear_and_those_since():
    first = EpochRecord(accepted=frozenset({"a"}))
    second = first.soft_cleared(now=100.0, bound=30.0)
    third = second.soft_cleared(now=110.0, bound=5.0)
    undone = third.undone(now=112.0)
    assert undone is not None
    assert undone.accepted == second.accepted | third.accepted
    assert set(undone.servable_until) == {"a"}
    assert undone.current in undone.accepted


def test_there_is_nothing_to_undo_after_the_bound_or_a_hard_clear():
    record = EpochRecord(accepted=frozenset({"a"}))
    assert record.undone(now=0) is None
    assert record.soft_cleared(now=100.0, bound=30.0).undone(now=130.0) is None
    assert new_record().undone(now=0) is None


@given(records)
def test_a_changed_record_reads_back_as_it_was_written(record: EpochRecord) -> None:
    changed = record.soft_cleared(now=100.0, bound=30.0)
    assert decode_record(changed.encode()) == changed


entries = st.fixed_dictionaries(
    {
        "stored_ms": st.integers(min_value=0, max_value=2**48),
        "fresh_until_ms": st.integers(min_value=0, max_value=2**48),
        "computed_ms": st.integers(min_value=0, max_value=10**6),
    }
)


@given(entries, st.text(st.characters(exclude_categories=["Cs"])))
def test_an_entry_reads_back_as_it_was_written(facts, text):
    entry = decode_entry((entry_head(epochs="t,u", **facts) + text).encode())
    assert entry is not None
    assert (entry.epochs, entry.text) == ("t,u", text)
    assert entry.stored_at == facts["stored_ms"] / 1000
    assert (entry.fresh_until == inf) == (facts["fresh_until_ms"] == 0)


@pytest.mark.parametrize(
    "raw", [None, b"", b"t 1 2", b"t 1 x 0\n1", b"\xff 1 2 3\n1", b"a b c d e\n"]
)
def test_a_damaged_entry_counts_as_missing(raw):
    assert decode_entry(raw) is None
