"""What the operators' view costs: a page of many breakers, one in full, and the evidence itself."""

import random
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from redis.connection import AbstractConnection

from analytics_admin.breakers import circuit_breaker, permit, runtime
from analytics_admin.breakers.history import MAX_FAILURES
from analytics_admin.breakers.stores import redis_scripts
from analytics_admin.breakers.stores.base import MAX_NAMES
from analytics_admin.stores.client import script_hash
from tests.benchmarks.breaker_bench import Line
from tests.benchmarks.breaker_peers import NEVER
from tests.benchmarks.breaker_reset import fill_up, open_all
from tests.benchmarks.breaker_timing import Calls, enduring, fail, measure

PAGE_BOUND, DETAIL_BOUND, EVIDENCE_BOUND = 20, 5, 15
EVIDENCE_LINES = (
    "  tally(keys.periods, calls, failed, slow, rejected)\n",
    f"    keep(keys.failures, now .. ' ' .. note, {MAX_FAILURES - 1})\n",
)


def views(rounds: int) -> list[Line]:
    """Fail under observation, then look at the failures and at ten thousand breakers."""
    # What knows the app's models can be had only once the site is set up.
    from analytics_admin.services import describe_breaker, page_breakers

    lines = [evidence_of_failures(rounds)]
    fill_up()
    fillers = [name for name in runtime.registered_names() if name.startswith("registered-")]
    open_all(random.Random(7).sample(fillers, 50))
    of = f"of {MAX_NAMES:,} breakers"
    questions: dict[str, Callable[[], object]] = {
        f"first page {of}": page_breakers,
        f"first page {of}, with activity": lambda: page_breakers(activity=True),
        f"the open ones {of}": lambda: page_breakers(state="open"),
        f"by urgency {of}": lambda: page_breakers(sort="urgency"),
        f"by a part of the name {of}": lambda: page_breakers(search="99"),
        "one breaker with its evidence": lambda: describe_breaker("noting"),
    }
    for name, ask in questions.items():
        bound = DETAIL_BOUND if "one breaker" in name else PAGE_BOUND
        ask()
        took, waits = [], []
        for _ in range(10 * rounds):
            began = time.perf_counter()
            ask()
            took.append(1000 * (time.perf_counter() - began))
            waits.append(_sends(ask))
        lines.append(Line(measure=name, values=took, unit="ms", bound=bound))
        trips = 1 if "one breaker" in name else 2
        lines.append(Line(measure=f"{name}: round trips", values=waits, bound=trips))
    return lines


def evidence_of_failures(rounds: int) -> Line:
    """Time failures whose evidence is kept beside failures whose evidence is not."""
    failing = enduring(circuit_breaker("noting", failure_threshold=NEVER)(fail))
    bare = redis_scripts.COUNT_RESULTS
    for line in EVIDENCE_LINES:
        assert line in bare
        bare = bare.replace(line, "")

    def unseen(number: int) -> None:
        with (
            patch.object(redis_scripts, "COUNT_RESULTS", bare),
            patch.dict(redis_scripts.BY_HASH, {script_hash(bare): bare}),
            patch.object(permit, "take_note", _no_note),
        ):
            failing(number)

    contestants: dict[str, Calls] = {"seen": failing, "unseen": unseen}
    taken = measure(contestants, rounds)
    return Line(
        measure="failed call: its evidence",
        values=[
            1e6 * (seen - unseen)
            for seen, unseen in zip(taken["seen"], taken["unseen"], strict=True)
        ],
        unit="µs",
        bound=EVIDENCE_BOUND,
    )


def _sends(ask: Callable[[], object]) -> int:
    """Return how often the client sends and waits; a pipeline is one time."""
    with patch.object(
        AbstractConnection,
        "send_packed_command",
        autospec=True,
        side_effect=AbstractConnection.send_packed_command,
    ) as send:
        ask()
    return send.call_count


def _no_note(*_: Any, **__: Any) -> None:
    return None
