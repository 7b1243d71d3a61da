"""A fleet under faults, its whole history checked afterwards against the breakers' promises."""

import random
from pathlib import Path

import pytest

from tests.support.history.checker import check
from tests.support.history.events import read_history
from tests.support.history.fleet import run
from tests.support.history.plan import draw
from tests.support.history.workers import PROMISES

SECONDS = 10.0
SEEDS = [404]
"""Each seed with which a history broke a promise is kept here."""


@pytest.mark.parametrize("seed", [*SEEDS, "fresh"])
def test_a_fleet_under_faults_keeps_its_promises(seed: int | str, tmp_path: Path) -> None:
    drawn = random.SystemRandom().randrange(1_000, 1_000_000) if seed == "fresh" else int(seed)
    verdict = check(read_history(run(draw(drawn, SECONDS), tmp_path)), PROMISES)
    assert [str(violation) for violation in verdict.violations] == [], f"with seed {drawn}"
    assert verdict.checked["passes"] > 100
    assert verdict.checked["rejections"] > 50
