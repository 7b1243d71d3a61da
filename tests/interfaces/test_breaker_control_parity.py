"""Setting a breaker's control over REST and from the shell: the same state, words and row."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.tokens import issue_access_token
from tests.interfaces.test_parity import row, stage
from tests.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

NAME = "parity.one"
REASON = "the backend is being moved"


def by_api(control, user, seconds):
    body = {"control": control, "reason": REASON, **({"for_seconds": seconds} if seconds else {})}
    answer = Client().put(
        f"/api/v1/analytics/circuit-breakers/{NAME}/control",
        json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {issue_access_token(user)}"},
    )
    said = answer.json()
    return said["message"] if answer.status_code == 200 else said["detail"]


def by_command(control, user, seconds):
    out = StringIO()
    length = ["--for", f"{seconds}s"] if seconds else []
    argv = ["set_circuit_breaker", NAME, control, "--no-input", "--json", "--reason", REASON]
    try:
        call_command(*argv, *length, stdout=out)
    except CommandError as error:
        return str(error)
    return json.loads(out.getvalue())["message"]


def states():
    """Return what each breaker is, without what differs from one hold to the next."""
    return [
        (status.name, status.state, status.control, status.hold_reason, bool(status.held_until))
        for status in services.list_breakers(search="parity.")
    ]


@pytest.mark.parametrize("seconds", [None, 900])
@pytest.mark.parametrize("control", ["forced_open", "disabled", "metrics_only"])
def test_a_hold_and_its_release_are_the_same_through_both_doors(superuser, control, seconds):
    seen = []
    for door in (by_api, by_command):
        stage()
        held = door(control, superuser, seconds), states(), row()
        released = door("automatic", superuser, None), states(), row()
        seen.append((*held, *released))
    by_api_, by_command_ = seen
    assert by_api_ == by_command_
    message, after, record, *_ = by_api_
    assert message == f"Circuit breaker {NAME} set to {control}"
    assert after[0] == (NAME, control, control, REASON, True)
    assert record["targets"]["for_seconds"] == (seconds or 3600)
    assert (record["status"], record["reason"]) == ("done", REASON)


def test_a_failure_is_the_same_through_both_doors(superuser, settings):
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        seen = [(door("disabled", superuser, 60), row()) for door in (by_api, by_command)]
    assert seen[0] == seen[1]
    message, record = seen[0]
    assert message == "Failed to control circuit breaker: the store cannot be reached"
    assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")
