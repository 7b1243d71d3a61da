"""A probe let through by each door and by the service: the same words, breaker and row."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    BreakerChanged,
    BreakerNotOpen,
    OperationFailed,
    describe_breaker,
    set_breaker_control,
)
from analytics_admin.tokens import issue_access_token
from tests.management.test_breakers import run
from tests.services.test_parity import row, stage
from tests.support.api import assert_error, nothing_changes
from tests.support.breakers import another, state_now
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

NAME = "parity.one"
REASON = "the backend is back"
SHELL = Actor.system("root", channel="command")
PROBE = f"/api/v1/analytics/circuit-breakers/{NAME}/probe"
MESSAGE = f"Circuit breaker {NAME} lets a probe through"
MOVED = {"name": NAME, "from": "open", "to": "half_open"}


def by_service(user: Any, generation: str | None = None) -> str:
    actor = Actor.from_user(user)
    try:
        return services.allow_probe(
            name=NAME, actor=actor, reason=REASON, expected_generation=generation
        ).message
    except (OperationFailed, BreakerNotOpen, BreakerChanged) as error:
        return str(error)


def by_api(user: Any, generation: str | None = None) -> str:
    answer = post(user, {"reason": REASON}, generation)
    said: dict[str, str] = answer.json()
    return said["message"] if answer.status_code == 200 else said["detail"]


def by_command(user: Any, generation: str | None = None) -> str:
    out = StringIO()
    seen = ["--if-generation", generation] if generation else []
    argv = ["allow_probe", NAME, "--no-input", "--json", "--reason", REASON, *seen]
    try:
        call_command(*argv, stdout=out)
    except CommandError as error:
        return str(error)
    message: str = json.loads(out.getvalue())["message"]
    return message


DOORS: list[Callable[..., str]] = [by_service, by_api, by_command]


def post(user: Any, body: Any, generation: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {issue_access_token(user)}"}
    if generation:
        headers["If-Match"] = f'"{generation}"'
    return Client().post(PROBE, body, content_type="application/json", headers=headers)


def states() -> list[tuple[str, str]]:
    return [(status.name, status.state) for status in services.list_breakers(search="parity.")]


def test_a_probe_is_let_through_alike_by_every_door(superuser: Any) -> None:
    seen = []
    for door in DOORS:
        stage()
        seen.append((door(superuser), states(), row()))
    assert seen == [seen[0]] * len(DOORS)
    message, left, record = seen[0]
    assert (message, left) == (MESSAGE, [(NAME, "half_open"), ("parity.two", "open")])
    assert record["outcome"] == {"count": 1, "moved": 1, "results": [MOVED]}
    assert (record["targets"], record["message"]) == ({"names": [NAME]}, MESSAGE)
    assert (record["kind"], record["status"]) == ("allow_probe", "done")
    assert (record["reason"], record["error"]) == (REASON, "")


def test_one_that_is_not_open_is_refused_alike_and_leaves_no_row(superuser: Any) -> None:
    for control in ("forced_open", "disabled", "metrics_only"):
        seen = []
        for door in DOORS:
            stage()
            set_breaker_control(name=NAME, control=control, actor=SHELL)
            Operation.objects.all().delete()
            seen.append((door(superuser), states()[0], Operation.objects.count()))
        words = f"Circuit breaker {NAME} can let no probe through: it is {control}, not open"
        assert seen == [(words, (NAME, control), 0)] * len(DOORS)


def test_a_stale_view_is_refused_alike_with_a_row(superuser: Any) -> None:
    seen = []
    for door in DOORS:
        stage()
        seen.append((door(superuser, "stale"), states()[0], row()))
    assert seen == [seen[0]] * len(DOORS)
    message, left, record = seen[0]
    assert (message, left) == (f"Circuit breaker {NAME} has changed meanwhile", (NAME, "open"))
    assert (record["status"], record["error"]) == ("failed", "the breaker has changed meanwhile")


def test_a_failure_is_the_same_through_every_door(superuser: Any, settings: Any) -> None:
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        seen = [(door(superuser), row()) for door in DOORS]
    assert seen == [seen[0]] * len(DOORS)
    message, record = seen[0]
    assert message == "Failed to let a probe through: the store cannot be reached"
    assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")


def test_each_door_signs_its_row_and_the_transition(superuser: Any) -> None:
    signed = []
    for door in DOORS:
        stage()
        door(superuser)
        operation = Operation.objects.get()
        last = describe_breaker(NAME).transitions[0]
        assert (last.cause, last.actor) == ("probe_allowed", operation.actor)
        signed.append((operation.channel, operation.user))
        operation.delete()
    assert signed == [("code", superuser), ("api", superuser), ("command", None)]


def test_the_endpoint_answers_what_was_done_and_under_which_id(superuser: Any) -> None:
    stage()
    seen = describe_breaker(NAME).status.generation
    answer = post(superuser, {}, seen)
    assert (answer.status_code, answer.json()) == (200, {"message": MESSAGE, "results": [MOVED]})
    assert answer.headers["X-Operation-Id"] == str(Operation.objects.get().pk)
    with nothing_changes(rows=1):
        again, stale = post(superuser, {}), post(superuser, {}, seen)
    assert_error(again, 409, "breaker_not_open", "it is half_open, not open")
    assert "X-Operation-Id" not in again.headers
    assert_error(stale, 412, "breaker_moved")


def test_a_dry_run_says_what_would_happen_and_changes_nothing(superuser: Any) -> None:
    stage()
    with nothing_changes():
        answer = post(superuser, {"dry_run": True})
        code, out, err = run("allow_probe", NAME, "--dry-run")
    preview = {"count": 1, "breakers": [MOVED]}
    message = f"Dry run: circuit breaker {NAME} would let a probe through"
    assert answer.json() == {"message": message, "preview": preview}
    assert (code, out, err) == (0, f"{message}\n  {NAME}: open -> half_open\n", "")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["parity.nope"], 2, "parity.nope"),
        (["parity.calm"], 1, "can let no probe through: it is closed, not open"),
        ([NAME, "--if-generation", "stale"], 1, "has changed meanwhile"),
    ],
)
def test_the_command_says_by_its_exit_code_why_not(argv: list[str], code: int, words: str) -> None:
    stage()
    another("parity.calm").acquire().succeed()
    ended, out, err = run("allow_probe", *argv, "--no-input")
    assert (ended, out) == (code, "")
    assert words in err


def test_the_commands_error_is_told_in_json_with_its_code() -> None:
    stage()
    set_breaker_control(name=NAME, control="disabled", actor=SHELL)
    code, out, _ = run("allow_probe", NAME, "--no-input", "--json")
    assert (code, json.loads(out)["code"]) == (1, "breaker_not_open")


def test_without_a_terminal_the_command_wants_to_be_sure() -> None:
    stage()
    with nothing_changes():
        assert run("allow_probe", NAME)[0] == 2


def test_the_next_call_probes_and_its_success_closes_the_breaker(superuser: Any) -> None:
    stage()
    breaker = another(NAME)
    assert breaker.state == "open"
    assert by_api(superuser) == MESSAGE
    breaker.fleet.expire(NAME)
    breaker.acquire().succeed()
    assert state_now(breaker) == "closed"
