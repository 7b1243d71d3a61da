"""What a history is made of. All times are the machine's monotonic clock, in seconds."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SUCCESS, FAILURE, REJECTED = "success", "failure", "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One protected call. What ended it is written down before it is reported to the breaker."""

    process: str
    thread: int
    name: str
    began: float
    ended: float
    outcome: str
    generation: str = ""
    """Under which it passed."""
    is_probe: bool = False
    had_store: bool = True
    """Whether its process used the fleet's store when it began and when it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The last call of this thread and its breaker has been reported to the breaker."""

    process: str
    thread: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process of the fleet; ``was_killed``: what it had counted last may be lost."""

    process: str
    began: float
    ended: float
    was_killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A process, or the store (""), that stood still, was slow or could not be reached."""

    process: str
    began: float
    ended: float
    what: str
    loses_data: bool = False
    """Whether another server took over, or the same one without its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A process that went on without the store."""

    process: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operator did to one breaker; ``outcome`` is "done" or what he was told instead."""

    kind: str
    """"forced_open", "release" or "reset"."""
    name: str
    began: float
    ended: float
    outcome: str = "done"
    seconds: float | None = None
    """After which a hold ends by itself."""
    replaced: str = ""
    """The generation before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A transition on record."""

    name: str
    attempt: str
    from_state: str
    to_state: str
    cause: str
    at: float
    failures_in_a_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTransition:
    """A transition that a process without the store made for itself, when a receiver heard it."""

    process: str
    name: str
    from_state: str
    to_state: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The breaker in the store, read between these instants; ``label``: the hold or the state."""

    name: str
    began: float
    ended: float
    generation: str
    label: str
    calls: int = 0
    failures: int = 0
    is_final: bool = False
    """Whether all processes had reported everything before."""


Event = (
    Call | Reported | Life | Disturbance | Away | Operation | Transition | LocalTransition | Record
)
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Call,
        Reported,
        Life,
        Disturbance,
        Away,
        Operation,
        Transition,
        LocalTransition,
        Record,
    )
}


class HistoryFile:
    """A file to which one process appends its events; they are there although it is killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: Any) -> None:
        line = json.dumps([type(event).__name__, asdict(event)]) + "\n"
        os.write(self._file, line.encode())


def read_history(paths: Iterable[Path]) -> Iterator[Event]:
    """Yield the events of these files."""
    return read_events(paths, KINDS)


def read_events(paths: Iterable[Path], kinds: Mapping[str, type[Any]]) -> Iterator[Any]:
    """Yield the events of these files, which are of these kinds."""
    for path in paths:
        for line in path.read_text().splitlines():
            kind, values = json.loads(line)
            yield kinds[kind](**values)
