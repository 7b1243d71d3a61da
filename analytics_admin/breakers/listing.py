"""A part of the list of breakers: filtered, searched and sorted, in at most two round trips.

The store lists the breakers that are not closed, so only those within the bounds are read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from analytics_admin.breakers import runtime
from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.runtime import MAX_READ_AT_ONCE, declared_names
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.state_machine import display_state
from analytics_admin.breakers.status import BreakerStatus, build_status
from analytics_admin.breakers.stores.base import Reading

SORTS = ("name", "urgency")
REJECTING_STATES = (State.OPEN.value, Control.FORCED_OPEN.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerList:
    """Some of the ``count`` breakers that match; ``states`` counts all registered ones."""

    count: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    reading: Reading
    """The reading from which the breakers were taken."""
    sequence: int
    processes: Sequence[Process]
    """Those that are present at the store's ``sequence``, where they were requested."""


def find_breakers(
    *,
    state: str | None,
    search: str,
    sort: str,
    bounds: slice,
    activity: bool = False,
    processes: bool = False,
) -> BreakerList:
    """Return the breakers in ``state`` whose names contain ``search``: those within ``bounds``.

    With ``activity`` the reading holds the activity of each, with ``processes`` the list has the
    processes that use breakers.

    Raises:
        StoreUnavailable
    """
    declared = sorted(declared_names())
    first = declared if len(declared) <= MAX_READ_AT_ONCE else []
    survey = runtime.operator_store().survey(
        first,
        keep_for=runtime.keep_for(),
        activity_of=first if activity else None,
        all_up_to=MAX_READ_AT_ONCE,
        with_processes=processes,
    )
    names, reading = survey.names | set(declared), survey.reading
    states = _states_not_closed(names, survey.not_closed, reading)
    text = search.strip().casefold()
    matching = sorted(name for name in names if not text or text in name.casefold())
    if state is not None:
        matching = [name for name in matching if states.get(name, State.CLOSED.value) == state]
    if sort == "urgency":
        not_closed = [name for name in matching if name in states]
        not_closed.sort(key=lambda name: states[name] not in REJECTING_STATES)
        matching = [*not_closed, *(name for name in matching if name not in states)]
    listed = matching[bounds]
    read = reading.activity if activity else reading.snapshots
    if unread := [name for name in listed if name not in read]:
        store = runtime.operator_store()
        reading = reading.joined(store.load_many(unread, activity_of=unread if activity else ()))
        states = _states_not_closed(names, survey.not_closed, reading)
    counts = {**Counter(states.values()), State.CLOSED.value: len(names) - len(states)}
    return BreakerList(
        count=len(matching),
        breakers=[build_status(name, reading.snapshots[name], reading.now) for name in listed],
        states=counts,
        reading=reading,
        sequence=survey.reading.sequence,
        processes=survey.processes,
    )


def _states_not_closed(
    names: Set[str], listed: Mapping[str, str], reading: Reading
) -> dict[str, str]:
    """Return the state of each breaker that is not closed, as read, else as the store lists it."""
    read = {
        name: display_state(snapshot, reading.now) for name, snapshot in reading.snapshots.items()
    }
    return {
        name: state
        for name, state in {**listed, **read}.items()
        if name in names and state != State.CLOSED
    }
