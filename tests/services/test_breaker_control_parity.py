"""Acts on one breaker over REST, in the admin and from the shell: the same state, words and row."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.tokens import issue_access_token
from tests.services.test_parity import row, stage
from tests.support.console_pages import asked, told
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

NAME = "parity.one"
REASON = "the backend is being moved"


def call(user, method, path, body):
    answer = Client().generic(
        method,
        f"/api/v1/analytics/circuit-breakers/{NAME}/{path}",
        json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {issue_access_token(user)}"},
    )
    said = answer.json()
    return said["message"] if answer.status_code == 200 else said["detail"]


def control_by_api(user, control, seconds):
    length = {"for_seconds": seconds} if seconds else {}
    return call(user, "PUT", "control", {"control": control, "reason": REASON, **length})


def reset_by_api(user):
    return call(user, "POST", "reset", {"reason": REASON})


def press(user, act, **chosen):
    """Fill in the form on the breaker's page, then the confirm page as it comes."""
    client = Client()
    client.force_login(user)
    page = f"/admin/analytics_admin/circuitbreaker/{NAME}/"
    url = f"{page}{act}/"
    confirm = client.post(url, {**asked(client.get(page), url), **chosen})
    answer = client.post(url, {**asked(confirm, url), "reason": REASON}, follow=True)
    ((_, words),) = told(answer)
    return words


def control_by_console(user, control, seconds):
    return press(user, "control", control=control, for_seconds=str(seconds or 3600))


def reset_by_console(user):
    return press(user, "reset")


def run(*argv):
    out = StringIO()
    try:
        call_command(*argv, "--no-input", "--json", "--reason", REASON, stdout=out)
    except CommandError as error:
        return str(error)
    return json.loads(out.getvalue())["message"]


def control_by_command(user, control, seconds):
    length = ["--for", f"{seconds}s"] if seconds else []
    return run("set_circuit_breaker", NAME, control, *length)


def reset_by_command(user):
    return run("reset_circuit_breakers", NAME)


CONTROL_DOORS = [control_by_api, control_by_console, control_by_command]
RESET_DOORS = [reset_by_api, reset_by_console, reset_by_command]


def states():
    """Return what each breaker is, without what differs from one hold to the next."""
    return [
        (status.name, status.state, status.control, status.hold_reason, bool(status.held_until))
        for status in services.list_breakers(search="parity.")
    ]


@pytest.mark.parametrize("seconds", [None, 900])
@pytest.mark.parametrize("control", ["forced_open", "disabled", "metrics_only"])
def test_a_hold_and_its_release_are_the_same_through_every_door(superuser, control, seconds):
    seen = []
    for door in CONTROL_DOORS:
        stage()
        held = door(superuser, control, seconds), states(), row()
        released = door(superuser, "automatic", None), states(), row()
        seen.append((*held, *released))
    by_api, by_console, by_command = seen
    assert by_api == by_console == by_command
    message, after, record, freed, then, _ = by_api
    assert message == f"Circuit breaker {NAME} set to {control}"
    assert after[0] == (NAME, control, control, REASON, True)
    assert record["kind"] == "control_circuit_breakers"
    assert record["targets"]["for_seconds"] == (seconds or 3600)
    assert (record["status"], record["reason"]) == ("done", REASON)
    assert freed == f"Circuit breaker {NAME} set to automatic"
    assert then[0][2] == "automatic"


def test_a_reset_of_one_breaker_is_the_same_through_every_door(superuser):
    seen = []
    for door in RESET_DOORS:
        stage()
        seen.append((door(superuser), states(), row()))
    by_api, by_console, by_command = seen
    assert by_api == by_console == by_command
    message, after, record = by_api
    assert message == "1 circuit breakers reset successfully"
    assert [state for _, state, *_ in after] == ["closed", "open"]
    assert (record["kind"], record["targets"]["names"]) == ("reset_circuit_breakers", [NAME])
    assert (record["status"], record["reason"]) == ("done", REASON)


def test_a_failure_is_the_same_through_every_door(superuser, settings):
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        held = [(door(superuser, "disabled", 900), row()) for door in CONTROL_DOORS]
        reset = [(door(superuser), row()) for door in RESET_DOORS]
    for (message, record), act in [(held[0], "control"), (reset[0], "reset")]:
        noun = "breaker" if act == "control" else "breakers"
        assert message == f"Failed to {act} circuit {noun}: the store cannot be reached"
        assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")
    assert held[0] == held[1] == held[2]
    assert reset[0] == reset[1] == reset[2]
