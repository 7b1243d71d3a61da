"""A probe let through: its transition, and what the endpoint and the command answer."""

import json
from typing import Any

import pytest

from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    describe_breaker,
    reset_circuit_breakers,
    set_breaker_control,
)
from tests.support.api import assert_error, nothing_changes
from tests.support.breakers import another, state_now, trip
from tests.support.doors import RestDoor, allow_probe, every_door, run

pytestmark = pytest.mark.django_db

NAME = "parity.one"
SHELL = Actor.system("root", channel="command")
PATH = f"circuit-breakers/{NAME}/probe"
MESSAGE = f"Circuit breaker {NAME} allows a probe"
MOVED = {"name": NAME, "from": "open", "to": "half_open"}


@pytest.fixture(autouse=True)
def staged() -> None:
    trip(NAME)


@pytest.fixture
def rest(superuser: Any) -> RestDoor:
    return RestDoor(superuser)


def test_the_transition_names_who_let_the_probe_through(superuser: Any) -> None:
    for door in every_door(superuser).values():
        assert door.perform(allow_probe(NAME)).done
        last = describe_breaker(NAME).transitions[0]
        operation = Operation.objects.latest("started_at")
        assert (last.cause, last.actor) == ("probe_allowed", operation.actor)
        reset_circuit_breakers(actor=SHELL)
        trip(NAME)


def test_the_endpoint_answers_what_was_done_and_under_which_id(rest: RestDoor) -> None:
    seen = describe_breaker(NAME).status.generation
    answer = rest.send("POST", PATH, {}, seen)
    assert (answer.status_code, answer.json()) == (200, {"message": MESSAGE, "results": [MOVED]})
    assert answer.headers["X-Operation-Id"] == str(Operation.objects.get().pk)
    with nothing_changes(rows=1):
        again, stale = rest.send("POST", PATH, {}), rest.send("POST", PATH, {}, seen)
    assert_error(again, 409, "breaker_not_open", "it is half_open, not open")
    assert "X-Operation-Id" not in again.headers
    assert_error(stale, 412, "breaker_moved")


def test_a_dry_run_says_what_would_happen_and_changes_nothing(rest: RestDoor) -> None:
    with nothing_changes():
        answer = rest.send("POST", PATH, {"dry_run": True})
        code, out, err = run("allow_probe", NAME, "--dry-run")
    preview = {"count": 1, "breakers": [MOVED]}
    message = f"Dry run: circuit breaker {NAME} would allow a probe"
    assert answer.json() == {"message": message, "preview": preview}
    assert (code, out, err) == (0, f"{message}\n  {NAME}: open -> half_open\n", "")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["parity.nope"], 2, "parity.nope"),
        (["parity.calm"], 1, "cannot allow a probe: it is closed, not open"),
        ([NAME, "--if-generation", "stale"], 1, "has changed meanwhile"),
    ],
)
def test_the_command_says_by_its_exit_code_why_not(argv: list[str], code: int, words: str) -> None:
    another("parity.calm").acquire().succeed()
    ended, out, err = run("allow_probe", *argv, "--no-input")
    assert (ended, out) == (code, "")
    assert words in err


def test_the_commands_error_is_told_in_json_with_its_code() -> None:
    set_breaker_control(name=NAME, control="disabled", actor=SHELL)
    code, out, _ = run("allow_probe", NAME, "--no-input", "--json")
    assert (code, json.loads(out)["code"]) == (1, "breaker_not_open")


def test_without_a_terminal_the_command_wants_to_be_sure() -> None:
    with nothing_changes():
        assert run("allow_probe", NAME)[0] == 2


def test_the_next_call_probes_and_its_success_closes_the_breaker(rest: RestDoor) -> None:
    breaker = another(NAME)
    assert breaker.state == "open"
    assert rest.perform(allow_probe(NAME)).message == MESSAGE
    breaker.engine.expire(NAME)
    breaker.acquire().succeed()
    assert state_now(breaker) == "closed"
