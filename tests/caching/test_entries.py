"""Epoch record and entries: they read back as written; damaged ones count as missing."""

from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analytics_admin.caching.entries import decode_entry, encode_entry
from analytics_admin.caching.epochs import MAX_ACCEPTED, EpochRecord, decode_record, new_record

epochs = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
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
    entry = decode_entry(encode_entry(text, epochs="t,u", **facts))
    assert entry is not None
    assert (entry.epochs, entry.text) == ("t,u", text)
    assert entry.stored_at == facts["stored_ms"] / 1000
    assert (entry.fresh_until == inf) == (facts["fresh_until_ms"] == 0)


INTACT = encode_entry('{"a":1}', epochs="t", stored_ms=1, fresh_until_ms=2, computed_ms=3)
HEAD, BODY = INTACT.split(b"\n")


@given(st.binary())
def test_whatever_lies_there_reads_as_an_entry_or_as_missing(raw: bytes) -> None:
    assert decode_entry(raw) is None


@given(st.binary())
def test_another_body_counts_as_missing(body: bytes) -> None:
    assume(body != BODY)
    assert decode_entry(HEAD + b"\n" + body) is None


@given(st.integers(0, len(INTACT) - 1), st.integers(0, 255))
def test_one_other_byte_never_makes_another_value(place: int, byte: int) -> None:
    raw = INTACT[:place] + bytes([byte]) + INTACT[place + 1 :]
    entry = decode_entry(raw)
    assert entry is None or entry.text == '{"a":1}'


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        INTACT[1:],
        INTACT.replace(b"1 t", b"2 t"),  # of a later release
        INTACT.replace(b"\n", b" 1\n"),
        INTACT.replace(b" 2 ", b" " + b"9" * 400 + b" "),
        INTACT.replace(b" 2 ", b" -2 "),
        INTACT.replace(b" 2 ", b" 1_0 "),
        INTACT.replace(b" 2 ", b" \xef\xbc\x99 "),
        INTACT.replace(b" 2 ", b"  "),
        INTACT.replace(b" t ", b" t" * 500 + b" "),
    ],
)
def test_a_damaged_entry_counts_as_missing(raw):
    assert decode_entry(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 5000 + b"]" * 5000,
        b'{"accepted":["a"],"servable_until":{},"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"accepted":["a b"],"servable_until":{}}',
        b'{"accepted":["a,b"],"servable_until":{}}',
        b'{"accepted":["a","' + b"b" * 65 + b'"],"servable_until":{}}',
        b'{"accepted":["a"],"servable_until":{}}' + b" " * 70_000,
    ],
)
def test_a_record_that_would_do_harm_counts_as_missing(raw):
    assert decode_record(raw) is None


def test_soft_clears_that_are_undone_do_not_pile_up():
    record, now = new_record(), 100.0
    for _ in range(100):
        cleared = record.soft_cleared(now=now, bound=30.0)
        undone = cleared.undone(now=now)
        assert undone is not None
        assert record.accepted <= undone.accepted or len(undone.accepted) == MAX_ACCEPTED
        record = undone
    assert len(record.accepted) <= MAX_ACCEPTED
