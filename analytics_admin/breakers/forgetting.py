"""What operators do to names that were mistyped or are used no more: take them off the list.

What the site declares stays, and what an operator holds.
"""

from collections.abc import Mapping

from analytics_admin.breakers import runtime
from analytics_admin.breakers.changes import (
    BreakerChange,
    BreakerInUse,
    build_change,
    require_unchanged,
    state_message,
)
from analytics_admin.breakers.control import MAX_ATTEMPTS, NO_EXPECTED_GENERATIONS
from analytics_admin.breakers.registry import declared_names
from analytics_admin.breakers.state import Control
from analytics_admin.breakers.status import build_status, read_registered, registered_names
from analytics_admin.breakers.stores.base import StoreUnavailable
from analytics_admin.i18n import Message, gettext_noop

FORGOTTEN = "forgotten"
"""What a breaker comes to that is taken off the list."""


def forget(name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS) -> BreakerChange:
    """Take a name off the list, with its record and what is known of it.

    A process that still uses it registers it again, as closed.

    Raises:
        UnknownBreakers, BreakerInUse, BreakerChanged: nothing was changed.
        StoreUnavailable
    """
    for _ in range(MAX_ATTEMPTS):
        change = _forgettable(name, expected)
        if _drop(name, change.generation):
            runtime.fleet.expire(name)
            return change
    words = gettext_noop("%(name)s changes faster than it can be forgotten")
    raise StoreUnavailable(Message(words, name=name))


def plan_forget(
    name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Return what ``forget`` would do now, without doing it; raises as it does."""
    return _forgettable(name, expected)


def _forgettable(name: str, expected: Mapping[str, str]) -> BreakerChange:
    """Return what forgetting the breaker comes to."""
    reading = read_registered([name])
    require_unchanged(expected, reading)
    if name in declared_names():
        raise BreakerInUse(name, Message(gettext_noop("this site's code or settings declare it")))
    snapshot = reading.snapshots[name]
    status = build_status(name, snapshot, reading.now)
    if status.control != Control.AUTOMATIC:
        words = gettext_noop("it is held %(control)s; release it first")
        raise BreakerInUse(name, Message(words, control=state_message(status.control)))
    return build_change(name, snapshot, reading.now, to_state=FORGOTTEN)


def _drop(name: str, generation: str) -> bool:
    """Drop the breaker unless it has moved on; a lost reply is settled by looking."""
    try:
        return runtime.operator_store().forget(name, generation=generation)
    except StoreUnavailable:
        if name in registered_names():
            raise
        return True
