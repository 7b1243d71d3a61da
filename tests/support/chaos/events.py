"""What a run writes down, beside the calls of ``history``. Times are monotonic seconds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.history.events import Away, Call, Disturbance, Life, read_events

STORE, DATABASE = "", "database"
"""Whom a disturbance befalls, if it is no process."""
TWO_PRIMARIES = "two primaries"
"""Both servers take writes: the Sentinels demote an old primary only after eight seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One look-up; ``as_of`` is when the value was read from what is searched."""

    process: str
    key: str
    tags: tuple[str, ...]
    began: float
    ended: float
    state: str
    as_of: float
    near: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An exception that reached a caller though what he called had not raised it."""

    process: str
    at: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An operator's process begins an act."""

    act: str
    kind: str
    at: float
    over_rest: bool = False
    targets: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the operator was told of it: "done", or the code of a failure."""

    act: str
    at: float
    outcome: str
    text: str = ""
    operation_id: str = ""
    """Of its row; "" if there is none, as he was told."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the audit trail at the end."""

    id: str
    actor: str
    reason: str
    kind: str
    status: str
    reached: tuple[str, ...] = ()
    """The breakers that a failed operation had changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A breaker in the store, read between these instants."""

    name: str
    began: float
    ended: float
    generation: str
    state: str
    control: str
    calls: int
    failures: int
    permits: int
    reason: str = ""
    """Of the hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The operation whose clear was the last that the store knows of."""

    began: float
    ended: float
    operation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calm:
    """From ``began`` everything runs, and nothing befalls anybody until ``ended``."""

    began: float
    ended: float


KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Away, Call, Disturbance, Life),
        *(Search, Fault, Begun, Told, Row, Seen, Receipt, Calm),
    )
}


def read(paths: Iterable[Path]) -> Iterator[Any]:
    """Yield the events of these files."""
    return read_events(paths, KINDS)
