"""The status of a breaker, as operators see it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.runtime import effective_policy
from analytics_admin.breakers.state import NO_COUNTS, Control, Counts, Snapshot
from analytics_admin.breakers.state_machine import (
    Admission,
    admission,
    control_in_force,
    display_state,
    retry_after,
    would_have_opened,
)


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
