"""What befalls a fleet, drawn from a seed: operators' acts, faults, and a backend's bad times."""

import random
from bisect import bisect_right
from dataclasses import dataclass

NAMES = ("alpha", "beta", "gamma")
PROCESSES = 4
QUIET_SECONDS = 3.0
"""At the end: nothing happens but a reset of all breakers and calls that succeed now and then."""
LOSSES = ("restart", "failover")
LONGEST_BLOWS = {"stop": 1.5, "stall": 2.0, "swallow": 0.4, "late": 1.0, "restart": 0.8}
"""Seconds; the others are over at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """``name``: None for all breakers."""

    at: float
    kind: str
    name: str | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault; ``process`` is the number of the one that it befalls, where it befalls one."""

    at: float
    kind: str
    seconds: float = 0.0
    process: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Times are seconds from the beginning."""

    seed: int
    seconds: float
    acts: tuple[Act, ...]
    blows: tuple[Blow, ...]
    health: dict[str, tuple[tuple[float, float], ...]]
    """By breaker: since when which part of the calls fails."""

    def failing(self, name: str, at: float) -> float:
        """Return the part of the calls that fail at this second."""
        spans = self.health[name]
        return spans[max(0, bisect_right(spans, (at, 2.0)) - 1)][1]


def draw(seed: int, seconds: float) -> Plan:
    """Return the plan of this seed."""
    luck = random.Random(seed)
    busy = seconds - QUIET_SECONDS
    return Plan(
        seed=seed,
        seconds=seconds,
        acts=(*_acts(luck, busy), Act(at=busy + 0.5, kind="reset", name=None)),
        blows=(*_blows(luck, busy), Blow(at=busy + 1.5, kind="cut")),
        health={name: (*_health(luck, busy), (busy, 0.05)) for name in NAMES},
    )


def _acts(luck: random.Random, busy: float) -> list[Act]:
    acts, at = [], 1.0
    while (at := at + luck.uniform(0.3, 1.6)) < busy:
        name = luck.choice(NAMES)
        match luck.choice(["hold", "hold", "reset", "release", "reset all"]):
            case "hold":
                seconds = luck.choice([None, 1.0, 3.0])
                acts.append(Act(at=at, kind="forced_open", name=name, seconds=seconds))
                if seconds is None:  # a breaker that is held for long meets nothing else
                    released = at + luck.uniform(1.0, 2.5)
                    acts.append(Act(at=min(released, busy), kind="release", name=name))
            case "reset all":
                acts.append(Act(at=at, kind="reset", name=None))
            case kind:
                acts.append(Act(at=at, kind=kind, name=name))
    return sorted(acts, key=lambda act: act.at)


def _blows(luck: random.Random, busy: float) -> list[Blow]:
    blows, at = [], 0.5
    while (at := at + luck.uniform(0.3, 1.0)) < busy - 1:
        kind = luck.choice(["stop", "stop", "kill", "stall", "cut", "swallow", "late", *LOSSES])
        longest = LONGEST_BLOWS.get(kind, 0.0)
        seconds, process = luck.uniform(0.05, longest), luck.randrange(PROCESSES)
        blows.append(Blow(at=at, kind=kind, seconds=seconds if longest else 0.0, process=process))
        at += seconds + (1.5 if kind in LOSSES else 0.0)
    return blows


def _health(luck: random.Random, busy: float) -> list[tuple[float, float]]:
    spans, at = [(0.0, 0.02)], 0.0
    while (at := at + luck.uniform(0.5, 3.0)) < busy:
        spans.append((at, luck.choice([0.0, 0.02, 0.2, 1.0])))
    return spans
