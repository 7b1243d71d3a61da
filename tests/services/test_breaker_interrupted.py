"""An operation on many breakers whose store is lost on the way: record and signals are true."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from analytics_admin.breakers import control, runtime
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, MoveOutcome, StoreUnavailable
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    OperationFailed,
    list_breakers,
    reset_circuit_breakers,
    set_breaker_controls,
)
from analytics_admin.signals import breaker_state_changed

pytestmark = pytest.mark.django_db(transaction=True)
SHELL = Actor.system("root")
NUMBER, AT_ONCE, FAILS_AT = 120, 50, 2
NAMES = [f"b{number:03}" for number in range(NUMBER)]


class Failing:
    """The store, which fails at a write; ``made`` of that write's moves are made all the same."""

    def __init__(self, *, made: int, is_away: bool) -> None:
        self._store, self._made, self._is_away = operator_store(), made, is_away
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        if self._is_away and self._writes >= FAILS_AT:
            raise StoreUnavailable("the store cannot be reached")
        return getattr(self._store, name)

    def compare_and_set(self, moves: list[Move]) -> list[MoveOutcome]:
        self._writes += 1
        if self._writes == FAILS_AT:
            self._store.compare_and_set(moves[: self._made])
            raise StoreUnavailable("the store cannot be reached")
        return self._store.compare_and_set(moves)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "closed": lambda: reset_circuit_breakers(actor=SHELL, names=NAMES),
    "disabled": lambda: set_breaker_controls(actor=SHELL, names=NAMES, control="disabled"),
}
LOSSES = {
    "a write is refused": ({"made": 0, "is_away": False}, 50),
    "a reply is lost half-way": ({"made": 20, "is_away": False}, 70),
    "the store stays away": ({"made": 0, "is_away": True}, 50),
}


@pytest.mark.parametrize("becomes", OPERATIONS)
@pytest.mark.parametrize(("loss", "reached"), LOSSES.values(), ids=LOSSES)
def test_the_row_and_signals_tell_of_those_that_were_reached(
    becomes: str, loss: dict[str, Any], reached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = replace(new_record(), state=State.OPEN, wait=60.0)
    operator_store().compare_and_set([Move(name=name, expected=None, new=opened) for name in NAMES])
    failing, heard = Failing(**loss), []
    monkeypatch.setattr(control, "MOVES_AT_ONCE", AT_ONCE)
    monkeypatch.setattr(runtime, "_breakers", {})  # what other tests have declared
    monkeypatch.setattr(runtime, "operator_store", lambda: failing)
    listen = lambda **change: heard.append(change["name"])  # noqa: E731
    breaker_state_changed.connect(listen)
    with pytest.raises(OperationFailed) as failure:
        OPERATIONS[becomes]()
    monkeypatch.undo()
    assert failure.value.reason == (
        f"the store cannot be reached; {reached} of {NUMBER} circuit breakers "
        "had been changed before"
    )
    listed = (status.name for status in list_breakers(state=becomes))
    changed = sorted(name for name in listed if name in NAMES)
    row = Operation.objects.get()
    assert (row.status, row.error) == ("failed", failure.value.reason)
    assert row.outcome == {"count": reached, "selected": NUMBER, "names": changed[:100]}
    assert (len(changed), sorted(heard)) == (reached, changed)


def test_a_store_that_is_lost_before_anything_was_changed_is_said_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = replace(new_record(), state=State.OPEN, wait=60.0)
    operator_store().compare_and_set([Move(name="b", expected=None, new=opened)])
    failing = Failing(made=0, is_away=False)
    failing._writes = FAILS_AT - 1
    monkeypatch.setattr(runtime, "operator_store", lambda: failing)
    with pytest.raises(OperationFailed, match=r": the store cannot be reached$"):
        reset_circuit_breakers(actor=SHELL)
    assert Operation.objects.get().outcome == {}
