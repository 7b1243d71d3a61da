"""Acts at random among readers of three processes break no promise; at length it is run by hand."""

import pytest

from tests.tools.search_cache_fuzz import KINDS, Plan, fuzz

pytestmark = pytest.mark.hurried


@pytest.mark.parametrize(
    "options", [{}, {"delay": 0.05}, {"near": True}], ids=["plain", "late replies", "near"]
)
def test_no_answer_is_older_than_an_act_that_had_returned(options):
    acts, met = fuzz(Plan(acts=15, kinds=KINDS, seconds=15, **options))
    assert {name: number for name, number in met.items() if name.startswith("WRONG")} == {}
    assert {kind for kind in KINDS if acts[kind]} == set(KINDS)
    assert met["hit"] > 100
    assert (met["near hit"] > 100) == ("near" in options)
