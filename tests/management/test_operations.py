"""operations lists the audit trail on a terminal, as JSON and as CSV; who acts in a shell."""

import csv
import io
import json
import os
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from analytics_admin.models import Operation
from analytics_admin.services import Actor, clear_search_cache, reset_circuit_breakers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def staged() -> None:
    clear_search_cache(actor=Actor.system("ada"), reason="=1+1\x1b[31m")
    reset_circuit_breakers(actor=Actor.system("bob"))


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("operations", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def ids(*arguments: str) -> list[str]:
    return [row["actor"] for row in json.loads(run(*arguments, "--json"))["results"]]


def test_the_list_is_newest_first_and_hides_no_control_character():
    first, second, third = run().splitlines()
    assert first.split() == ["STARTED", "KIND", "STATUS", "CHANNEL", "ACTOR", "ID", "REASON"]
    assert second.split()[1:5] == ["reset_circuit_breakers", "done", "code", "bob"]
    assert third.split()[-1] == "=1+1\\x1b[31m"


def test_filters_select():
    assert ids() == ["bob", "ada"]
    assert ids("--actor", "ada") == ["ada"]
    assert ids("--kind", "reset_circuit_breakers") == ["bob"]
    assert ids("--search", "1+1") == ["ada"]
    assert ids("--since", "1h", "--limit", "1") == ["bob"]
    assert ids("--since", "2999-01-01T00:00:00Z") == []
    assert run("--since", "2999-01-01T00:00:00Z") == "No operations\n"


def test_json_has_the_fields_of_rest(client, superuser, mint):
    bearer = {"Authorization": f"Bearer {mint()}"}
    rest = client.get("/api/v1/analytics/operations", headers=bearer).json()
    assert json.loads(run("--json"))["results"] == rest["results"]
    newest = Operation.objects.first()
    assert json.loads(run(str(newest.pk), "--json")) == rest["results"][0]
    assert f"actor        {newest.actor}" in run(str(newest.pk))


def test_csv_has_no_formula():
    rows = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert [row["actor"] for row in rows] == ["bob", "ada"]
    assert rows[1]["reason"].startswith("'=1+1")
    assert json.loads(rows[1]["targets"])["mode"] == "hard"


@pytest.mark.parametrize(
    "arguments",
    [
        ["x"],
        ["--since", "yesterday"],
        ["--since", "2026-01-01"],
        ["--kind", "x"],
        ["--limit", "0"],
        ["--json", "--csv"],
        ["--search", "x" * 300],
        ["00000000-0000-4000-8000-000000000000", "--actor", "ada"],
    ],
)
def test_wrong_usage_is_said(arguments):
    with pytest.raises(CommandError):
        run(*arguments)


def test_an_unknown_operation_is_an_error_also_as_json():
    out = StringIO()
    with pytest.raises(CommandError, match="Unknown operation"):
        call_command("operations", "00000000-0000-4000-8000-000000000000", "--json", stdout=out)
    assert json.loads(out.getvalue())["code"] == "unknown_operation"


def test_the_shells_actor_is_the_systems_user_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody else")
    monkeypatch.setenv("SUDO_USER", "ada\n")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: SimpleNamespace(pw_name=f"user-{uid}"))
    call_command("clear_search_cache", "--no-input", stdout=StringIO())
    row = Operation.objects.first()
    assert (row.actor, row.client) == (f"user-{os.getuid()}", {"sudo_user": "ada\\n"})


def test_each_operation_that_ends_is_a_line_of_the_log(caplog, superuser):
    caplog.set_level("INFO", "analytics_admin.audit")
    result = clear_search_cache(actor=Actor.from_user(superuser), reason="a\nb")
    (line,) = [each.getMessage() for each in caplog.records if each.name == "analytics_admin.audit"]
    assert line == (
        'clear_search_cache done by "admin" over code: targets {"mode": "hard", "tags": []}, '
        f'reason "a\\nb", id {result.operation_id}'
    )


@pytest.mark.usefixtures("superuser")
def test_a_request_leaves_where_it_came_from(client, mint, settings):
    headers = {
        "Authorization": f"Bearer {mint()}",
        "User-Agent": "curl/8",
        "X-Request-ID": "r-1",
    }

    def clear():
        answer = client.generic("POST", "/api/v1/analytics/cache/clear", headers=headers)
        assert answer.status_code == 200
        return Operation.objects.first().client

    assert clear() == {"address": "127.0.0.1", "user_agent": "curl/8", "request_id": "r-1"}
    settings.ANALYTICS_ADMIN = {"AUDIT_CLIENT_ADDRESS": False, "AUDIT_USER_AGENT": False}
    assert clear() == {"request_id": "r-1"}
    del headers["X-Request-ID"]
    assert clear() is None
