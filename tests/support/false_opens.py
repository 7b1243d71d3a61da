"""Fleets whose backend fails now and then, loses a pod, or dies, on simulated time.

``gets_pushes``: the processes hear of changes and of questions; else they poll.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.permit import Permit
from analytics_admin.breakers.policy import TIME_BASED
from tests.support.simulation import SimulatedSite, simulated_site

NAME = "simulated"
LATENCY = 0.5
"""Seconds that a call takes where pods restart."""
PODS = 20
RATE_RULE: dict[str, Any] = {
    "failure_rate_threshold": 50,
    "minimum_number_of_calls": 20,
    "sliding_window_type": TIME_BASED,
    "sliding_window_size": 20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """``rate``: calls a second of all processes together; ``failing``: the part that fails.

    ``threshold`` is the policy's ``failure_threshold``.
    """

    processes: int
    rate: float
    failing: float
    threshold: int = 5

    def __str__(self) -> str:
        threshold = "" if self.threshold == 5 else f", opens at {self.threshold}"
        each = f"{self.rate / self.processes:g}/s"
        return f"{self.processes} x {each}, {100 * self.failing:g} %{threshold}"


FLEETS = [
    Fleet(processes=200, rate=2000, failing=0.01),
    Fleet(processes=200, rate=2000, failing=0.005),
    Fleet(processes=200, rate=2000, failing=0.002),
    Fleet(processes=200, rate=200, failing=0.01),
    Fleet(processes=50, rate=500, failing=0.02),
    Fleet(processes=50, rate=500, failing=0.01),
    Fleet(processes=40, rate=400, failing=0.03),
    Fleet(processes=40, rate=400, failing=0.02),
    Fleet(processes=20, rate=2000, failing=0.02),
    Fleet(processes=20, rate=200, failing=0.02),
    Fleet(processes=20, rate=200, failing=0.05),
    Fleet(processes=4, rate=100, failing=0.05),
    Fleet(processes=1, rate=100, failing=0.05),
]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a fleet. Times are seconds from its beginning."""

    calls: int = 0
    opened_at: float | None = None
    """When the breaker opened although the backend lived."""
    longest_run: int = 0
    """Of failures, in the order in which the calls of the fleet ended, while the backend lived."""
    tripped_after: float | None = None
    """Seconds from the failure of a dead backend that reached the threshold to the trip."""


def fail_now_and_then(fleet: Fleet, seconds: float, seed: int, *, gets_pushes: bool) -> Outcome:
    """Have calls fail at random, each for itself, for so long; then the backend dies."""
    luck, outcome = random.Random(seed), Outcome()
    run: list[float] = []
    with simulated_site(gets_pushes=gets_pushes) as site:
        processes = _begin(site, fleet)
        began = site.clock.now
        while site.clock.now - began < seconds:
            site.clock.now += luck.expovariate(fleet.rate)
            is_up = luck.random() >= fleet.failing
            run = [] if is_up else [*run, site.clock.now]
            outcome.longest_run = max(outcome.longest_run, len(run))
            outcome.calls += 1
            _call(luck.choice(processes), is_up=is_up)
            if site.events:
                outcome.opened_at = site.clock.now - began
                return outcome
        while not site.events:
            site.clock.now += luck.expovariate(fleet.rate)
            with suppress(CircuitOpenError):
                _call(luck.choice(processes), is_up=False)
                run.append(site.clock.now)
        (transition,) = site.store.transitions(NAME)
        outcome.tripped_after = transition.at - run[fleet.threshold - 1]
    return outcome


def fail_by_rate(fleet: Fleet, seconds: float, seed: int, *, gets_pushes: bool) -> Outcome:
    """Have calls fail at random under a rate rule alone; then the backend dies.

    ``tripped_after``: from when the rate of all calls of the fleet, told or not, was at its limit.
    """
    luck, outcome = random.Random(seed), Outcome()
    calls: deque[tuple[float, bool]] = deque()
    reached_at: float | None = None
    with simulated_site(gets_pushes=gets_pushes) as site:
        processes = [site.process(NAME, **RATE_RULE) for _ in range(fleet.processes)]
        died_at = site.clock.now + seconds
        now = site.clock.now
        while not site.events and now < died_at + seconds + 30:
            now = site.clock.now = site.clock.now + luck.expovariate(fleet.rate)
            if site.events:
                break
            is_up = now < died_at and luck.random() >= fleet.failing
            calls.append((now, is_up))
            while calls[0][0] < int(now) - RATE_RULE["sliding_window_size"] + 1:
                calls.popleft()
            failed = sum(not is_up for _, is_up in calls)
            limit = RATE_RULE["failure_rate_threshold"] * len(calls) / 100
            if len(calls) >= RATE_RULE["minimum_number_of_calls"] and failed >= limit:
                reached_at = reached_at or now
            outcome.calls += 1
            with suppress(CircuitOpenError):
                _call(luck.choice(processes), is_up=is_up)
        (transition,) = site.store.transitions(NAME)
        if reached_at is None:
            outcome.opened_at = transition.at
        else:
            outcome.tripped_after = transition.at - reached_at
    return outcome


def restart_pods(
    fleet: Fleet, seconds: float, every: float, seed: int, *, gets_pushes: bool
) -> Outcome:
    """Restart one pod of the healthy backend ``every`` so many seconds.

    Its calls in flight fail at that moment; all others go on succeeding.
    """
    luck, outcome = random.Random(seed), Outcome()
    with simulated_site(gets_pushes=gets_pushes) as site:
        processes = _begin(site, fleet)
        began = site.clock.now
        in_flight: list[tuple[float, int, Permit, bool]] = []
        for at, number in _arrivals(fleet.rate, seconds, every, luck):
            while in_flight and in_flight[0][0] <= at:
                ends, _, permit, _ = heapq.heappop(in_flight)
                site.clock.now = began + ends
                permit.succeed()
            site.clock.now = began + at
            if number is None:
                for _, _, permit, is_doomed in in_flight:
                    if is_doomed:
                        permit.fail(ConnectionError())
                in_flight = [call for call in in_flight if not call[3]]
                heapq.heapify(in_flight)
            else:
                outcome.calls += 1
                with suppress(CircuitOpenError):
                    permit = luck.choice(processes).acquire()
                    is_doomed = luck.random() < 1 / PODS
                    heapq.heappush(in_flight, (at + LATENCY, number, permit, is_doomed))
            if site.events:
                outcome.opened_at = at
                return outcome
    return outcome


def _begin(site: SimulatedSite, fleet: Fleet) -> list[CircuitBreaker]:
    """Return the fleet's processes; each has used the breaker before."""
    processes = [
        site.process(NAME, failure_threshold=fleet.threshold) for _ in range(fleet.processes)
    ]
    for process in processes:
        site.clock.now += 0.001
        _call(process, is_up=True)
    return processes


def _call(process: CircuitBreaker, *, is_up: bool) -> None:
    permit = process.acquire()
    if is_up:
        permit.succeed()
    else:
        permit.fail(ConnectionError())


def _arrivals(
    rate: float, seconds: float, every: float, luck: random.Random
) -> Iterator[tuple[float, int | None]]:
    """Yield when calls begin, by their number, and when a pod restarts (None)."""
    at, number, restart = 0.0, 0, every
    while at < seconds:
        at += luck.expovariate(rate)
        number += 1
        if at >= restart:
            yield restart, None
            restart += every
        yield at, number
