"""Run a fleet under faults and check its history. ``--keep`` keeps what was written down."""

import argparse
import os
import random
import tempfile
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"


def main() -> None:
    options = _options()
    django.setup()
    failed = [seed for seed in _seeds(options) if not _holds(seed, options)]
    if failed:
        raise SystemExit(f"promises were broken with the seeds {failed}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="instead of fresh ones")
    parser.add_argument("--seconds", type=float, default=30, help="of each run")
    parser.add_argument("--runs", type=int, default=1, help="with a fresh seed each")
    parser.add_argument("--keep", type=Path, help="folder for the files of the histories")
    parser.add_argument("--recheck", action="store_true", help="check what --keep holds again")
    return parser.parse_args()


def _seeds(options: argparse.Namespace) -> list[int]:
    return options.seed or [random.randrange(1_000, 1_000_000) for _ in range(options.runs)]


def _holds(seed: int, options: argparse.Namespace) -> bool:
    """Run and check one history; print what breaks a promise, and how much was checked."""
    from tests.support.history.checker import check
    from tests.support.history.events import read_history
    from tests.support.history.fleet import run
    from tests.support.history.plan import draw
    from tests.support.history.workers import PROMISES

    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)) / str(seed)
        if not options.recheck:
            folder.mkdir(parents=True)
            run(draw(seed, options.seconds), folder)
        verdict = check(read_history(sorted(folder.glob("*.jsonl"))), PROMISES)
    for violation in verdict.violations:
        print(violation)
    checked = ", ".join(f"{number} {what}" for what, number in sorted(verdict.checked.items()))
    print(f"seed {seed}: {len(verdict.violations)} promises broken; checked: {checked}", flush=True)
    return not verdict.violations


if __name__ == "__main__":
    main()
