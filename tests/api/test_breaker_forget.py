"""DELETE of one circuit breaker: what it forgets, what it rejects, what it records."""

import json

import pytest

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation
from analytics_admin.services import Actor, set_breaker_control
from tests.support.api import assert_error, contents, nothing_changes
from tests.support.breakers import another, trip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

LIST = "/api/v1/analytics/circuit-breakers"
ONE = f"{LIST}/slip.one"
SHELL = Actor.system("root", channel="command")


@pytest.fixture(autouse=True)
def breaker():
    return trip("slip.one")


@pytest.fixture
def delete(client, mint):
    def delete(path=ONE, body=b"", *, content_type="application/json", **headers):
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        headers["Authorization"] = f"Bearer {mint()}"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.generic("DELETE", path, content, content_type=content_type, headers=headers)

    return delete


def test_a_name_is_forgotten_with_all_that_is_known_of_it(client, mint, delete):
    answer = delete(body={"reason": "a slip of the pen"})
    moved = {"name": "slip.one", "from": "open", "to": "forgotten"}
    message = "Circuit breaker slip.one forgotten"
    assert (answer.status_code, answer.json()) == (200, {"message": message, "results": [moved]})
    assert answer.headers["Cache-Control"] == "no-store"
    row = Operation.objects.get()
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    assert (row.kind, row.status, row.channel) == ("forget_circuit_breaker", "done", "api")
    assert (row.actor, row.reason) == ("admin", "a slip of the pen")
    assert not [key for key in contents("breakers") if b"slip.one" in key]
    read = client.get(ONE, headers={"Authorization": f"Bearer {mint()}"})
    assert_error(read, 404, "unknown_breaker", "slip.one")
    assert_error(delete(), 404, "unknown_breaker", "slip.one")


@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded"])
def test_it_needs_no_body(delete, content_type):
    assert delete(content_type=content_type).status_code == 200


@pytest.mark.parametrize("body", [b"", b'{"dry_run": true}'])
def test_a_held_breaker_is_kept_without_a_row(delete, body):
    set_breaker_control(name="slip.one", control="forced_open", actor=SHELL)
    with nothing_changes():
        answer = delete(body=body)
    assert_error(answer, 409, "breaker_kept", "slip.one", "held forced_open; release it first")
    assert "X-Operation-Id" not in answer.headers
    set_breaker_control(name="slip.one", control="automatic", actor=SHELL)
    assert delete().status_code == 200


def test_one_that_the_settings_declare_is_kept(delete, settings):
    settings.ANALYTICS_ADMIN = {"BREAKERS": {"slip.one": {"failure_threshold": 2}}}
    with nothing_changes():
        assert_error(delete(), 409, "breaker_kept", "this site's code or settings declare it")


def test_one_that_code_declares_and_nobody_has_used_is_kept(delete):
    circuit_breaker("code.declared")
    with nothing_changes():
        assert_error(delete(f"{LIST}/code.declared"), 409, "breaker_kept")


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_stale_view_of_a_held_breaker_is_412_before_it_is_409(delete, dry_run):
    set_breaker_control(name="slip.one", control="disabled", actor=SHELL)
    with nothing_changes(rows=not dry_run):
        answer = delete(body={"dry_run": dry_run}, If_Match='"stale"')
    assert_error(answer, 412, "breaker_moved")


def test_a_process_that_still_uses_the_name_registers_it_again(delete):
    delete()
    another("slip.one").acquire().succeed()
    assert [status.state for status in services.list_breakers(search="slip.one")] == ["closed"]


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, "invalid_json", ""),
        (b"[]", 400, "invalid_json", ""),
        (b"\xff", 400, "invalid_json", ""),
        (b'{"dry_run": true, "dry_run": false}', 400, "invalid_json", ""),
        (b'{"dry_run": "true"}', 400, "invalid", "dry_run"),
        (b'{"dry_run": null}', 400, "invalid", "dry_run"),
        (b'{"dry_run": 1}', 400, "invalid", "dry_run"),
        (b'{"reason": 5}', 400, "invalid", "reason"),
        (b'{"reason": null}', 400, "invalid", "reason"),
        (b'{"reason": "\\u0000"}', 400, "invalid", "reason"),
        (json.dumps({"reason": "x" * 501}).encode(), 400, "invalid", "reason"),
        (b'{"names": ["slip.one"]}', 400, "invalid", "names"),
        (b'{"only_open": true}', 400, "invalid", "only_open"),
        (b'{"expected_generation": "x"}', 400, "invalid", "expected_generation"),
        (b'{"reason": "' + b"x" * 70_000 + b'"}', 413, "body_too_large", ""),
    ],
)
def test_a_body_that_is_not_right_is_refused_and_nothing_is_done(delete, body, status, code, words):
    with nothing_changes():
        assert_error(delete(body=body), status, code, words)


def test_a_body_that_cannot_be_seen_is_411_and_no_act(delete):
    with nothing_changes():
        answer = delete(body={"dry_run": True}, Transfer_Encoding="chunked")
    assert_error(answer, 411, "length_required")


def test_a_body_that_is_no_json_is_415(delete):
    with nothing_changes():
        answer = delete(body=b"dry_run=true", content_type="application/x-www-form-urlencoded")
    assert_error(answer, 415, "unsupported_media_type")


def test_a_site_that_asks_for_reasons_asks_here_too(delete, settings):
    settings.ANALYTICS_ADMIN = {"REQUIRE_REASON": True}
    with nothing_changes():
        assert_error(delete(), 400, "reason_required", "reason")
    assert delete(body={"reason": "gone"}).status_code == 200


@pytest.mark.parametrize("path", [f"{LIST}/reset", LIST, f"{ONE}/control", f"{ONE}/reset"])
def test_nothing_else_can_be_deleted(delete, path):
    with nothing_changes():
        assert_error(delete(path), 405, "method_not_allowed")
