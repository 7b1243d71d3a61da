"""An upgrade keeps the audit trail: rows that earlier code stored stay readable everywhere."""

import json
from copy import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse

ROWS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("stored_operations.json").read_text()
)
TIMES = ("started_at", "finished_at")
BEFORE = [("analytics_admin", "0002_operation_message")]
WITH_KEY = [("analytics_admin", "0004_operation_kind_label")]


@pytest.fixture
def stored_rows(transactional_db):
    """Store the rows in the tables of that time, then migrate to today's."""
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    operation = executor.loader.project_state(BEFORE).apps.get_model("analytics_admin", "Operation")
    for row in ROWS:
        times = {name: row[name] and datetime.fromisoformat(row[name]) for name in TIMES}
        operation.objects.create(**row | times)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("analytics_admin"))


def test_they_cover_every_kind_and_way_to_end():
    assert {row["kind"] for row in ROWS} == {
        *("clear_search_cache", "undo_clear", "sweep_search_cache", "reset_circuit_breakers"),
        *("control_circuit_breakers", "forget_circuit_breaker", "allow_probe"),
    }
    assert {row["status"] for row in ROWS} == {"done", "failed", "denied"}
    assert {row["channel"] for row in ROWS} == {"admin", "api", "command"}


@pytest.mark.usefixtures("stored_rows")
def test_the_api_answers_with_what_was_stored(client, superuser, mint):
    bearer = {"Authorization": f"Bearer {mint()}"}
    answer = client.get("/api/v1/analytics/operations", headers=bearer)
    by_id = {row["id"]: row for row in answer.json()["results"]}
    for row in ROWS:
        names = row.keys() - set(TIMES)
        assert {name: by_id[row["id"]][name] for name in names} == {n: row[n] for n in names}
    for kind in {row["kind"] for row in ROWS}:
        answer = client.get(f"/api/v1/analytics/operations?kind={kind}", headers=bearer)
        assert answer.json()["count"] == sum(row["kind"] == kind for row in ROWS)


@pytest.mark.usefixtures("stored_rows")
def test_the_console_shows_what_was_stored(admin_client):
    listed = admin_client.get(reverse("admin:analytics_admin_operation_changelist"))
    assert listed.status_code == 200
    for row in ROWS:
        url = reverse("admin:analytics_admin_operation_change", args=[row["id"]])
        assert url in listed.text
        page = admin_client.get(url)
        assert page.status_code == 200
        shown = [row["actor"], row.get("reason", ""), row.get("error", "")]
        shown += [result["name"] for result in row["outcome"].get("results", [])]
        shown += row["targets"].get("tags", [])
        assert [text for text in shown if text not in page.text] == []


def test_databases_of_earlier_releases_lose_the_foreign_key_to_accounts(transactional_db):
    """A fresh database never had it: the accounts may be in another one."""

    def is_constrained():
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, "analytics_admin_operation")
        return any(
            each["foreign_key"] and each["columns"] == ["user_id"] for each in found.values()
        )

    assert not is_constrained()
    executor = MigrationExecutor(connection)
    executor.migrate(WITH_KEY)
    operation = executor.loader.project_state(WITH_KEY).apps.get_model(
        "analytics_admin", "Operation"
    )
    bare = operation._meta.get_field("user")
    constrained = copy(bare)
    constrained.db_constraint = True
    with connection.schema_editor() as editor:
        editor.alter_field(operation, bare, constrained)
    assert is_constrained()
    operation.objects.create(kind="clear_search_cache", channel="api", actor="ada")
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("analytics_admin"))
    assert not is_constrained()
    assert operation.objects.get().actor == "ada"
