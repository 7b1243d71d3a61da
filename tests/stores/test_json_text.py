"""JSON that is nested too deeply is refused alike by every Python, however much it could read."""

import json
from typing import Any

import pytest

from analytics_admin.stores import json_text
from analytics_admin.stores.json_text import MAX_DEPTH, parse


def lists(depth: int) -> str:
    return "[" * depth + "]" * depth


def objects(depth: int) -> str:
    return '{"b":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("nested", [lists, objects])
def test_the_limit_is_the_projects_own(nested: Any) -> None:
    deepest = nested(MAX_DEPTH)
    assert parse(deepest) == parse(deepest.encode()) == json.loads(deepest)
    for text in (nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1).encode()):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(text)


def test_what_is_broad_or_is_text_is_not_deep() -> None:
    for value in ([[]] * 10 * MAX_DEPTH, [{"a": {"b": n}} for n in range(1000)], "[{" * MAX_DEPTH):
        assert parse(json.dumps(value)) == value


def test_a_parser_that_reads_any_depth_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]
    monkeypatch.setattr(json_text.json, "loads", lambda text: value)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(lists(50_001))
