"""What comes of an operator's act on breakers: each one's change, or why there is none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from analytics_admin.breakers.roster import BreakerStatus, status_of
from analytics_admin.breakers.store import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChange:
    """What an act did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str


class BreakerMoved(Exception):
    """The breaker is not what its caller had seen; ``status`` is what it is now.

    ``reached`` are others to which the act was done before: this one moved in that very moment.
    """

    code = "breaker_moved"
    reason = "the breaker has changed meanwhile"

    def __init__(self, name: str, status: BreakerStatus, reached: Collection[str] = ()) -> None:
        self.status = status
        self.reached = tuple(reached)
        self.operation_id: UUID | None = None
        done = f"; changed before it: {len(self.reached)}" if reached else ""
        super().__init__(f"Circuit breaker {name} has changed meanwhile{done}")


class BreakerKept(Exception):
    """The breaker cannot be forgotten as it is: it is held, or this site declares it."""

    code = "breaker_kept"

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        self.operation_id: UUID | None = None
        super().__init__(f"Circuit breaker {name} cannot be forgotten: {reason}")


class BreakerNotOpen(Exception):
    """No probe can be let through: the breaker is not open by its own rules."""

    code = "breaker_not_open"

    def __init__(self, name: str, state: str) -> None:
        self.reason = f"it is {state}, not open"
        self.operation_id: UUID | None = None
        super().__init__(f"Circuit breaker {name} can let no probe through: {self.reason}")


def require_unmoved(
    expected: Mapping[str, str], reading: Reading, reached: Collection[str] = ()
) -> None:
    """Raise BreakerMoved unless each breaker of the reading is at the generation expected of it."""
    for name, snapshot in reading.snapshots.items():
        generation = "" if snapshot is None else snapshot.generation
        if expected.get(name, generation) != generation:
            raise BreakerMoved(name, status_of(name, snapshot, reading.now), reached)


def require_seen(seen: Collection[str] | None, reading: Reading) -> None:
    """Raise BreakerMoved where the reading has a breaker that is none of those seen, if any are."""
    for name, snapshot in reading.snapshots.items():
        if seen is not None and name not in seen:
            raise BreakerMoved(name, status_of(name, snapshot, reading.now))
