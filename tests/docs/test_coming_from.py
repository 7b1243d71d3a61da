"""The guide for users of other libraries names what there is, and its examples do what it says."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import httpx
import pytest
from django.core.exceptions import ValidationError

from analytics_admin import breakers as api
from analytics_admin import services, signals
from analytics_admin.breakers import BreakerPolicy, CircuitBreaker, CircuitOpenError, Permit
from analytics_admin.conf import KEYS
from analytics_admin.testing import SimulatedBreakers, simulated_breakers
from tests.docs.pages import blocks_by_section, names, read, rows, sections

GUIDE = read("howto/coming-from.md")
BLOCKS = blocks_by_section(GUIDE, "python")
HEADS = ("resilience4j", "Polly 8", "pybreaker", "there")
OPTIONS = {item.name for item in fields(BreakerPolicy)}
FORMS = {"with breaker:", "@breaker(fallback=…)"}
OURS = {*OPTIONS, *KEYS, *api.__all__, *services.__all__, *vars(signals), *dir(CircuitBreaker)}


@pytest.fixture
def breakers() -> Iterator[SimulatedBreakers]:
    with simulated_breakers() as simulated:
        yield simulated


@cache
def example(heading: str) -> dict[str, Any]:
    """Run the section's example, once like a module; return the names that it defines."""
    (block,) = BLOCKS[heading]
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block, f"docs, {heading}", "exec"), names)
    return names


def table(head: str) -> list[list[str]]:
    found = rows(GUIDE, head)
    assert found
    return found


@pytest.mark.parametrize("head", HEADS)
def test_what_it_says_is_here_is_here(head: str) -> None:
    for _, here, _ in table(head):
        for name in set(names(here)) - FORMS:
            word = re.match(r"(?:breaker\.)?(\w+)", name)
            assert word, name
            assert word[1] in OURS, name


def test_it_has_a_place_for_every_option() -> None:
    told = {name for head in HEADS for _, here, _ in table(head) for name in names(here)}
    assert OPTIONS - told == set()


@pytest.mark.parametrize("head", HEADS)
def test_it_explains_each_name_of_theirs_once(head: str) -> None:
    theirs = [there for there, _, _ in table(head)]
    assert all(names(there) for there in theirs)
    assert len(set(theirs)) == len(theirs)


@pytest.mark.parametrize("head", HEADS)
def test_the_defaults_that_it_gives_of_ours_are_the_codes(head: str) -> None:
    for _, here, mind in table(head):
        given = re.match(r"(\d+)(?: s)? (?:unless you set it|in both)", mind)
        if given:
            assert getattr(BreakerPolicy(), names(here)[0]) == float(given[1])
        elif mind.startswith("Off unless you set it"):
            assert getattr(BreakerPolicy(), names(here)[0]) is None


def test_the_ways_to_end_a_permit_are_those_that_it_names() -> None:
    told = {name for row in table("resilience4j") if "Permit" in row[1] for name in names(row[2])}
    assert {name.removesuffix("()") for name in told} <= set(dir(Permit))
    assert len(told) == 3


def test_every_example_is_run_here() -> None:
    assert {heading for heading, blocks in BLOCKS.items() if blocks} == {
        "resilience4j",
        "Polly",
        "pybreaker",
        "circuitbreaker and aiobreaker",
    }


def spelled(name: str) -> str:
    """Return their option in our spelling."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def test_the_example_of_resilience4j_sets_what_theirs_sets(breakers: SimulatedBreakers) -> None:
    (yaml,) = blocks_by_section(GUIDE, "yaml")["resilience4j"]
    theirs = dict(re.findall(r"^ {6}(\w+): (\S+)", yaml, re.MULTILINE))
    policy = example("resilience4j")["stock"].policy
    assert len(theirs) == 9
    for name, value in theirs.items():
        ours = getattr(policy, spelled(name))
        if isinstance(ours, tuple):
            assert [cls.__name__ for cls in ours] == [value.strip("[]").split(".")[-1]]
        else:
            assert str(ours).removesuffix(".0") == value.removesuffix("s").lower()


def test_the_example_of_resilience4j(breakers: SimulatedBreakers) -> None:
    names = example("resilience4j")
    read_level, stock = names["read_level"], names["stock"]
    for number in range(20):
        with pytest.raises(names["NotFound"]):
            read_level("lamp", {})
        assert stock.state == "closed"
        if number % 2:
            assert read_level("lamp", {"lamp": 3}) == 3
        else:
            with pytest.raises(TypeError):
                read_level("lamp", None)
    assert stock.state == "open"
    breakers.advance(10)
    probes = [stock.acquire() for _ in range(3)]
    with pytest.raises(CircuitOpenError):
        stock.acquire()
    for probe in probes:
        probe.succeed()
    assert stock.state == "closed"


def test_the_example_of_polly(breakers: SimulatedBreakers) -> None:
    names = example("Polly")
    answers = iter([500, 200, 404, 200, 200, 200, 200, 500])

    async def run() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(next(answers)))
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(8):
                assert names["tariffs"].state == "closed"
                await names["ask"](client, "http://tariffs.invalid/")
            with pytest.raises(CircuitOpenError) as rejected:
                await names["ask"](client, "http://tariffs.invalid/")
            assert 29 < rejected.value.retry_after <= 30

    asyncio.run(run())


def test_the_example_of_pybreaker(breakers: SimulatedBreakers) -> None:
    place = example("pybreaker")["place"]

    def refuse(order: str) -> None:
        raise ValidationError(order)

    def fail(order: str) -> None:
        raise OSError(order)

    assert place("lamp", str.upper) == "LAMP"
    for send in (fail, refuse, fail, refuse, fail):
        with pytest.raises((ValidationError, OSError)):
            place("lamp", send)
    assert place("lamp", str.upper) == "try again in 20 s"
    breakers.advance(20)
    assert place("lamp", str.upper) == "LAMP"


def test_the_example_of_circuitbreaker(breakers: SimulatedBreakers) -> None:
    rate = example("circuitbreaker and aiobreaker")["rate"]

    def fail(product: str) -> int:
        raise TimeoutError(product)

    def refuse(product: str) -> int:
        raise KeyError(product)

    for _ in range(5):
        with pytest.raises(KeyError):
            rate("lamp", refuse)
    for _ in range(4):
        with pytest.raises(TimeoutError):
            rate("lamp", fail)
    assert rate("lamp", len) is None
    breakers.advance(15)
    assert rate("lamp", len) == 4


def test_a_fleet_shares_the_threshold_as_it_says() -> None:
    told = " ".join(sections(GUIDE)["What differs from all of them"].split())
    assert "open after 5 failures, not after 100" in told
    assert BreakerPolicy().failure_threshold == 5
