"""Forgetting a breaker through each door and the service: the same words, names, state and row."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, BreakerChanged, BreakerInUse, OperationFailed
from analytics_admin.tokens import issue_access_token
from tests.services.test_parity import hidden_fields, row, stage
from tests.support.api import contents
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

NAME = "parity.one"
REASON = "the backend is gone for good"
ENDPOINT = f"/api/v1/analytics/circuit-breakers/{NAME}"
PAGE = f"/admin/analytics_admin/circuitbreaker/{NAME}/"


def by_service(user: Any, generation: str | None = None) -> str:
    actor = Actor.from_user(user)
    try:
        return services.forget_breaker(
            name=NAME, actor=actor, reason=REASON, expected_generation=generation
        ).message
    except (OperationFailed, BreakerInUse, BreakerChanged) as error:
        return str(error)


def by_api(user: Any, generation: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {issue_access_token(user)}"}
    if generation:
        headers["If-Match"] = f'"{generation}"'
    answer = Client().delete(
        ENDPOINT, json.dumps({"reason": REASON}), content_type="application/json", headers=headers
    )
    said: dict[str, str] = answer.json()
    return said["message"] if answer.status_code == 200 else said["detail"]


def by_command(user: Any, generation: str | None = None) -> str:
    out = StringIO()
    seen = ["--if-generation", generation] if generation else []
    argv = ["forget_circuit_breaker", NAME, "--no-input", "--json", "--reason", REASON, *seen]
    try:
        call_command(*argv, stdout=out)
    except CommandError as error:
        return str(error)
    message: str = json.loads(out.getvalue())["message"]
    return message


def by_console(user: Any, generation: str | None = None) -> str:
    """Press the button, fill in the confirm page as it came, and read the message after it."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    fields = hidden_fields(client.get(PAGE).text)
    if generation:
        fields["expected_generation"] = generation
    asked = client.post(f"{PAGE}forget/", {**fields, "reason": REASON}, follow=True)
    if not asked.redirect_chain and not asked.context.get("messages"):
        confirmed = {**hidden_fields(asked.text), "reason": REASON}
        asked = client.post(f"{PAGE}forget/", confirmed, follow=True)
    (message,) = asked.context["messages"]
    return str(message)


DOORS: list[Callable[..., str]] = [by_service, by_api, by_command, by_console]


def site() -> tuple[Any, ...]:
    """Return what there is to see of the breakers, and whether the store knows of this one."""
    listed = [(status.name, status.state) for status in services.list_breakers(search="parity.")]
    return listed, sorted(key for key in contents("breakers") if NAME.encode() in key)


def test_a_name_is_forgotten_alike_through_every_door(superuser: Any) -> None:
    seen = []
    for door in DOORS:
        stage()
        assert len(site()[0]) == 2
        seen.append((door(superuser), site(), row()))
    assert seen == [seen[0]] * len(DOORS)
    message, left, record = seen[0]
    assert message == f"Circuit breaker {NAME} forgotten"
    assert left == ([("parity.two", "open")], [])
    moved = {"name": NAME, "from": "open", "to": "forgotten"}
    assert record["outcome"] == {"count": 1, "moved": 1, "results": [moved]}
    assert record["targets"] == {"names": [NAME]}
    assert (record["kind"], record["status"]) == ("forget_circuit_breaker", "done")
    assert (record["reason"], record["error"]) == (REASON, "")


def test_a_held_one_is_kept_alike_through_every_door_and_leaves_no_row(superuser: Any) -> None:
    seen = []
    for door in DOORS:
        stage()
        services.set_breaker_control(name=NAME, control="disabled", actor=Actor.system("root"))
        Operation.objects.all().delete()
        seen.append((door(superuser), site()[0], Operation.objects.count()))
    assert seen == [seen[0]] * len(DOORS)
    message, left, rows = seen[0]
    assert message.endswith("it is held disabled; release it first")
    assert (left, rows) == ([(NAME, "disabled"), ("parity.two", "open")], 0)


def test_a_stale_view_is_refused_alike_through_every_door_with_a_row(superuser: Any) -> None:
    """The console finds it out one step sooner, in the preview, which leaves none."""
    seen = []
    for door in (by_service, by_api, by_command):
        stage()
        seen.append((door(superuser, "stale"), site()[0], row()))
    assert seen == [seen[0]] * 3
    message, left, record = seen[0]
    assert message == f"Circuit breaker {NAME} has changed meanwhile"
    assert left == [(NAME, "open"), ("parity.two", "open")]
    assert (record["status"], record["error"]) == ("failed", "the breaker has changed meanwhile")
    stage()
    assert "has changed meanwhile" in by_console(superuser, "stale")
    assert (site()[0], Operation.objects.count()) == (left, 0)


def test_a_failure_is_the_same_through_every_door(superuser: Any, settings: Any) -> None:
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        seen = [(door(superuser), row()) for door in (by_service, by_api, by_command)]
    assert seen == [seen[0]] * 3
    message, record = seen[0]
    assert message == "Failed to forget circuit breaker: the store cannot be reached"
    assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")


def test_each_door_signs_its_row(superuser: Any) -> None:
    signed = []
    for door in DOORS:
        stage()
        door(superuser)
        operation = Operation.objects.get()
        signed.append((operation.channel, operation.user))
        operation.delete()
    assert signed == [
        ("code", superuser),
        ("api", superuser),
        ("command", None),
        ("admin", superuser),
    ]
