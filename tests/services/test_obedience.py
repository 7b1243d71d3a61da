"""Operations say how many processes obey: as they say so themselves, and through every door."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker, runtime
from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move, StoreUnavailable
from analytics_admin.models import Operation
from analytics_admin.services import Actor, obedience
from analytics_admin.services.obedience import MissingProcess, Obedience
from analytics_admin.tokens import issue_access_token
from tests.support.audit import page_of
from tests.support.doors import API, run
from tests.support.sites import eventually
from tests.support.stored_breakers import key_of_site, raw_client

pytestmark = pytest.mark.django_db(transaction=True)
SHELL = Actor.system("root")
NAME = "obeyed"
NEVER, AT_ONCE = 0, 10**17
"""Numbers of changes: one that is before every change, and one that is after them."""


def process(number: int, acknowledged: int) -> Process:
    return Process(
        process_id=f"p{number}",
        host=f"web-{number}",
        pid=4710 + number,
        release="1",
        policies="",
        acknowledged=acknowledged,
    )


def fall_silent(number: int, seconds: float) -> None:
    """Have the process be heard of so many seconds ago."""
    key, field = key_of_site("processes"), f"p{number}"
    at, _, rest = raw_client().hget(key, field).decode().partition(" ")
    raw_client().hset(key, field, f"{float(at) - seconds:.6f} {rest}")


@pytest.fixture
def fleet() -> None:
    """Six processes that obey at once, one that does so late, one that is silent."""
    store = operator_store()
    for number in range(6):
        store.present(process(number, AT_ONCE))
    for number in (6, 7):
        store.present(process(number, NEVER))
    fall_silent(7, 12.0)


@pytest.fixture(autouse=True)
def breaker() -> None:
    """The breaker is open; no process uses it."""
    opened = replace(new_record(), state=State.OPEN, wait=60.0)
    operator_store().compare_and_set([Move(name=NAME, expected=None, new=opened)])


def reset() -> Any:
    return services.reset_circuit_breakers(actor=SHELL, names=[NAME])


ACTS: dict[str, Callable[[], Any]] = {
    "reset all": lambda: services.reset_circuit_breakers(actor=SHELL),
    "reset": reset,
    "hold": lambda: services.set_breaker_control(actor=SHELL, name=NAME, control="disabled"),
    "hold forced_open": lambda: services.set_breaker_controls(
        actor=SHELL, names=[NAME], control="forced_open"
    ),
    "probe": lambda: services.allow_probe(actor=SHELL, name=NAME),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_act_waits_until_the_last_one_obeys(act: Callable[[], Any], fleet: None) -> None:
    store = operator_store()
    before = store.processes()[1]

    def obey() -> None:
        ends_at = monotonic() + 10
        while store.processes()[1] == before and monotonic() < ends_at:
            sleep(0.001)
        store.present(process(6, AT_ONCE))

    late = Thread(target=obey)
    late.start()
    began = monotonic()
    result = act()
    assert monotonic() - began < obedience.MAX_WAIT_SECONDS
    late.join()
    (missing,) = result.acknowledged.missing
    assert (result.acknowledged.processes, result.acknowledged.obeyed) == (8, 7)
    assert (missing.host, missing.pid, round(missing.last_heard)) == ("web-7", 4717, 12)
    record = Operation.objects.get(pk=result.operation_id).outcome["acknowledged"]
    assert record == {
        "processes": 8,
        "obeyed": 7,
        "missing": [{"host": "web-7", "pid": 4717, "last_heard": round(missing.last_heard, 1)}],
    }


def test_an_act_waits_a_second_at_most(fleet: None) -> None:
    began = monotonic()
    result = reset()
    assert 0.8 < monotonic() - began < 1.5
    assert [missing.host for missing in result.acknowledged.missing] == ["web-7", "web-6"]


def test_a_silent_process_is_named_and_not_waited_for(fleet: None) -> None:
    operator_store().present(process(6, AT_ONCE))
    began = monotonic()
    assert str(reset().acknowledged.message) == (
        "obeyed by 7 of 8 processes; web-7/4717 last heard 12 s ago"
    )
    assert monotonic() - began < 0.8


def test_a_forget_waits_for_nobody(fleet: None) -> None:
    result = services.forget_breaker(actor=SHELL, name=NAME)
    assert result.acknowledged is None
    assert "acknowledged" not in Operation.objects.get().outcome


def test_without_a_process_an_act_says_so() -> None:
    result = reset()
    assert (result.acknowledged.figures, result.acknowledged.is_complete) == ("0/0", True)
    assert str(result.acknowledged.message) == "no process uses circuit breakers"


def test_a_dry_run_waits_for_nobody(fleet: None) -> None:
    result = services.reset_circuit_breakers(actor=SHELL, names=[NAME], dry_run=True)
    assert result.acknowledged is None


def test_many_missing_processes_are_counted_and_the_first_named() -> None:
    for number in range(25):
        operator_store().present(process(number, NEVER))
        fall_silent(number, 7.0)
    obedience = reset().acknowledged
    assert len(obedience.missing) == 20
    assert str(obedience.message).startswith("obeyed by 0 of 25 processes; web-")
    assert str(obedience.message).endswith(" last heard 7 s ago; 22 more")


class Lost:
    """The store, which nobody can ask who is there."""

    def __init__(self, error: Exception) -> None:
        self._store, self._error = operator_store(), error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def processes(self) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("the store cannot be reached"), "the store cannot be reached"),
        (ZeroDivisionError("secret"), "unexpected error (ZeroDivisionError)"),
    ],
)
def test_what_breaks_after_the_change_leaves_it_done(
    error: Exception, reason: str, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Lost(error)
    monkeypatch.setattr(runtime, "operator_store", lambda: lost)
    result = reset()
    monkeypatch.undo()
    assert services.describe_breaker(NAME).status.state == "closed"
    assert (result.acknowledged.figures, result.acknowledged.is_complete) == ("unknown", False)
    assert str(result.acknowledged.message) == f"whether processes obey is unknown: {reason}"
    row = Operation.objects.get()
    assert row.status == "done"
    assert row.outcome["acknowledged"] == {
        "processes": None,
        "obeyed": None,
        "missing": [],
        "error": reason,
    }


def test_the_row_is_done_before_anybody_is_waited_for(
    fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """What ends the process."""

    def die(_: float) -> None:
        raise Killed

    monkeypatch.setattr(obedience.time, "sleep", die)
    with pytest.raises(Killed):
        reset()
    row = Operation.objects.get()
    assert (row.status, row.outcome["count"]) == ("done", 1)


RECORDS: dict[str, tuple[Any, Obedience | None]] = {
    "nothing": (None, None),
    "no mapping": ([1], None),
    "empty": ({}, Obedience(processes=None, obeyed=None)),
    "negative": ({"processes": -1, "obeyed": 1}, Obedience(processes=None, obeyed=None)),
    "odd rows": (
        {
            "processes": 3,
            "obeyed": 1,
            "missing": [7, {"host": 1}, {"host": "a", "pid": 1, "last_heard": 2}],
        },
        Obedience(processes=3, obeyed=1, missing=[MissingProcess(host="a", pid=1, last_heard=2)]),
    ),
}


@pytest.mark.parametrize(("record", "obedience"), RECORDS.values(), ids=RECORDS)
def test_a_row_is_read_whatever_it_holds(record: Any, obedience: Obedience | None) -> None:
    assert Obedience.from_record(record) == obedience


def test_what_is_recorded_is_read_as_it_was() -> None:
    missing = [MissingProcess(host="web-1", pid=1, last_heard=6.5)]
    obedience = Obedience(processes=2, obeyed=1, missing=missing)
    assert Obedience.from_record(json.loads(json.dumps(obedience.to_record()))) == obedience


# The doors


@dataclass(frozen=True, slots=True)
class Told:
    """What a door answers of the fleet, if all but one obey and if all do."""

    figures: str
    sentence: str


@contextmanager
def all_obey() -> Iterator[None]:
    for number in (6, 7):
        operator_store().present(process(number, AT_ONCE))
    yield


SENTENCE = "obeyed by 7 of 8 processes; web-7/4717 last heard 12 s ago"
HOLD = ("set_circuit_breaker", NAME, "forced_open", "--no-input")


@pytest.fixture
def one_missing(fleet: None) -> None:
    operator_store().present(process(6, AT_ONCE))


def test_rest_says_it_in_a_header_and_leaves_the_body_alone(
    one_missing: None, client: Any, superuser: Any
) -> None:
    headers = {"Authorization": f"Bearer {issue_access_token(superuser)}"}
    answer = client.post(
        f"{API}circuit-breakers/reset", content_type="application/json", headers=headers
    )
    assert answer.json() == {"message": "All circuit breakers reset successfully"}
    assert answer.headers["X-Acknowledged"] == "7/8"
    dry = client.post(
        f"{API}circuit-breakers/reset",
        json.dumps({"dry_run": True}),
        content_type="application/json",
        headers=headers,
    )
    assert "X-Acknowledged" not in dry.headers


def test_a_command_says_it_in_a_line_below_the_message(one_missing: None) -> None:
    code, out, _ = run(*HOLD)
    assert (code, out.splitlines()[0]) == (0, f"Circuit breaker {NAME} set to forced_open")
    assert out.splitlines()[-1] == SENTENCE
    code, out, _ = run(*HOLD, "--json")
    acknowledged = json.loads(out)["acknowledged"]
    assert (code, acknowledged["processes"], acknowledged["obeyed"]) == (0, 8, 7)


@pytest.mark.parametrize(
    "command",
    [HOLD, ("reset_circuit_breakers", "--no-input"), ("allow_probe", NAME, "--no-input")],
)
def test_a_command_can_insist_on_all(command: tuple[str, ...], one_missing: None) -> None:
    code, out, err = run(*command, "--require-all", "--json")
    assert (code, json.loads(out)["acknowledged"]["obeyed"]) == (4, 7)
    assert err == f"Done, but not by all: {SENTENCE}"
    assert Operation.objects.get().status == "done"
    operator_store().present(process(7, AT_ONCE))
    assert run(*HOLD, "--require-all")[0] == 0


def test_the_console_says_it_beside_the_message_and_on_the_operations_page(
    one_missing: None, client: Any, superuser: Any
) -> None:
    client.force_login(superuser)
    url = "/admin/analytics_admin/circuitbreaker/reset/"
    answer = client.post(url, {"confirmed": "1", "reason": ""}, follow=True)
    assert [str(message) for message in answer.context["messages"]] == [
        "All circuit breakers reset successfully"
    ]
    assert "Obeyed by 7 of 8 processes." in answer.text
    assert "7 of 8 processes up to date, without web-7/4717" in answer.text
    page = client.get(page_of(Operation.objects.get())).text
    assert "Obeyed by 7 of 8 processes; web-7/4717 last heard 12 s ago." in page
    assert "Now: 7 of 8 processes up to date, without web-7/4717." in page
    with all_obey():
        page = client.get(page_of(Operation.objects.get())).text
    assert "Now: 8 processes, all up to date." in page


def test_the_list_and_an_operations_page_say_when_nobody_is_there(
    client: Any, superuser: Any
) -> None:
    client.force_login(superuser)
    operation = Operation.objects.get(pk=reset().operation_id)
    assert "No process uses circuit breakers." in client.get(page_of(operation)).text
    listed = client.get("/admin/analytics_admin/circuitbreaker/").text
    assert "No process uses circuit breakers" in listed


def test_processes_are_listed_alike_by_every_door(
    one_missing: None, client: Any, superuser: Any
) -> None:
    listed = services.list_processes()
    assert [process.host for process in listed] == [f"web-{number}" for number in range(8)]
    assert [process.is_current for process in listed] == [True] * 7 + [False]
    assert [process.is_silent for process in listed] == [False] * 7 + [True]
    code, out, _ = run("processes", "--json")
    said = json.loads(out)
    assert (code, said["count"], said["current"]) == (0, 8, 7)
    answer = client.get(
        f"{API}processes", headers={"Authorization": f"Bearer {issue_access_token(superuser)}"}
    ).json()
    assert (answer["count"], answer["current"]) == (8, 7)
    for rows in (said["processes"], answer["results"]):
        ages = [row.pop("silent_for") for row in rows]
        assert ages == [round(age, 3) for age in ages]
        assert ages == pytest.approx([0.0] * 7 + [12.0], abs=2)
    assert said["processes"] == answer["results"]
    assert answer["results"][7]["pid"] == 4717
    lines = run("processes")[1].splitlines()
    assert lines[0].split() == ["HOST", "PID", "RELEASE", "POLICIES", "SINCE", "HEARD", "STATE"]
    assert [line.split()[-1] for line in lines[1:]] == ["current"] * 7 + ["silent"]


def test_processes_are_for_those_who_may_see_the_console(client: Any, plain_user: Any) -> None:
    token = issue_access_token(plain_user)
    answer = client.get(f"{API}processes", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert client.get(f"{API}processes").status_code == 401


def test_no_processes_are_listed_in_words() -> None:
    assert run("processes") == (0, "No process uses circuit breakers\n", "")


# This process itself


def leave() -> None:
    """Begin as a process that nobody knows of, whatever tests before this one have used."""
    runtime.engine.reconnect()

    def nobody_is_there() -> bool:
        for process in runtime.operator_store().processes()[2]:
            runtime.operator_store().withdraw(process.process_id)
        return services.list_processes() == []

    assert eventually(nobody_is_there)


@pytest.mark.present
@pytest.mark.parametrize("uses", ["busy", "idle"])
def test_this_process_says_that_it_obeys_and_does(uses: str) -> None:
    leave()
    mine = circuit_breaker(f"obeyed.{uses}")
    assert mine.state == "closed"
    if uses == "idle":
        runtime.engine.schedule.followed.clear()
    began = monotonic()
    result = services.set_breaker_control(actor=SHELL, name=mine.name, control="disabled")
    assert (result.acknowledged.figures, monotonic() - began < 0.9) == ("1/1", True)
    assert mine.state == "disabled"
    (listed,) = services.list_processes()
    assert (listed.is_current, listed.is_silent, listed.gets_pushes) == (True, False, False)


@pytest.mark.present
def test_in_memory_the_only_process_obeys_at_once(settings: Any) -> None:
    settings.CACHES = {
        **settings.CACHES,
        "breakers": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    mine = circuit_breaker("obeyed.in.memory")
    assert mine.state == "closed"
    began = monotonic()
    result = services.set_breaker_control(actor=SHELL, name=mine.name, control="forced_open")
    assert (result.acknowledged.figures, monotonic() - began < 0.5) == ("1/1", True)
    assert mine.state == "forced_open"
    runtime.engine.flush()
    assert services.list_processes() == []


@pytest.mark.present
def test_a_process_that_ends_leaves() -> None:
    assert circuit_breaker(NAME).state == "open"
    assert [process.host for process in services.list_processes()] != []
    runtime.engine.flush()
    assert operator_store().processes()[2] == []
    runtime.engine.reconnect()
