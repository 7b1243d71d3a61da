"""What a store that came back has lost of operators' acts is done again, on record."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from analytics_admin import services
from analytics_admin.breakers import control, runtime
from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.state_machine import FAILURE_RATE, new_record, next_generation
from analytics_admin.breakers.stores.base import Move
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from analytics_admin.services.breakers import reconciliation
from analytics_admin.services.breakers.operations import SetControl
from analytics_admin.services.breakers.reconciliation import reconcile
from tests.support.breakers import another, rest_engines
from tests.support.stored_breakers import key_of_site, raw_client

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = Actor.system("sam")
NAMES = ["catalog", "payments", "search"]


@pytest.fixture(autouse=True)
def breakers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three closed breakers, long before any act."""
    monkeypatch.setattr(reconciliation, "SKEW_SECONDS", 0.0)
    moves = [Move(name=name, expected=None, new=new_record()) for name in NAMES]
    runtime.operator_store().compare_and_set(moves)


def hold(*names: str, to: str = "forced_open", **options: Any) -> None:
    services.set_breaker_controls(names=names, control=to, actor=OPERATOR, **options)


def open_(name: str) -> None:
    store = runtime.operator_store()
    old = store.load_many([name]).snapshots[name]
    assert old is not None
    new = replace(new_record(), state=State.OPEN, wait=3600.0)
    assert store.compare_and_set([Move(name=name, expected=old, new=new)])[0].won


def move(name: str) -> None:
    """Have the breaker open or close by its own rules."""
    store = runtime.operator_store()
    old = store.load_many([name]).snapshots[name]
    assert old is not None
    state = State.CLOSED if old.state is State.OPEN else State.OPEN
    new = replace(old, generation=next_generation(old.generation), state=state, wait=60.0)
    assert store.compare_and_set([Move(name=name, expected=old, new=new, cause=FAILURE_RATE)])[
        0
    ].won


def losing(act: Callable[[], object]) -> None:
    """Do it, and have the store be as it was before."""
    client = raw_client()
    before = {key: client.dump(key) for key in client.keys(key_of_site("*"))}
    act()
    client.delete(*client.keys(key_of_site("*")))
    for key, value in before.items():
        client.restore(key, 0, value)


def states() -> dict[str, str]:
    rows = services.list_breakers()
    return {row.name: row.state for row in rows if row.name in NAMES}


def done_again() -> list[Operation]:
    return list(Operation.objects.filter(actor="reconciliation"))


def test_nothing_is_done_where_nothing_is_lost() -> None:
    reconcile()
    hold("catalog")
    open_("search")
    services.reset_circuit_breakers(actor=OPERATOR, names=["search"])
    hold("payments", to="disabled")
    hold("payments", to="automatic")
    reconcile()
    assert not done_again()
    assert states() == {"catalog": "forced_open", "payments": "closed", "search": "closed"}


def test_a_lost_hold_is_set_again_for_the_rest_of_its_time() -> None:
    losing(lambda: hold("catalog", "payments", for_seconds=600.0, reason="prices"))
    assert states()["catalog"] == "closed"
    reconcile()
    assert states() == {"catalog": "forced_open", "payments": "forced_open", "search": "closed"}
    (row,) = done_again()
    first = Operation.objects.get(actor="sam")
    assert row.status == "done"
    assert row.reason == f"The store had lost operation {first.pk} by sam: prices"
    assert 590 < row.targets["for_seconds"] <= 600
    reconcile()
    assert len(done_again()) == 1


def test_a_hold_without_end_has_none_again() -> None:
    losing(lambda: hold("catalog", to="disabled", for_seconds=float("inf")))
    reconcile()
    assert states()["catalog"] == "disabled"
    assert done_again()[0].targets["for_seconds"] is None


def test_a_hold_that_would_be_over_by_now_stays_lost() -> None:
    losing(lambda: hold("catalog", for_seconds=600.0))
    earlier = timezone.now() - timezone.timedelta(seconds=700)
    Operation.objects.update(started_at=earlier, finished_at=earlier)
    reconcile()
    assert not done_again()


def test_a_lost_release_and_a_lost_reset_are_done_again() -> None:
    hold("catalog", to="metrics_only")
    open_("search")
    losing(lambda: hold("catalog", to="automatic"))
    losing(lambda: services.reset_circuit_breakers(actor=OPERATOR, names=["search"]))
    assert states() == {"catalog": "metrics_only", "payments": "closed", "search": "open"}
    reconcile()
    assert states() == dict.fromkeys(NAMES, "closed")
    kinds = {row.kind for row in done_again()}
    assert kinds == {"control_circuit_breakers", "reset_circuit_breakers"}


@pytest.mark.parametrize("only_open", [True, False])
def test_a_lost_reset_of_all_is_done_again_to_those_that_are_open(only_open: bool) -> None:
    open_("search")
    hold("payments")
    losing(lambda: services.reset_circuit_breakers(actor=OPERATOR, only_open=only_open))
    reconcile()
    assert states() == dict.fromkeys(NAMES, "closed")


def test_an_emptied_store_gets_its_holds_back() -> None:
    hold("catalog")
    raw_client().delete(*raw_client().keys(key_of_site("*")))
    reconcile()
    assert states() == {"catalog": "forced_open"}


@pytest.mark.parametrize("moves", [0, 1, 3])
def test_a_hold_is_set_again_though_processes_have_used_the_emptied_store(moves: int) -> None:
    hold("catalog")
    raw_client().delete(*raw_client().keys(key_of_site("*")))
    breaker = another("catalog", failure_threshold=1)  # of a process that knows no hold
    with suppress(ValueError):
        breaker.call(int, "x" if moves else "1")
    rest_engines()
    for _ in range(moves - 1):
        move("catalog")
    reconcile()
    assert states()["catalog"] == "forced_open"


def test_what_an_operator_does_to_an_emptied_store_holds() -> None:
    hold("catalog")
    raw_client().delete(*raw_client().keys(key_of_site("*")))
    runtime.operator_store().register(["catalog"], keep_for=60.0)
    control.set_control(["catalog"], Control.DISABLED, for_seconds=60, actor="a", reason="")
    control.set_control(["catalog"], Control.AUTOMATIC, for_seconds=None, actor="a", reason="")
    reconcile()
    assert states()["catalog"] != "forced_open"


class TestMeanwhile:
    """Breakers that change between their reading and the act that is done again."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Have this done once, when the row of the act that is done again is on record."""

        def do(change: Callable[[], object]) -> None:
            execute, left = SetControl.execute, [change]

            def interrupted(command: SetControl) -> Any:
                if left:
                    left.pop()()
                return execute(command)

            monkeypatch.setattr(SetControl, "execute", interrupted)

        return do

    def register(self, *names: str) -> None:
        moves = [Move(name=name, expected=None, new=new_record()) for name in names]
        runtime.operator_store().compare_and_set(moves)

    def lose(self) -> None:
        hold("catalog", "payments")
        raw_client().delete(*raw_client().keys(key_of_site("*")))

    def test_one_that_a_process_registers_is_held_by_the_same_act(
        self, meanwhile: Callable[..., None]
    ) -> None:
        self.lose()
        meanwhile(lambda: self.register("catalog"))
        reconcile()
        assert (states()["catalog"], states()["payments"]) == ("forced_open", "forced_open")
        (row,) = done_again()
        assert (row.status, row.outcome["count"]) == ("done", 2)
        assert raw_client().exists(key_of_site("server"))

    def test_one_that_an_operator_changes_is_left(self, meanwhile: Callable[..., None]) -> None:
        self.lose()
        meanwhile(lambda: hold("catalog", to="disabled"))
        reconcile()
        assert (states()["catalog"], states()["payments"]) == ("disabled", "forced_open")

    def test_a_row_that_has_failed_has_done_nothing(self, meanwhile: Callable[..., None]) -> None:
        self.lose()
        meanwhile(lambda: hold("catalog", "payments", to="disabled"))
        reconcile()
        (row,) = done_again()
        assert (row.status, row.reached_names) == ("failed", [])
        assert {state for name, state in states().items() if name != "search"} == {"disabled"}


def test_a_forgotten_breaker_stays_forgotten() -> None:
    hold("catalog")
    hold("catalog", to="automatic")
    services.forget_breaker(name="catalog", actor=OPERATOR)
    reconcile()
    assert "catalog" not in states()


def test_what_has_changed_since_is_left_as_it_is() -> None:
    losing(lambda: hold("catalog"))
    open_("catalog")
    reconcile()
    assert states()["catalog"] == "open"


@pytest.mark.parametrize("status", ["started", "unknown"])
def test_where_the_last_act_is_not_known_nothing_is_done(status: str) -> None:
    hold("catalog", to="disabled")
    losing(lambda: hold("catalog"))
    last = Operation.objects.latest("started_at")
    Operation.objects.filter(pk=last.pk).update(status=status)
    reconcile()
    assert states()["catalog"] == "disabled"
    assert not done_again()


def test_of_a_failed_act_what_it_reached_is_done_again() -> None:
    losing(lambda: hold("catalog", "payments"))
    Operation.objects.update(status="failed", outcome={"count": 1, "names": ["payments"]})
    reconcile()
    assert states() == {"catalog": "closed", "payments": "forced_open", "search": "closed"}


def test_a_denied_act_counts_as_none() -> None:
    losing(lambda: hold("catalog"))
    Operation.objects.update(status="denied")
    reconcile()
    assert not done_again()


def test_a_read_only_site_tries_again_later(settings: Any, caplog: Any) -> None:
    losing(lambda: hold("catalog"))
    settings.ANALYTICS_ADMIN = {"READ_ONLY": True}
    reconcile()
    assert states()["catalog"] == "closed"
    assert "whether it has lost an operation is not known yet" in caplog.text
    assert not raw_client().exists(key_of_site("server"))


class TestWhoCompares:
    PROCESS = Process(process_id="a", host="h", pid=1, release="1", policies="")

    def is_asked(self, *, swept_ago: float = 6.0) -> bool:
        """Tell that the process is there, when the list was last swept so many seconds ago."""
        swept_at = time.time() - swept_ago
        raw_client().hset(key_of_site("processes"), "swept", f"{swept_at:.6f} 0")
        return runtime.operator_store().present(self.PROCESS).is_new_server

    def test_one_process_is_asked_until_the_store_is_compared(self) -> None:
        assert [self.is_asked() for _ in range(3)] == [True, False, False]
        reconcile()
        assert not self.is_asked()

    def note(self, text: str) -> None:
        """Have the store have been compared, or a process asked to, as this says."""
        raw_client().set(key_of_site("server"), text)

    def test_another_is_asked_later_if_none_has_compared(self) -> None:
        assert self.is_asked()
        asked = raw_client().get(key_of_site("server")).split()[2].decode()
        self.note(f"- 0 {asked} 17")
        assert self.is_asked()

    def test_a_store_that_comes_back_as_another_server_is_compared_at_once(self) -> None:
        reconcile()
        self.note(f"another 0 another {int(time.time())}")
        assert self.is_asked()

    def test_a_new_server_is_compared_again_for_a_while(self) -> None:
        reconcile()
        key, now = key_of_site("server"), int(raw_client().time()[0])
        name, since, *_asked = raw_client().get(key).split()
        assert now - int(since) < 10
        raw_client().set(key, b"%s %s %s %d" % (name, since, name, now - 31))
        assert self.is_asked()
        raw_client().set(key, b"%s %d %s %d" % (name, now - 91, name, now - 31))
        assert not self.is_asked()

    def test_a_server_that_nobody_has_used_for_a_while_is_compared_again(self) -> None:
        """An old primary that was never told so may be named again."""
        reconcile()
        key, now = key_of_site("server"), int(raw_client().time()[0])
        name, *_times = raw_client().get(key).split()
        raw_client().set(key, b"%s %d %s %d" % (name, now - 91, name, now - 91))
        assert not self.is_asked()
        assert self.is_asked(swept_ago=11)
        assert not self.is_asked()
        reconcile()
        assert not self.is_asked()
        raw_client().unlink(key_of_site("processes"))
        assert runtime.operator_store().present(self.PROCESS).is_new_server

    def test_a_user_who_may_not_ask_is_told_nothing(self) -> None:
        raw_client().execute_command("ACL", "SETUSER", "default", "-info")
        try:
            assert not self.is_asked()
        finally:
            raw_client().execute_command("ACL", "SETUSER", "default", "+info")


@pytest.mark.present
def test_a_process_that_uses_breakers_compares_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    monkeypatch.setattr(runtime, "_reconcile", lambda: compared.append(True))
    runtime.circuit_breaker("compares").call(int)
    assert runtime.engine.report_all(10)
    runtime.engine.acknowledge()
    assert compared == [True]


def test_control_of_a_breaker_is_what_its_row_says() -> None:
    hold("catalog")
    control.set_control(["catalog"], Control.AUTOMATIC, for_seconds=None, actor="", reason="")
    reconcile()
    assert states()["catalog"] == "half_open"  # later than the hold, though not on record
