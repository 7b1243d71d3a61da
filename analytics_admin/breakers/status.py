"""Every registered breaker of the site, as operators see it.

Registered: known to the store, declared in this process, or named in BREAKERS.
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
from analytics_admin.breakers.state import NO_COUNTS, Control, Counts, Snapshot, State
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
"""Where no more are registered, one round trip finds out which they are and reads them all."""
MAX_NAMED_AT_ONCE = 500
"""So many that are named are read in the round trip that finds out whether they are registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker for an operator's eyes; ``retry_after`` in seconds, None when calls pass."""

    name: str
    state: str
    """What calls meet: a state, or the hold in force."""
    consecutive_failures: int
    retry_after: float | None
    control: str = Control.AUTOMATIC.value
    held_until: datetime | None = None
    """When the hold ends by itself; None for ever, or without a hold."""
    held_by: str = ""
    hold_reason: str = ""
    generation: str = ""
    counts: Counts = NO_COUNTS
    """All calls since it came to be so."""
    would_open: bool = False
    """Under metrics_only: its rules have been met, so that it would have opened."""


def registered_names() -> list[str]:
    """Return every name known to the store, this process or the settings, sorted.

    Raises:
        StoreUnavailable
    """
    known = runtime.operator_store().survey([], keep_for=runtime.keep_for()).names
    return sorted(known | declared_names())


def require_known(names: Sequence[str]) -> None:
    """Raise UnknownBreakers unless every name is registered (StoreUnavailable if none can say)."""
    _refuse_unknown(set(names), set(registered_names()))


def read_registered(names: Sequence[str] | None = None) -> Reading:
    """Return all registered breakers, or those named, sorted by name: mostly in one round trip.

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
    _refuse_unknown(named, registered)
    wanted = sorted(registered if names is None else named)
    if unread := [name for name in wanted if name not in reading.snapshots]:
        reading = reading.joined(runtime.operator_store().load_many(unread))
    return Reading(now=reading.now, snapshots={name: reading.snapshots[name] for name in wanted})


def _refuse_unknown(names: Set[str], registered: Set[str]) -> None:
    if unknown := names - registered:
        raise UnknownBreakers(list(unknown))


def shown(snapshot: Snapshot | None, now: float) -> str:
    """Return the word for what calls meet; a breaker without a record, not used yet, is closed."""
    return State.CLOSED.value if snapshot is None else display_state(snapshot, now)


def build_status(
    name: str, snapshot: Snapshot | None, now: float, policy: BreakerPolicy | None = None
) -> BreakerStatus:
    """Return the breaker's status at ``now`` of the store; ``policy`` is this process' if None."""
    known = snapshot or Snapshot(generation="")
    policy = policy or effective_policy(name)
    wait = retry_after(known, policy, now)
    in_force = control_in_force(known, now)
    hold = known.hold if in_force is not Control.AUTOMATIC else None
    until = None if hold is None or hold.until is None else datetime.fromtimestamp(hold.until, UTC)
    rejects = admission(known, policy, now) is not Admission.ALLOW
    return BreakerStatus(
        name=name,
        state=display_state(known, now),
        consecutive_failures=known.consecutive_failures,
        retry_after=wait if rejects else None,
        control=in_force.value,
        held_until=until,
        held_by=hold.actor if hold else "",
        hold_reason=hold.reason if hold else "",
        generation=known.generation,
        counts=known.counts,
        would_open=in_force is Control.METRICS_ONLY and would_have_opened(known),
    )
