"""The filtered audit trail as one JSON file: complete, streamed, and never half a document."""

import json
import re
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.db import DatabaseError
from django.test import AsyncClient
from django.utils import timezone

from analytics_admin.console.audit.export import ExportInterrupted, export
from analytics_admin.models import Operation
from analytics_admin.services import Actor, OperationFailed, clear_search_cache, to_json
from tests.support.audit import EXPORT, HOSTILE, LIST, record, shown

OLD = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


def exported(operator, **query):
    answer = operator.get(EXPORT, query)
    assert answer.status_code == 200
    return json.loads(answer.getvalue())


def fill(rows):
    Operation.objects.bulk_create(
        Operation(
            kind="reset_circuit_breakers",
            channel="api",
            actor=f"ada-{number}",
            status="done",
            targets={"names": [f"breaker-{number}"]},
            outcome={"results": [{"name": f"breaker-{number}", "from": "open", "to": "closed"}]},
            started_at=OLD + timedelta(seconds=number),
        )
        for number in range(rows)
    )


def test_it_is_a_json_file_to_download(operator):
    record()
    answer = operator.get(EXPORT)
    assert answer["Content-Type"] == "application/json"
    today = datetime.now(UTC).date()
    assert answer["Content-Disposition"] == f'attachment; filename="operations-{today}.json"'
    assert "no-store" in answer["Cache-Control"]
    assert answer.streaming


def test_a_row_has_each_documented_field_and_its_times_in_utc(operator):
    row = record(
        kind="reset_circuit_breakers",
        channel="command",
        actor="nightly",
        reason="ticket 4711",
        error="none",
        targets={"names": "all"},
        outcome={"count": 2},
        started_at=datetime.fromisoformat("2026-07-02T00:30:00.000001+02:00"),
        finished_at=OLD + timedelta(seconds=2),
        duration_ms=1999.5,
    )
    document = exported(operator)
    assert set(document) == {"exported_at", "operations", "count"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["exported_at"])
    assert document["count"] == 1
    assert document["operations"] == [
        {
            "id": str(row.pk),
            "kind": "reset_circuit_breakers",
            "status": "done",
            "interrupted": False,
            "channel": "command",
            "actor": "nightly",
            "reason": "ticket 4711",
            "targets": {"names": "all"},
            "outcome": {"count": 2},
            "message": "",
            "error": "none",
            "client": None,
            "started_at": "2026-07-01T22:30:00.000001Z",
            "finished_at": "2026-07-01T22:30:02.000000Z",
            "duration_ms": 1999.5,
        }
    ]


def test_an_interrupted_row_says_so_beside_its_stored_status(operator):
    record(status="started", started_at=OLD)
    (row,) = exported(operator)["operations"]
    assert (row["status"], row["interrupted"]) == ("started", True)
    assert row["finished_at"] is row["duration_ms"] is None


def test_a_site_without_time_zones_exports_utc_too(settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    row = Operation(started_at=datetime(2026, 7, 2, 0, 30), finished_at=None)  # noqa: DTZ001
    with timezone.override("Europe/Berlin"):
        assert to_json(row)["started_at"] == "2026-07-01T22:30:00.000000Z"


def test_nothing_to_export_is_a_document_too(operator):
    record()
    document = exported(operator, q="nobody")
    assert (document["operations"], document["count"]) == ([], 0)


def test_all_pages_of_the_filtered_list_are_in_it_in_the_lists_order(operator):
    fill(120)
    record(actor="grace", reason="another")
    query = {"q": "ada", "kind__exact": "reset_circuit_breakers", "p": "2"}
    page = operator.get(LIST, query)
    (link,) = re.findall(r'<a href="([^"]+)" id="aa-export">', page.text)
    document = json.loads(operator.get(link.replace("&amp;", "&")).getvalue())
    assert document["count"] == len(document["operations"]) == 120
    actors = [row["actor"] for row in document["operations"]]
    assert actors == [f"ada-{number}" for number in reversed(range(120))]
    assert "Export 120 operations as JSON" in page.text
    assert [row["id"] for row in document["operations"]][50:100] == [str(pk) for pk in shown(page)]


def test_the_order_that_was_chosen_is_kept(operator):
    for actor in ("b", "c", "a"):
        record(actor=actor)
    (link,) = re.findall(r'<a href="([^"]+)" id="aa-export">', operator.get(LIST, {"o": "3"}).text)
    document = json.loads(operator.get(link).getvalue())
    assert [row["actor"] for row in document["operations"]] == ["a", "b", "c"]


@pytest.mark.parametrize(("number", "reads"), [(1, 1), (500, 1), (501, 2), (1200, 3)])
def test_each_500_rows_take_one_query(operator, django_assert_num_queries, number, reads):
    fill(number)
    with django_assert_num_queries(3 + reads):  # session, user, actors
        assert exported(operator)["count"] == number


def test_many_rows_take_no_more_memory_than_a_few(db):
    fill(4000)
    rows = Operation.objects.order_by("-started_at", "-id")
    few = rows.filter(started_at__lt=OLD + timedelta(seconds=1000))
    for _part in export(few):
        pass  # what is loaded once and kept
    peaks = []
    for selected in (few, rows):
        tracemalloc.start()
        sizes = [len(part) for part in export(selected)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sum(sizes) > 1_250_000
    assert max(sizes) < 250_000
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_an_export_goes_on_where_the_lists_search_stops(operator, monkeypatch):
    monkeypatch.setattr("analytics_admin.services.audit_pages.MAX_EXAMINED", 100)
    fill(350)
    page = operator.get(LIST, {"q": "breaker-7"})
    assert shown(page) == []
    (link,) = re.findall(r'<a href="([^"]+)" id="aa-export">', page.text)
    assert "Export all matching operations as JSON" in page.text
    document = json.loads(operator.get(link).getvalue())
    assert [row["actor"] for row in document["operations"]] == [
        *(f"ada-{number}" for number in range(79, 69, -1)),
        "ada-7",
    ]


def test_what_ends_in_the_middle_is_no_json_and_names_no_secret(operator, monkeypatch, caplog):
    fill(1200)
    sent = []
    reader = Operation.from_db.__func__
    read = 0

    def from_db(cls, *row, **options):
        nonlocal read
        read += 1
        if read > 700:
            raise DatabaseError("connection to db.internal, user hunter2, was lost")
        return reader(cls, *row, **options)

    monkeypatch.setattr(Operation, "from_db", classmethod(from_db))
    with pytest.raises(ExportInterrupted) as error:
        sent.extend(export(Operation.objects.order_by("-started_at")))
    text = "".join(sent)
    assert text.count('"id"') == 500
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert "hunter2" not in caplog.text + str(error.value)
    assert "export of operations cut off after 500 rows" in caplog.text


def test_whatever_operators_write_stays_one_document(operator):
    words = f'{HOSTILE} "quoted" \\ \u2028 \N{SNOWMAN} \N{PILE OF POO}'
    record(actor=words, reason=words, error=words, targets={words: words}, outcome={words: [words]})
    (row,) = exported(operator)["operations"]
    assert row["actor"] == row["reason"] == row["error"] == row["targets"][words] == words


def test_the_password_of_a_store_is_not_in_it(operator, settings, superuser):
    address = "redis://:hunter2-of-the-store@127.0.0.1:1/1"
    search = {**settings.CACHES["search"], "LOCATION": address}
    settings.CACHES = {**settings.CACHES, "search": search}
    with pytest.raises(OperationFailed):
        clear_search_cache(actor=Actor.from_user(superuser))
    (row,) = exported(operator)["operations"]
    assert row["status"] == "failed"
    assert "hunter2" not in json.dumps(row)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_only_get_exports(operator, method):
    record()
    answer = getattr(operator, method)(EXPORT)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_only_those_who_may_see_the_console_export(client, plain_user, staff_user, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    record(reason="confidential")
    assert client.get(EXPORT).url.startswith("/admin/login/?next=")
    client.force_login(plain_user)
    assert client.get(EXPORT).url.startswith("/admin/login/?next=")
    client.force_login(staff_user)
    assert client.get(EXPORT).status_code == 403
    assert client.post(EXPORT).status_code == 403
    staff_user.user_permissions.add(Permission.objects.get(codename="view_console"))
    assert exported(client)["count"] == 1


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_server_streams_it_too(superuser):
    fill(1200)
    client = AsyncClient()
    client.force_login(superuser)

    @async_to_sync
    async def download():
        answer = await client.get(EXPORT)
        assert answer.is_async
        return [part async for part in answer.streaming_content]

    parts = download()
    assert len(parts) == 5  # the head, 500, 500 and 200 rows, the end
    assert json.loads(b"".join(parts))["count"] == 1200
