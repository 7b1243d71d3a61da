"""What befalls the fleet, drawn from a seed: rounds of a busy time, and a calm one after each."""

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NAMES = ("alpha", "beta", "gamma")
SHARED = "shared"
"""The breaker that is held in the calm: whoever shares the fleet's state rejects its calls."""
WORKERS = 3
OPERATORS = 2
TAGS = ("red", "green")
KEYS = 6
BUSY_SECONDS = 20.0
CALM_SECONDS = 13.0
"""Long enough for a new server to be compared with the audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an operator does, by the services or over REST. ``id`` is the reason of its row."""

    at: float
    id: str
    kind: str
    operator: int
    over_rest: bool
    targets: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A fault; ``number`` chooses whom it befalls, where there are several."""

    at: float
    kind: str
    seconds: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Times are seconds from its beginning."""

    acts: tuple[Act, ...]
    blows: tuple[Blow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The same for the same numbers."""

    seed: int
    busy: float
    calm: float
    rounds: tuple[Round, ...]
    health: dict[str, tuple[tuple[float, float], ...]]
    """By breaker: since which second of a round which part of the calls fails."""

    def failing(self, name: str, at: float) -> float:
        """Return the part of the calls that fail at this second of a round."""
        spans = self.health[name]
        return spans[max(0, bisect_right(spans, (at, 2.0)) - 1)][1]


def draw(
    seed: int, seconds: float, *, busy: float = BUSY_SECONDS, calm: float = CALM_SECONDS
) -> Plan:
    """Return the plan of this seed: as many rounds as fit, one at least."""
    luck = random.Random(seed)
    number = max(1, int(seconds / (busy + calm)))
    rounds = tuple(_round(luck, place, busy) for place in range(number))
    health = {name: _health(luck, busy) for name in NAMES} | {SHARED: ((0.0, 0.0),)}
    return Plan(seed=seed, busy=busy, calm=calm, rounds=rounds, health=health)


def _round(luck: random.Random, place: int, busy: float) -> Round:
    return Round(acts=tuple(_acts(luck, place, busy)), blows=tuple(_blows(luck, busy)))


def _acts(luck: random.Random, place: int, busy: float) -> list[Act]:
    acts, at = [], 0.3
    while (at := at + luck.uniform(0.05, 0.6)) < busy:
        kind, targets = luck.choice(_ACTS)(luck)
        acts.append(
            Act(
                at=at,
                id=f"act-{place}-{len(acts)}-{luck.randrange(10**6)}",
                kind=kind,
                operator=luck.randrange(OPERATORS),
                over_rest=luck.random() < 0.4 and "keys" not in targets,
                targets=targets,
            )
        )
    return acts


def _hold(luck: random.Random) -> tuple[str, dict[str, Any]]:
    control = luck.choice(["forced_open", "forced_open", "disabled"])
    seconds = luck.choice([None, None, 1.5, 4.0])
    return "hold", {"name": luck.choice(NAMES), "control": control, "for_seconds": seconds}


def _of_one(kind: str) -> Callable[[random.Random], tuple[str, dict[str, Any]]]:
    return lambda luck: (kind, {"name": luck.choice(NAMES)})


def _clear(**targets: Any) -> Callable[[random.Random], tuple[str, dict[str, Any]]]:
    return lambda luck: ("clear", targets)


_ACTS: tuple[Callable[[random.Random], tuple[str, dict[str, Any]]], ...] = (
    _hold,
    _hold,
    _of_one("release"),
    _of_one("release"),
    _of_one("reset"),
    _of_one("probe"),
    _clear(),
    _clear(mode="soft"),
    lambda luck: ("clear", {"tags": [luck.choice(TAGS)]}),
    lambda luck: ("clear", {"keys": [f"key.{luck.randrange(KEYS)}"]}),
    lambda luck: ("undo", {}),
)

LONGEST = {
    "stop worker": 1.5,
    "stop operator": 1.5,
    "kill worker": 0.0,
    "kill operator": 0.0,
    "kill primary": 0.0,
    "freeze primary": 3.0,
    "empty primary": 0.0,
    "restore primary": 0.0,
    "fail over": 0.0,
    "kill replica": 1.0,
    "freeze replica": 2.0,
    "kill sentinel": 1.5,
    "freeze sentinel": 1.5,
    "database": 2.5,
}
"""The faults, and for how many seconds each lasts at most."""


def _blows(luck: random.Random, busy: float) -> list[Blow]:
    blows, at, kinds = [], 0.5, [*LONGEST]
    luck.shuffle(kinds)
    while (at := at + luck.uniform(0.3, 1.5)) < busy - 0.5:
        kind = kinds[len(blows) % len(kinds)]  # each befalls a long round
        seconds = luck.uniform(0.1, LONGEST[kind]) if LONGEST[kind] else 0.0
        blows.append(Blow(at=at, kind=kind, seconds=seconds, number=luck.randrange(12)))
        at += seconds
    return blows


def _health(luck: random.Random, busy: float) -> tuple[tuple[float, float], ...]:
    spans, at = [(0.0, 0.02)], 0.0
    while (at := at + luck.uniform(0.5, 3.0)) < busy:
        spans.append((at, luck.choice([0.0, 0.02, 0.2, 1.0])))
    return (*spans, (busy, 0.0))
