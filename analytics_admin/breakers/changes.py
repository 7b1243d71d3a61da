"""The results of operations on breakers: each breaker's change, or why there is none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from analytics_admin.breakers.state import Snapshot
from analytics_admin.breakers.state_machine import display_state
from analytics_admin.breakers.status import BreakerStatus, build_status
from analytics_admin.breakers.stores.base import Reading
from analytics_admin.i18n import Message, OperatorError
from analytics_admin.i18n import gettext_noop as _

# Translators: states and controls as programs name them, within a sentence.
_STATES = {
    "automatic": Message(_("automatic")),
    "closed": Message(_("closed")),
    "open": Message(_("open")),
    "half_open": Message(_("half_open")),
    "forced_open": Message(_("forced_open")),
    "disabled": Message(_("disabled")),
    "metrics_only": Message(_("metrics_only")),
}

MAX_NAMES_RECORDED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChange:
    """What an operation did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str
    generation: str
    """The generation before the change; empty without a record."""


class BreakerChanged(OperatorError):
    """The breaker is not at the expected generation; ``status`` is its status now.

    ``reached`` are the breakers that the operation had changed before.
    """

    code = "breaker_moved"

    def __init__(self, name: str, status: BreakerStatus, reached: Collection[str] = ()) -> None:
        self.status = status
        self.reached = tuple(reached)
        text = _("Circuit breaker %(name)s has changed meanwhile")
        if reached:
            text = _(
                "Circuit breaker %(name)s has changed meanwhile; changed before it: %(number)s"
            )
        super().__init__(
            Message(text, name=name, number=len(self.reached)),
            reason=Message(_("the breaker has changed meanwhile")),
            partial_outcome={"count": len(reached), "names": sorted(reached)[:MAX_NAMES_RECORDED]},
        )


class BreakerInUse(OperatorError):
    """The breaker cannot be forgotten: an operator holds it, or this site declares it."""

    code = "breaker_kept"

    def __init__(self, name: str, reason: str) -> None:
        text = _("Circuit breaker %(name)s cannot be forgotten: %(reason)s")
        super().__init__(Message(text, name=name, reason=reason), reason=reason)


class BreakerNotOpen(OperatorError):
    """No probe can be allowed: the breaker is not open by its own rules."""

    code = "breaker_not_open"

    def __init__(self, name: str, state: str) -> None:
        reason = Message(_("it is %(state)s, not open"), state=state_message(state))
        text = _("Circuit breaker %(name)s cannot let a probe through: %(reason)s")
        super().__init__(Message(text, name=name, reason=reason), reason=reason)


def state_message(state: str) -> str:
    """Return the state or control, translatable; an unknown one as it is."""
    return _STATES.get(state, state)


def build_change(name: str, before: Snapshot | None, now: float, *, to_state: str) -> BreakerChange:
    """Return the change of a breaker to ``to_state``; it was at ``before`` at ``now``."""
    return BreakerChange(
        name=name,
        from_state=display_state(before, now),
        to_state=to_state,
        generation=_generation(before),
    )


def require_unchanged(
    expected: Mapping[str, str], reading: Reading, reached: Collection[str] = ()
) -> None:
    """Raise BreakerChanged unless each breaker of the reading is at its expected generation."""
    for name, snapshot in reading.snapshots.items():
        generation = _generation(snapshot)
        if expected.get(name, generation) != generation:
            raise BreakerChanged(name, build_status(name, snapshot, reading.now), reached)


def require_seen(seen: Collection[str] | None, reading: Reading) -> None:
    """Raise BreakerChanged if the reading has a breaker that is not in ``seen``, unless None."""
    for name, snapshot in reading.snapshots.items():
        if seen is not None and name not in seen:
            raise BreakerChanged(name, build_status(name, snapshot, reading.now))


def _generation(snapshot: Snapshot | None) -> str:
    return "" if snapshot is None else snapshot.generation
