"""clear_search_cache and reset_circuit_breakers from a shell: options, output, exit codes."""

import getpass
import json
import os
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connection

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation
from tests.support.breakers import trip
from tests.support.doors import run

pytestmark = pytest.mark.django_db

OPERATIONS = ["clear_search_cache", "reset_circuit_breakers"]
CLEARED = "Search cache cleared\n"
RESET_ALL = "All circuit breakers reset successfully\n"
NOBODY_THERE = "no process uses circuit breakers\n"


@pytest.fixture(autouse=True)
def search() -> Any:
    caches["search"].set("query", "hits")
    return caches["search"]


@pytest.fixture(autouse=True)
def tripped() -> list[str]:
    names = ["shell.one", "shell.two"]
    for name in names:
        trip(name)
    return names


def states() -> dict[str, str]:
    return {status.name: status.state for status in services.list_breakers()}


def test_clear_prints_the_message_alone_and_records_the_shell_user(search):
    assert run("clear_search_cache", "--no-input", "--reason", " stale prices ") == (0, CLEARED, "")
    assert search.get("query") is None
    row = Operation.objects.get()
    assert (row.kind, row.status, row.channel) == ("clear_search_cache", "done", "command")
    assert (row.actor, row.user, row.reason) == (getpass.getuser(), None, "stale prices")


def test_reset_without_names_is_all_of_them(tripped):
    said = f"{RESET_ALL}{NOBODY_THERE}"
    assert run("reset_circuit_breakers", "--no-input") == (0, said, "")
    assert {states()[name] for name in tripped} == {"closed"}
    assert Operation.objects.get().targets == {"names": "all", "only_open": False}


def test_reset_of_a_name_leaves_the_others_and_says_what_moved():
    code, out, err = run("reset_circuit_breakers", "shell.one", "shell.one", "--no-input")
    message = "1 circuit breaker reset successfully\n  shell.one: open -> closed\n"
    assert (code, out, err) == (0, f"{message}{NOBODY_THERE}", "")
    assert (states()["shell.one"], states()["shell.two"]) == ("closed", "open")


def test_reset_of_the_open_ones():
    circuit_breaker("shell.calm")
    code, out, _ = run("reset_circuit_breakers", "--only-open", "--no-input")
    assert (code, out.splitlines()[0]) == (0, "2 circuit breakers reset successfully")
    assert "shell.calm" not in out


def test_an_unknown_name_is_a_usage_error_and_resets_nothing():
    code, out, err = run("reset_circuit_breakers", "shell.one", "shell.typo", "--no-input")
    assert (code, out, err) == (2, "", "Unknown circuit breakers: shell.typo")
    assert states()["shell.one"] == "open"
    assert "shell.typo" not in states()
    assert not Operation.objects.exists()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_a_terminal_an_operation_is_refused_unless_told_not_to_ask(operation, search):
    code, out, err = run(operation)
    assert (code, out) == (2, "")
    assert "--no-input" in err
    assert search.get("query") == "hits"
    assert states()["shell.one"] == "open"
    assert not Operation.objects.exists()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_dry_run_asks_nothing_changes_nothing_and_leaves_no_row(operation, search):
    code, out, err = run(operation, "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("Dry run: ")
    assert search.get("query") == "hits"
    assert states()["shell.one"] == "open"
    assert not Operation.objects.exists()


def test_a_long_list_of_breakers_is_cut_and_says_so(settings):
    names = [f"many-{number}" for number in range(40)]
    policies = {name: {} for name in names}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": policies}
    _, out, _ = run("reset_circuit_breakers", *names, "--dry-run")
    assert len(out.splitlines()) == 22
    assert out.splitlines()[-1] == "  ... and 20 more (--json lists all)"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_json_is_one_object_with_message_and_operation(operation):
    code, out, err = run(operation, "--json", "--no-input")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    nobody = {"acknowledged": {"processes": 0, "obeyed": 0, "missing": []}}
    assert answer == {
        "message": {"clear_search_cache": CLEARED, "reset_circuit_breakers": RESET_ALL}[
            operation
        ].strip(),
        "operation_id": str(Operation.objects.get().pk),
        **(nobody if operation == "reset_circuit_breakers" else {}),
    }


def test_json_of_a_named_reset_holds_the_results():
    _, out, _ = run("reset_circuit_breakers", "shell.two", "--json", "--no-input")
    assert json.loads(out)["results"] == [{"name": "shell.two", "from": "open", "to": "closed"}]


def test_json_of_a_dry_run_holds_the_preview_and_no_operation():
    _, out, _ = run("clear_search_cache", "--json", "--dry-run")
    answer = json.loads(out)
    assert answer.keys() == {"message", "preview"}
    assert answer["preview"]["keys"] == 1


def test_json_of_a_failure_holds_the_detail_and_its_code():
    code, out, err = run("reset_circuit_breakers", "nope", "--json", "--no-input")
    assert (code, err) == (2, "Unknown circuit breakers: nope")
    assert json.loads(out) == {"detail": err, "code": "unknown_breaker"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [("REQUIRE_REASON", 2, "requires a reason"), ("READ_ONLY", 1, "read-only")],
)
def test_what_the_site_forbids_is_refused(operation, setting, code, words, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, setting: True}
    exit_code, out, err = run(operation, "--no-input")
    assert (exit_code, out) == (code, "")
    assert words in err
    assert caches["search"].get("query") == "hits"
    assert not Operation.objects.exists()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_reason_that_is_no_text_is_a_usage_error(operation):
    code, _, err = run(operation, "--no-input", "--reason", os.fsdecode(b"caf\xe9"))
    assert (code, "not UTF-8" in err) == (1, True)  # 2 from a shell: argparse ends the process
    assert not Operation.objects.exists()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_reason_that_is_too_long_is_a_usage_error(operation):
    code, _, err = run(operation, "--no-input", "--reason", "x" * 501)
    assert (code, err) == (2, "reason: at most 500 characters")


@pytest.mark.parametrize(
    ("operation", "failure"),
    [
        ("clear_search_cache", "Failed to clear cache: the database"),
        ("reset_circuit_breakers", "Failed to reset circuit breakers: the database"),
    ],
)
def test_what_cannot_be_put_on_record_is_not_done(operation, failure, search):
    def refuse(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            raise DatabaseError("host db.internal: database is locked")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        code, out, err = run(operation, "--no-input")
        answer = json.loads(run(operation, "--no-input", "--json")[1])
    assert (code, out) == (1, "")
    assert err == f"{failure} is locked"
    assert answer == {"detail": err, "code": "audit_unavailable"}  # no row, so none is named
    assert search.get("query") == "hits"
    assert states()["shell.one"] == "open"


def test_a_user_without_an_account_goes_by_the_number(monkeypatch):
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user
    run("clear_search_cache", "--no-input")
    assert Operation.objects.get().actor == f"uid {os.getuid()}"


def test_a_strange_user_name_cannot_stop_the_audit(monkeypatch):
    strange = SimpleNamespace(pw_name=os.fsdecode(b"\xff") * 300)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: strange)
    assert run("clear_search_cache", "--no-input")[0] == 0
    assert Operation.objects.get().actor == "?" * 254
