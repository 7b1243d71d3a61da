"""An operation on several breakers, one of which changes meanwhile: the rest is recorded."""

import pytest

from analytics_admin.breakers import control, runtime
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.models import Operation
from analytics_admin.services import Actor, reset_circuit_breakers, set_breaker_controls
from analytics_admin.services.errors import BreakerChanged
from analytics_admin.signals import breaker_state_changed
from tests.support.breakers import snapshot_of, state_now, trip

pytestmark = pytest.mark.django_db(transaction=True)
SHELL = Actor.system("root")
NAMES = ["first", "raced", "third"]


class Racing:
    """The store, in which somebody else resets a breaker just before the first change is made."""

    def __init__(self, store):
        self._store = store
        self._has_raced = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def compare_and_set(self, moves):
        if not self._has_raced and any(move.name == "raced" for move in moves):
            self._has_raced = True
            control.reset(["raced"], only_open=False)
        return self._store.compare_and_set(moves)


OPERATIONS = {
    "reset": lambda **options: reset_circuit_breakers(actor=SHELL, **options),
    "hold": lambda **options: set_breaker_controls(actor=SHELL, control="disabled", **options),
}


@pytest.mark.parametrize(("operation", "becomes"), [("reset", "closed"), ("hold", "disabled")])
def test_the_others_are_reached_announced_and_on_record(operation, becomes, monkeypatch):
    breakers = {name: trip(name) for name in NAMES}
    seen = {name: snapshot_of(breaker).generation for name, breaker in breakers.items()}
    racing, heard = Racing(operator_store()), []
    monkeypatch.setattr(runtime, "operator_store", lambda: racing)
    listen = lambda **change: heard.append((change["name"], change["to_state"]))  # noqa: E731
    breaker_state_changed.connect(listen)
    with pytest.raises(BreakerChanged, match="raced has changed meanwhile; changed before it: 2"):
        OPERATIONS[operation](names=NAMES, expected_generation=seen)
    assert [state_now(breakers[name]) for name in NAMES] == [becomes, "closed", becomes]
    assert [change for change in heard if change[0] != "raced"] == [
        ("first", becomes),
        ("third", becomes),
    ]
    row = Operation.objects.get()
    assert (row.status, row.outcome) == ("failed", {"count": 2, "names": ["first", "third"]})
