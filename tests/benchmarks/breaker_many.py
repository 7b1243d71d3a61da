"""A hundred busy breakers in one process: how often, and for how long, it synchronises."""

from typing import Any

from analytics_admin.breakers import CircuitBreaker, runtime
from analytics_admin.breakers.policy import TIME_BASED
from analytics_admin.breakers.state import Results
from analytics_admin.breakers.stores.base import Report

BREAKERS = 100
COUNT_WINDOW: dict[str, Any] = {"failure_rate_threshold": 50}
TIME_WINDOW = {**COUNT_WINDOW, "sliding_window_type": TIME_BASED, "sliding_window_size": 60}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "count window of 100": COUNT_WINDOW,
    "time window of 60 s, full": TIME_WINDOW,
}
IDLE_AFTER = 2.5


def count(
    breaker: CircuitBreaker, successes: tuple[tuple[int, int], ...], failures: int = 0
) -> None:
    """Have the store count these results."""
    assert runtime.engine.report_all(10)  # a first call does not wait until its breaker is read
    assert breaker.local_state.snapshot is not None
    results = Results(successes=successes, newest_success_at=successes[-1][0], failures=failures)
    report = Report(
        name=breaker.name,
        window=breaker.policy.window,
        generation=breaker.local_state.snapshot.generation,
        results=results,
    )
    runtime.operator_store().add([report])


def successes_in_last_seconds(seconds: int) -> tuple[tuple[int, int], ...]:
    """Return five successes in each of the last seconds of the store's clock."""
    now = int(runtime.operator_store().load_many(["none"]).now)
    return tuple((second, 5) for second in range(now - seconds + 1, now + 1))
