"""A type checker knows the options that there are. The fleet's tests run mypy on them."""

import typing
from dataclasses import fields
from pathlib import Path

import pytest

from analytics_admin.breakers import BreakerPolicy, PolicyOptions
from analytics_admin.breakers.policy import COUNT_BASED, TIME_BASED

ROOT = Path(__file__).parents[2]


def test_the_typed_options_are_those_of_the_policy() -> None:
    assert list(PolicyOptions.__annotations__) == [item.name for item in fields(BreakerPolicy)]
    assert not PolicyOptions.__required_keys__


@pytest.mark.parametrize("option", [item.name for item in fields(BreakerPolicy)])
def test_an_option_is_typed_as_the_policy_keeps_it_or_more_widely(option: str) -> None:
    given = typing.get_type_hints(PolicyOptions)[option]
    kept = typing.get_type_hints(BreakerPolicy)[option]
    if option == "sliding_window_type":
        assert typing.get_args(given) == (COUNT_BASED, TIME_BASED)
    elif not option.endswith("_exceptions"):
        alternatives = set(typing.get_args(given)) or {given}
        assert (set(typing.get_args(kept)) or {kept}) <= alternatives


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "analytics_admin" / "py.typed").exists()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()
