"""Keys of the search cache: equal keys get one name, different keys never collide."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_admin.caching.keys import name_key, name_tags

NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001  a key of its own

texts = st.text(st.characters(codec=None), max_size=8)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-3, max_value=3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["1", "1.0", "null", "true", '"', "[]", "k:1", "#1e0", "@2024-01-01"])
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
)
keys = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def meaning(key: Any) -> Any:
    """Return what tells one key from another, by other means than the code's."""
    if isinstance(key, list | tuple):
        return ("sequence", tuple(meaning(item) for item in key))
    if isinstance(key, dict):
        return ("mapping", frozenset((name, meaning(value)) for name, value in key.items()))
    if isinstance(key, datetime):
        return ("instant" if key.tzinfo else "naive", key.replace(fold=0))
    return (type(key).__name__, key)


@given(keys, keys)
def test_two_keys_have_one_name_if_and_only_if_they_mean_the_same(one: Any, other: Any) -> None:
    assert (name_key(one) == name_key(other)) == (meaning(one) == meaning(other))


@given(keys)
def test_a_name_fits_every_store(key: Any) -> None:
    name = name_key(key)
    assert len(name) <= 122
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name


@given(st.lists(st.tuples(texts, atoms), unique_by=lambda pair: pair[0], max_size=5))
def test_the_order_of_a_mapping_is_no_part_of_its_key(pairs: list[tuple[str, Any]]) -> None:
    assert name_key(dict(pairs)) == name_key(dict(reversed(pairs)))


@pytest.mark.parametrize(
    "different",
    [
        [1, 1.0, True, "1", Decimal(1), [1], {"1": 1}, "true", None, "null", False, 0, "", []],
        [["a", "b"], ["a,b"], ["a", ["b"]], ['a","b'], "a,b", ["ab"], [["a"], "b"]],
        [10**18, 10**18 + 1, 1e18, float(2**60), 2**60, -(10**18), "de0b6b3a7640000!"],
        ["\ud83d\ude00", "😀", "\\ud83d\\ude00", "\ud83d", "\ude00", "?"],
        ["a", "a\x00", "a\n", "a ", "A", "á", "a\u0301"],
        ["x" * 119, "x" * 120, "x" * 121, "x" * 100_000],
        [date(2024, 1, 1), NAIVE, "2024-01-01", NAIVE.replace(tzinfo=UTC)],
        [Decimal("1E+30"), Decimal("1E+31"), Decimal("-1E+30"), 10**30],
        [Decimal("1." + "0" * 40 + "1"), Decimal(1), Decimal("1." + "0" * 40 + "2")],
        [UUID(int=1), str(UUID(int=1)), 1],
    ],
)
def test_what_looks_alike_is_told_apart(different: list[Any]) -> None:
    assert len({name_key(key) for key in different}) == len(different)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, "a"), [1, "a"]),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal(0), Decimal("-0E+5")),
        (
            datetime(2024, 1, 1, 12, tzinfo=UTC),
            datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_what_is_documented_as_one_key_is_one(one: Any, other: Any) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (("a", {"b": [object()]}), r"key\[1\]\['b'\]\[0\] is a value of type object"),
        ({1: 2}, "has the key 1, which is not a string"),
        ([float("nan")], r"key\[0\] is not finite"),
        (float("inf"), "key is not finite"),
        (Decimal("NaN"), "key is not finite"),
        (b"a", "type bytes"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_its_place(key: Any, place: str) -> None:
    with pytest.raises((TypeError, ValueError), match=place):
        name_key(key)


def test_a_key_nested_without_end_is_refused() -> None:
    key: list[Any] = []
    key.append(key)
    with pytest.raises(ValueError, match="nested"):
        name_key(key)


def test_a_short_plain_key_can_be_read_in_the_store() -> None:
    assert name_key(("search", "lamp", 1)) == 'k:["search","lamp",1]'


HERE = Path(__file__).resolve().parents[2]
SHOWN = (
    "from analytics_admin.caching.keys import name_key, name_tags;"
    "print(name_key(({'b': {'ä'}.pop(), 'a': [1, 1.5, None]}, 'x' * 300)), name_tags({'x', 'y'}))"
)


def test_names_agree_across_processes_and_hash_seeds() -> None:
    shown = {
        subprocess.run(
            [sys.executable, "-c", SHOWN],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    here = name_key(({"b": "ä", "a": [1, 1.5, None]}, "x" * 300)), name_tags({"x", "y"})
    assert shown == {f"{here[0]} {here[1]}\n"}
