"""prune_operations removes old rows, on record, and keeps what something depends on."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.utils import timezone

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, audit_pruning, prune_operations
from analytics_admin.services.breakers.reconciliation import _last_acts
from tests.support.breakers import trip

pytestmark = pytest.mark.django_db

SOMEBODY = Actor.system("somebody")
DAY = 86_400


def age(**time: float) -> None:
    """Make the newest row older."""
    row = Operation.objects.first()
    began = row.started_at - timedelta(**time)
    Operation.objects.filter(pk=row.pk).update(started_at=began, finished_at=began)


def rows(number: int, **time: float) -> None:
    for _ in range(number):
        Operation.objects.create(
            kind="sweep_search_cache",
            status="done",
            channel="code",
            actor="x",
            started_at=timezone.now() - timedelta(**time),
        )


def kinds() -> list[str]:
    pruned = Operation.objects.exclude(kind="prune_operations")
    return sorted(pruned.values_list("kind", flat=True))


def test_older_rows_go_in_batches_and_on_record(monkeypatch):
    monkeypatch.setattr(audit_pruning, "BATCH", 3)
    rows(7, days=401)
    rows(2, days=399)
    seen: list[int] = []
    result = prune_operations(
        older_than=400 * DAY, actor=SOMEBODY, reason="policy", on_progress=seen.append
    )
    assert (result.message, seen) == ("7 operations removed from the audit trail", [3, 6, 7])
    assert len(kinds()) == 2
    row = Operation.objects.get(kind="prune_operations")
    assert (row.status, row.reason, row.targets) == ("done", "policy", {"older_than": 400 * DAY})
    assert row.outcome == {"removed": 7, "kept": 0}


def test_the_last_day_stays_whatever_is_asked_for():
    rows(1, hours=23)
    rows(1, hours=25)
    assert prune_operations(older_than=1, actor=SOMEBODY).message.startswith("1 operation removed")
    assert len(kinds()) == 1


def test_a_dry_run_removes_nothing_and_counts():
    rows(2, days=401)
    result = prune_operations(older_than=400 * DAY, actor=SOMEBODY, dry_run=True)
    assert (result.message, result.preview) == (
        "Dry run: 2 operations would be removed",
        {"removed": 2, "kept": 0},
    )
    assert Operation.objects.count() == 2


def test_the_newest_clear_stays():
    for days in (500, 450):
        services.clear_search_cache(actor=SOMEBODY)
        age(days=days)
    services.clear_search_cache(actor=SOMEBODY)
    newest = Operation.objects.first()
    Operation.objects.filter(pk=newest.pk).update(started_at=timezone.now() - timedelta(days=420))
    prune_operations(older_than=400 * DAY, actor=SOMEBODY)
    assert Operation.objects.get(kind="clear_search_cache").pk == newest.pk


def hold(*names: str, days: float, seconds: float | None = None, control: str = "disabled") -> None:
    services.set_breaker_controls(names=names, control=control, for_seconds=seconds, actor=SOMEBODY)
    age(days=days)


def test_holds_in_force_stay_and_others_go():
    for name in ("prune.a", "prune.b", "prune.c"):
        trip(name)
    hold("prune.a", days=420, seconds=float("inf"))
    hold("prune.b", days=420, seconds=3600)
    hold("prune.c", days=420, seconds=float("inf"))
    hold("prune.c", days=410, control="automatic")
    prune_operations(older_than=400 * DAY, actor=SOMEBODY)
    kept = Operation.objects.filter(kind="control_circuit_breakers")
    assert [row.targets["names"] for row in kept] == [["prune.a"]]


def test_a_breaker_that_was_released_from_a_hold_that_stays_does_not_seem_held():
    for name in ("prune.a", "prune.b"):
        trip(name)
    hold("prune.a", "prune.b", days=420, seconds=float("inf"))
    hold("prune.b", days=410, control="automatic")
    prune_operations(older_than=400 * DAY, actor=SOMEBODY)
    acts, _ = _last_acts()
    assert {name: act.control.value for name, act in acts.items() if act} == {
        "prune.a": "disabled",
        "prune.b": "automatic",
    }


def test_a_database_that_fails_on_the_way_is_said_with_what_is_gone(monkeypatch):
    monkeypatch.setattr(audit_pruning, "BATCH", 2)
    rows(3, days=401)
    deletes = []

    def refuse(execute, sql, *rest):
        if sql.startswith("DELETE"):
            deletes.append(sql)
            if len(deletes) > 1:
                raise DatabaseError("db.internal is gone")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse), pytest.raises(services.OperationFailed) as failure:
        prune_operations(older_than=400 * DAY, actor=SOMEBODY)
    assert failure.value.message == (
        "Failed to prune the audit trail: the database does not answer"
    )
    row = Operation.objects.get(kind="prune_operations")
    assert (row.status, row.outcome) == ("failed", {"removed": 2})


def test_the_command_wants_an_age():
    rows(1, days=401)
    out = StringIO()
    call_command("prune_operations", "--older-than", "400d", "--no-input", stdout=out)
    assert out.getvalue() == "1 operation removed from the audit trail\n"
    for arguments in ([], ["--older-than", "ever"], ["--older-than", "x"], ["--older-than", "0d"]):
        with pytest.raises(CommandError):
            call_command("prune_operations", "--no-input", *arguments, stdout=StringIO())
