"""Fleets under the default policy for ten simulated minutes: false opens, and how late real ones.

For each fleet: failures at random, and the trip when the backend dies after that; then a healthy
backend of 20 pods, one of which restarts every 20 seconds. The processes hear of changes and of
questions, or poll (``--polls``). ``--only`` takes rows by their number.
"""

import argparse
import time
from collections.abc import Sequence

import django
from django.conf import settings

from tests.support.false_opens import FLEETS, Fleet, Outcome, fail_now_and_then, restart_pods

ALLOWED = {False: 0.3 + 0.05, True: 0.08 + 0.05}
"""Seconds from the threshold's failure to the trip: the time to settle and a moment; by whether the
processes hear of questions."""
RESTART_EVERY = 20.0
SLOW_FLEET = Fleet(processes=100, rate=100 / 60, failing=0.0)


def main() -> None:
    options = _options()
    settings.configure(INSTALLED_APPS=["analytics_admin"], LOGGING_CONFIG=None)
    django.setup()
    print(
        f"{'':3}{'fleet':26}{'calls':>10}{'false opens':>13}{'longest run':>13}"
        f"{'dead: trips after':>19}{'pods: calls':>13}{'false opens':>13}{'took':>8}"
    )
    fleets = [*FLEETS, SLOW_FLEET]
    numbers = options.only or range(1, len(fleets) + 1)
    missed = [n for n in numbers if not _line(n, fleets[n - 1], options)]
    if missed:
        raise SystemExit(f"bounds missed in rows {missed}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="simulated, of each part")
    parser.add_argument("--polls", action="store_true", help="processes that hear of nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of rows")
    return parser.parse_args()


def _line(number: int, fleet: Fleet, options: argparse.Namespace) -> bool:
    """Print the row and return whether its bounds hold."""
    began, seconds, seed, gets_pushes = (
        time.monotonic(),
        options.seconds,
        options.seed,
        not options.polls,
    )
    random = fail_now_and_then(fleet, seconds, seed, gets_pushes=gets_pushes)
    pods = restart_pods(fleet, seconds, RESTART_EVERY, seed, gets_pushes=gets_pushes)
    late = random.tripped_after
    cells: Sequence[str] = (
        f"{random.calls:>10,}{_opened(random):>13}{random.longest_run:>13}",
        f"{'-' if late is None else f'{1000 * late:.0f} ms':>19}",
        f"{pods.calls:>13,}{_opened(pods):>13}{time.monotonic() - began:>6.0f} s",
    )
    print(f"{number:<3}{fleet!s:26}{''.join(cells)}", flush=True)
    has_opened = random.opened_at is not None or pods.opened_at is not None
    return not has_opened and late is not None and 0 <= late <= ALLOWED[gets_pushes]


def _opened(outcome: Outcome) -> str:
    return "0" if outcome.opened_at is None else f"at {outcome.opened_at:.1f} s"


if __name__ == "__main__":
    main()
