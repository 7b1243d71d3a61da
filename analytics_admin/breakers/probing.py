"""What an operator does to an open breaker whose backend is back: let a probe through now.

Compared and set like every act: a breaker that moves meanwhile is judged anew.
"""

import secrets
from collections.abc import Mapping

from analytics_admin.breakers import runtime, state_machine
from analytics_admin.breakers.changes import (
    BreakerChange,
    BreakerNotOpen,
    build_change,
    require_unchanged,
)
from analytics_admin.breakers.control import MAX_ATTEMPTS, NO_EXPECTED_GENERATIONS, announce_change
from analytics_admin.breakers.state import Snapshot
from analytics_admin.breakers.status import read_registered, shown
from analytics_admin.breakers.stores.base import Move, StoreUnavailable
from analytics_admin.i18n import Message, gettext_noop


def allow_probe(
    name: str, *, actor: str, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Have an open breaker half-open at once, so that the next call probes.

    Raises:
        UnknownBreakers, BreakerNotOpen, BreakerChanged: nothing was changed.
        StoreUnavailable
    """
    for _ in range(MAX_ATTEMPTS):
        change, old, new = _allowed(name, expected)
        if _was_made(name, old, new, actor):
            announce_change(change, state_machine.PROBE_ALLOWED)
            return change
    words = gettext_noop("%(name)s changes faster than a probe can be let through")
    raise StoreUnavailable(Message(words, name=name))


def plan_probe(
    name: str, *, expected: Mapping[str, str] = NO_EXPECTED_GENERATIONS
) -> BreakerChange:
    """Return what ``allow_probe`` would do now, without doing it; raises as it does."""
    change, _, _ = _allowed(name, expected)
    return change


def _allowed(name: str, expected: Mapping[str, str]) -> tuple[BreakerChange, Snapshot, Snapshot]:
    """Return what the act comes to, and the breaker before and after it."""
    reading = read_registered([name])
    require_unchanged(expected, reading)
    old = reading.snapshots[name]
    new = None if old is None else state_machine.allow_probe(old)
    if old is None or new is None:
        raise BreakerNotOpen(name, shown(old, reading.now))
    change = build_change(name, old, reading.now, to_state=shown(new, reading.now))
    return change, old, new


def _was_made(name: str, old: Snapshot, new: Snapshot, actor: str) -> bool:
    """Try the move; if the reply is lost, what the store holds now tells whether it was made."""
    store = runtime.operator_store()
    move = Move(
        name=name,
        expected=old,
        new=new,
        cause=state_machine.PROBE_ALLOWED,
        attempt=secrets.token_hex(8),
        actor=actor,
    )
    try:
        (outcome,) = store.compare_and_set([move])
    except StoreUnavailable:
        if _is_on_its_record(move):
            return True
        raise
    return outcome.won


def _is_on_its_record(move: Move) -> bool:
    """Say whether the breaker's transitions hold this very move, whatever came after it."""
    transitions = runtime.operator_store().transitions(move.name)
    return any(transition.attempt == move.attempt for transition in transitions)
