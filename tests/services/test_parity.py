"""One act, three doors: the same state, the same words, the same row."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.forms.models import model_to_dict
from django.test import Client

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.tokens import issue_access_token
from tests.support.breakers import trip
from tests.support.servers import StoreServer, free_port

REASON = "the backend is healthy again"
OWN_TO_A_DOOR = {"channel", "actor", "user", "started_at", "finished_at", "duration_ms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    endpoint: str
    page: str
    command: str
    done: str
    failed: str


CLEAR = Act(
    endpoint="/api/v1/analytics/cache/clear",
    page="/admin/analytics_admin/searchcache/clear/",
    command="clear_search_cache",
    done="Search cache cleared",
    failed="Failed to clear cache: the store cannot be reached",
)
RESET = Act(
    endpoint="/api/v1/analytics/circuit-breakers/reset",
    page="/admin/analytics_admin/circuitbreaker/reset/",
    command="reset_circuit_breakers",
    done="All circuit breakers reset successfully",
    failed="Failed to reset circuit breakers: the store cannot be reached",
)


def by_api(act: Act, user: Any) -> str:
    bearer = {"Authorization": f"Bearer {issue_access_token(user)}"}
    answer = Client().post(
        act.endpoint, {"reason": REASON}, content_type="application/json", headers=bearer
    )
    body: dict[str, str] = json.loads(answer.content)
    return body["message"] if answer.status_code == 200 else body["detail"]


def by_console(act: Act, user: Any) -> str:
    """Press the button, fill in the confirm page as it came, and read the message after it."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    page = client.get(act.page.rsplit("/", 2)[0] + "/").text
    asked = client.post(act.page, hidden_fields(page)).text
    answer = client.post(act.page, {**hidden_fields(asked), "reason": REASON}, follow=True)
    (message,) = answer.context["messages"]
    return str(message)


def hidden_fields(page: str) -> dict[str, str]:
    tags = re.findall(r'<input type="hidden"[^>]*>', page)
    fields = [dict(re.findall(r'(name|value)="([^"]*)"', tag)) for tag in tags]
    return {
        field["name"]: field.get("value", "") for field in fields if field["name"] != "only_open"
    }


def by_command(act: Act, user: Any) -> str:
    out = StringIO()
    try:
        call_command(act.command, "--no-input", "--reason", REASON, stdout=out)
    except CommandError as error:
        return str(error)
    return out.getvalue().strip()


DOORS: list[Callable[[Act, Any], str]] = [by_api, by_console, by_command]


def stage() -> None:
    """Bring the store to the same state for each door."""
    caches["default"].client.get_client(write=True).flushall()
    for alias in caches:
        caches[alias].set_many({"one": 1, "two": 2})
    for name in ("parity.one", "parity.two"):
        trip(name)


def state() -> dict[str, Any]:
    return {
        "values": {alias: caches[alias].get_many(["one", "two"]) for alias in caches},
        "breakers": {status.name: status.state for status in services.list_breakers()},
    }


def row() -> dict[str, Any]:
    """Return the only row without what belongs to the door, and take it away."""
    operation = Operation.objects.get()
    assert operation.finished_at is not None
    Operation.objects.all().delete()
    return model_to_dict(operation, exclude=OWN_TO_A_DOOR)


@pytest.mark.parametrize("act", [CLEAR, RESET], ids=["clear", "reset"])
def test_an_act_is_the_same_through_every_door(act: Act, superuser: Any) -> None:
    seen = []
    for door in DOORS:
        stage()
        before = state()
        message = door(act, superuser)
        after = state()
        assert after != before
        seen.append((message, after, row()))
    by_api_, by_console_, by_command_ = seen
    assert by_api_ == by_console_ == by_command_
    message, _, record = by_api_
    assert message == act.done
    assert (record["status"], record["reason"], record["error"]) == ("done", REASON, "")


def test_each_act_touches_its_own_domain_alone(superuser: Any) -> None:
    stage()
    before = state()
    by_api(CLEAR, superuser)
    cleared = state()
    assert cleared == {**before, "values": {**before["values"], "search": {}}}
    by_api(RESET, superuser)
    assert state()["values"] == cleared["values"]
    assert set(state()["breakers"].values()) == {"closed"}


@pytest.mark.parametrize("act", [CLEAR, RESET], ids=["clear", "reset"])
def test_a_failure_is_the_same_through_every_door(act: Act, superuser: Any, settings: Any) -> None:
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        seen = [(door(act, superuser), row()) for door in DOORS]
    by_api_, by_console_, by_command_ = seen
    assert by_api_ == by_console_ == by_command_
    message, record = by_api_
    assert message == act.failed
    assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")


@pytest.mark.parametrize("act", [CLEAR, RESET], ids=["clear", "reset"])
def test_each_door_signs_its_rows(act: Act, superuser: Any) -> None:
    signed = []
    for door in DOORS:
        stage()
        door(act, superuser)
        operation = Operation.objects.get()
        signed.append((operation.channel, operation.user))
        operation.delete()
    assert signed == [("api", superuser), ("admin", superuser), ("command", None)]
