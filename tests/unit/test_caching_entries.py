"""The token record: what is read back is what was written, and damage reads as missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_admin.caching.entries import TokenRecord, decode_record, new_record

tokens = st.text(max_size=20)
records = st.builds(
    TokenRecord,
    accepted=st.frozensets(tokens, min_size=1),
    servable_until=st.dictionaries(tokens, st.floats(allow_nan=False, allow_infinity=False)),
)


@given(records)
def test_a_record_reads_back_as_it_was_written(record: TokenRecord) -> None:
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


def test_a_record_that_keeps_one_token_replaces_nothing() -> None:
    earlier = TokenRecord(accepted=frozenset({"a", "b"}))
    assert not TokenRecord(accepted=frozenset({"b", "c"})).replaces(earlier)
    assert TokenRecord(accepted=frozenset({"c"})).replaces(earlier)
