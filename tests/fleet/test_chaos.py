"""Everything is killed, stopped, restarted and failed over under traffic and operators' acts."""

from pathlib import Path

from tests.support.chaos.checker import Promises, check
from tests.support.chaos.events import read
from tests.support.chaos.fleet import run
from tests.support.chaos.plan import WORKERS, draw

SEED = 14
BUSY, CALM = 6.0, 6.0
"""Seconds; ``python -m tests.tools.chaos`` takes longer."""


def test_a_site_in_chaos_keeps_its_promises_and_heals_by_itself(tmp_path: Path) -> None:
    plan = draw(SEED, BUSY + CALM, busy=BUSY, calm=CALM)
    verdict = check(read(run(plan, tmp_path, seconds=BUSY + CALM)), Promises())
    assert [str(violation) for violation in verdict.violations[:20]] == []
    assert verdict.checked["heals"] == WORKERS
    assert verdict.checked["told done"] > 10
    assert verdict.checked["searches: hit"] > 500
    assert verdict.checked["counts"] > 100
