"""The status of every registered breaker, as operators see it.

Registered means: in the store, declared in this process, or named in BREAKERS.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from analytics_admin.breakers import runtime
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.registry import (
    UnknownBreakers,
    declared_names,
    effective_policy,
    is_valid_name,
)
from analytics_admin.breakers.state import NO_COUNTS, Control, Counts, Snapshot
from analytics_admin.breakers.state_machine import (
    Admission,
    admission,
    control_in_force,
    display_state,
    retry_after,
    would_have_opened,
)
from analytics_admin.breakers.stores.base import Reading

MAX_READ_AT_ONCE = 100
"""Up to this many registered breakers are listed and read in one round trip."""
MAX_NAMED_AT_ONCE = 500
"""Up to this many named breakers are read in the round trip that checks their registration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker as an operator sees it; ``retry_after`` in seconds, None when calls pass."""

    name: str
    state: str
    """The state that calls meet: the hold in force, else the state."""
    consecutive_failures: int
    retry_after: float | None
    control: str = Control.AUTOMATIC.value
    held_until: datetime | None = None
    """When the hold expires; None if it does not, or without a hold."""
    held_by: str = ""
    hold_reason: str = ""
    generation: str = ""
    counts: Counts = NO_COUNTS
    """All calls of the current generation."""
    would_open: bool = False
    """Under metrics_only: its rules would have opened it."""


def registered_names() -> list[str]:
    """Return the names of all registered breakers, sorted.

    Raises:
        StoreUnavailable
    """
    stored = runtime.operator_store().survey([], keep_for=runtime.keep_for()).names
    return sorted(stored | declared_names())


def require_known(names: Sequence[str]) -> None:
    """Raise UnknownBreakers unless every name is registered (StoreUnavailable without a store)."""
    _reject_unknown(set(names), set(registered_names()))


def read_registered(names: Sequence[str] | None = None) -> Reading:
    """Return all registered breakers, or those named, sorted by name; usually in one round trip.

    Raises:
        UnknownBreakers: some of the names are not registered.
        StoreUnavailable
    """
    declared = declared_names()
    named = declared if names is None else set(names)
    survey = runtime.operator_store().survey(
        sorted(filter(is_valid_name, named))[:MAX_NAMED_AT_ONCE],
        keep_for=runtime.keep_for(),
        all_up_to=MAX_READ_AT_ONCE if names is None else 0,
    )
    registered, reading = survey.names | declared, survey.reading
    _reject_unknown(named, registered)
    wanted = sorted(registered if names is None else named)
    if unread := [name for name in wanted if name not in reading.snapshots]:
        reading = reading.joined(runtime.operator_store().load_many(unread))
    return Reading(now=reading.now, snapshots={name: reading.snapshots[name] for name in wanted})


def _reject_unknown(names: Set[str], registered: Set[str]) -> None:
    if unknown := names - registered:
        raise UnknownBreakers(list(unknown))


def build_status(
    name: str, snapshot: Snapshot | None, now: float, policy: BreakerPolicy | None = None
) -> BreakerStatus:
    """Return the status at store time ``now``; a ``policy`` of None means this process' own."""
    snapshot = snapshot or Snapshot(generation="")
    policy = policy or effective_policy(name)
    wait = retry_after(snapshot, policy, now)
    in_force = control_in_force(snapshot, now)
    hold = snapshot.hold if in_force is not Control.AUTOMATIC else None
    until = None if hold is None or hold.until is None else datetime.fromtimestamp(hold.until, UTC)
    rejects = admission(snapshot, policy, now) is not Admission.ALLOW
    return BreakerStatus(
        name=name,
        state=display_state(snapshot, now),
        consecutive_failures=snapshot.consecutive_failures,
        retry_after=wait if rejects else None,
        control=in_force.value,
        held_until=until,
        held_by=hold.actor if hold else "",
        hold_reason=hold.reason if hold else "",
        generation=snapshot.generation,
        counts=snapshot.counts,
        would_open=in_force is Control.METRICS_ONLY and would_have_opened(snapshot),
    )
