"""Kill, stop, restart and fail over everything under traffic and operators' acts; check it all.

``python -m tests.tools.chaos --seconds 600 --seed 7`` prints where promises were broken, and exits
with 1 if there is one. A seed draws the same acts and faults again; their timing is the machine's.
"""

import argparse
import os
import random
import tempfile
from collections import Counter
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
MOST_TOLD = 10
"""Cases of one rule that are printed."""


def main() -> None:
    options = _options()
    django.setup()
    failed = [seed for seed in _seeds(options) if not _holds(seed, options)]
    if failed:
        raise SystemExit(f"promises were broken with the seeds {failed}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="instead of fresh ones")
    parser.add_argument("--seconds", type=float, default=600, help="of each run")
    parser.add_argument("--runs", type=int, default=1, help="with a fresh seed each")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--keep", type=Path, help="folder for what is written down")
    parser.add_argument("--recheck", action="store_true", help="check what --keep holds again")
    return parser.parse_args()


def _seeds(options: argparse.Namespace) -> list[int]:
    return options.seed or [random.randrange(1_000, 1_000_000) for _ in range(options.runs)]


def _holds(seed: int, options: argparse.Namespace) -> bool:
    """Do and check one run; print what breaks a promise, and how much was checked."""
    from tests.support.chaos.checker import Promises, check
    from tests.support.chaos.events import read
    from tests.support.chaos.fleet import run
    from tests.support.chaos.plan import draw

    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)) / str(seed)
        if not options.recheck:
            folder.mkdir(parents=True)
            plan = draw(seed, options.seconds)
            run(plan, folder, seconds=options.seconds, database=options.database)
        verdict = check(read(sorted(folder.glob("*.jsonl"))), Promises())
    told: Counter[str] = Counter()
    for violation in verdict.violations:
        told[violation.rule] += 1
        if told[violation.rule] <= MOST_TOLD:
            print(violation)
    for rule, number in told.items():
        print(f"{rule}: broken {number} times")
    checked = ", ".join(f"{number} {what}" for what, number in sorted(verdict.checked.items()))
    print(f"seed {seed}: {len(verdict.violations)} promises broken; checked: {checked}", flush=True)
    return not verdict.violations


if __name__ == "__main__":
    main()
