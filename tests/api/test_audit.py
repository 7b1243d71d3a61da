"""The audit trail over REST: contents, filters and permissions."""

import calendar
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import DatabaseError, connection
from django.utils import timezone

from analytics_admin.api.serializers import OperationsQuery
from analytics_admin.models import Operation
from analytics_admin.services import Actor, clear_search_cache, reset_circuit_breakers
from analytics_admin.services.audit_queries import (
    OperationFilter,
    describe_operation,
    page_operations,
)
from tests.support.api import assert_error
from tests.support.audit import EXPORT, HOSTILE, record
from tests.support.breakers import trip
from tests.support.cases import case

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

LIST = "/api/v1/analytics/operations"
DOCS = Path(__file__).parents[2] / "docs"
OLD = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


@pytest.fixture
def get(client, mint):
    def get(path=LIST, *, sub="admin", method="GET", **query):
        headers = {"Authorization": f"Bearer {mint(sub)}"} if sub else {}
        return client.generic(method, path, query_params=query, headers=headers)

    return get


@pytest.fixture
def listed(get):
    """The ids that a query finds."""

    def listed(**query):
        answer = get(**query)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["results"]]

    return listed


def fill(rows):
    Operation.objects.bulk_create(
        Operation(
            kind="reset_circuit_breakers",
            channel="api",
            actor=f"ada-{number}",
            status="done",
            started_at=OLD + timedelta(seconds=number),
        )
        for number in range(rows)
    )


def ids(*rows):
    return [str(row.pk) for row in rows]


def test_an_act_is_found_by_the_id_that_it_answered_with(client, mint, get):
    trip("api.open")
    acted = client.post(
        "/api/v1/analytics/circuit-breakers/reset",
        {"only_open": True, "reason": "backend is back"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {mint()}"},
    )
    answer = get(f"{LIST}/{acted.headers['X-Operation-Id']}")
    row = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert row["id"] == acted.headers["X-Operation-Id"]
    values = ["reset_circuit_breakers", "done", "api", "admin", "backend is back"]
    assert [row[key] for key in ("kind", "status", "channel", "actor", "reason")] == values
    assert row["message"] == acted.json()["message"]
    assert row["outcome"]["results"] == [{"name": "api.open", "from": "open", "to": "closed"}]
    assert row["finished_at"] > row["started_at"]
    assert row["duration_ms"] > 0


def test_rows_are_those_of_the_consoles_export_word_for_word(client, superuser, get):
    clear_search_cache(actor=Actor.from_user(superuser), reason="prices")
    record(status="started", started_at=OLD)
    record(reason=HOSTILE, error="x" * 500, outcome={"results": [{"name": HOSTILE}]})
    client.force_login(superuser)
    exported = json.loads(client.get(EXPORT).getvalue())["operations"]
    rows = get().json()["results"]
    assert rows == exported
    assert [get(f"{LIST}/{row['id']}").json() for row in rows] == exported


def test_the_newest_come_first_by_pages_of_the_lists_own_shape(get):
    fill(250)
    first = get().json()
    assert set(first) == {
        *("count", "count_capped", "search_capped", "page", "pages", "next_cursor", "results")
    }
    assert (first["count"], first["page"], first["pages"], len(first["results"])) == (
        250,
        1,
        3,
        100,
    )
    last = get(page=3).json()
    actors = [row["actor"] for page in (first, get(page=2).json(), last) for row in page["results"]]
    assert actors == [f"ada-{number}" for number in reversed(range(250))]
    assert [row["actor"] for row in get(page=2, page_size=1).json()["results"]] == ["ada-248"]


def test_rows_of_the_same_instant_are_on_one_page_each(listed):
    rows = [record(started_at=OLD) for _ in range(7)]
    pages = [listed(page=page, page_size=1)[0] for page in range(1, 8)]
    assert sorted(pages) == sorted(ids(*rows))


def test_with_until_the_pages_stay_what_they_are_while_acts_go_on(listed):
    fill(4)
    until = timezone.now().isoformat()
    first = listed(until=until, page_size=2)
    record(started_at=timezone.now() + timedelta(seconds=1))
    assert len({*first, *listed(until=until, page_size=2, page=2)}) == 4


def test_cursors_lead_through_all_pages_whatever_is_recorded_meanwhile(get):
    fill(250)
    page = get(page_size=100).json()
    actors = [row["actor"] for row in page["results"]]
    while page["next_cursor"]:
        record()
        page = get(page_size=100, cursor=page["next_cursor"]).json()
        assert (page["count"], page["page"], page["pages"]) == (None, None, None)
        actors += [row["actor"] for row in page["results"]]
    assert actors == [f"ada-{number}" for number in reversed(range(250))]


def test_counts_and_searches_say_that_they_are_capped(get, monkeypatch):
    limits = "analytics_admin.services.audit_pages."
    for name, number in {"MAX_COUNTED": 5, "MAX_EXAMINED": 5, "MAX_PAGED": 8}.items():
        monkeypatch.setattr(limits + name, number)
    fill(9)
    page = get(page_size=2).json()
    assert [page[name] for name in ("count", "count_capped", "pages")] == [5, True, 3]
    assert get(page=4, page_size=2).json()["results"][-1]["actor"] == "ada-1"
    assert_error(get(page=5, page_size=2), 400, "invalid", "page: Pages reach the newest 8 ")
    Operation.objects.filter(actor="ada-2").update(reason="our ticket")
    found = get(search="ticket").json()
    assert [found[name] for name in ("count", "count_capped", "search_capped")] == [0, False, True]
    following = get(search="ticket", cursor=found["next_cursor"]).json()
    assert [row["actor"] for row in following["results"]] == ["ada-2"]
    assert [following[name] for name in ("search_capped", "next_cursor")] == [False, None]


def test_an_empty_trail_has_one_empty_page(get):
    nothing = {"count_capped": False, "search_capped": False, "next_cursor": None}
    assert get().json() == {"count": 0, "page": 1, "pages": 1, "results": [], **nothing}
    assert_error(get(page=2), 404, "not_found", "the last one is 1")


def test_it_is_filtered_by_kind_status_channel_and_actor(listed):
    clear = record()
    reset = record(kind="reset_circuit_breakers", channel="command", status="failed", actor=" eve ")
    assert listed(kind="clear_search_cache") == ids(clear)
    assert listed(status="failed") == ids(reset)
    assert listed(channel="command") == ids(reset)
    assert listed(actor=" eve ") == ids(reset)
    assert listed(actor="eve") == listed(actor="ADA") == []
    assert listed(kind="reset_circuit_breakers", actor="ada") == []


def test_started_and_interrupted_are_told_apart_by_age(listed):
    under_way = record(status="started")
    cut_off = record(status="started", started_at=OLD)
    assert listed(status="started") == ids(under_way)
    assert listed(status="interrupted") == ids(cut_off)


def test_since_is_in_and_until_is_out_in_whatever_zone_they_are_told(listed):
    first, second = record(started_at=OLD), record(started_at=OLD + timedelta(microseconds=1))
    for same in ("2026-07-01T22:30:00Z", "2026-07-02T00:30:00+02:00", "2026-07-01 17:30-05:00"):
        assert listed(since=same) == ids(second, first)
        assert listed(until=same) == []
    assert listed(since="2026-07-01T22:30:00.000001Z") == ids(second)
    assert listed(until="2026-07-01T22:30:00.000001Z") == ids(first)


def test_a_site_without_time_zones_takes_the_same_instants(settings, listed):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    with timezone.override("Europe/Berlin"):
        row = record(started_at=datetime(2026, 7, 2, 0, 30))  # noqa: DTZ001
        assert listed(since="2026-07-01T22:30:00Z") == ids(row)
        assert listed(since="2026-07-01T22:30:01Z") == []


def test_it_is_searched_by_words_names_of_breakers_tags_and_id(listed, superuser):
    trip("shop.catalog")
    actor = Actor.from_user(superuser)
    reset = reset_circuit_breakers(actor=actor, names=["shop.catalog"], reason='ticket "4711"')
    clear = clear_search_cache(actor=actor, tags=["Ørsted", 'a"b'])
    for words in ("CATALOG", "ticket admin", '"shop.catalog"', '"4711', str(reset.operation_id)):
        assert listed(search=words) == [str(reset.operation_id)], words
    for words in ("Ørsted", 'a"b', "'Ørsted' admin"):
        assert listed(search=words) == [str(clear.operation_id)], words
    assert listed(search="") == listed(search=" ") == listed()


NOT_UNDERSTOOD = [
    ({"kind": "nonsense"}, "kind"),
    ({"kind": ""}, "kind"),
    ({"status": "gone"}, "status"),
    ({"status": ["done", "failed"]}, "twice"),
    ({"channel": "phone"}, "channel"),
    ({"actor": ""}, "actor"),
    ({"actor": "a\x00b"}, "actor"),
    ({"actor": "x" * 255}, "actor"),
    ({"since": ""}, "since"),
    ({"since": "monday"}, "since"),
    ({"since": "2026-07-01"}, "since"),
    ({"since": "2026-07-01T22:30:00"}, "since"),
    ({"since": "2026-07-01T22:30:00 02:00"}, "%2B"),
    ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
    ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
    ({"until": "2026-02-30T00:00:00Z"}, "until"),
    ({"until": "1782945000"}, "until"),
    ({"search": "a\x00b"}, "search"),
    ({"search": "x" * 255}, "search"),
    ({"page": "0"}, "page"),
    ({"page_size": "101"}, "page_size"),
    ({"cursor": "nonsense"}, "cursor"),
    ({"cursor": ""}, "cursor"),
    ({"cursor": f"{OLD.timestamp():.0f}000000-{'0' * 32}", "page": "2"}, "cursor"),
    ({"q": "ada"}, "q"),
    ({"kind__exact": "clear_search_cache"}, "kind__exact"),
    ({"user__password__startswith": "pbkdf2"}, "user__password"),
]


def test_an_option_that_cannot_be_understood_is_400(get):
    record()
    for query, words in NOT_UNDERSTOOD:
        with case(query):
            assert_error(get(**query), 400, "invalid", words)


def test_an_option_on_one_row_is_400(get):
    assert_error(get(f"{LIST}/{record().pk}", actor="ada"), 400, "invalid", "actor")


@pytest.mark.parametrize("words", ["a " * 127, "\"'\\" * 80, "%_[]()*+?", "\N{SNOWMAN}" * 84])
def test_any_search_that_is_short_enough_is_answered(get, words):
    record(targets={"tags": ['a"b\\c', "\N{SNOWMAN}"]})
    assert get(search=words[:254]).status_code == 200


def test_an_unknown_id_is_404_and_so_is_a_malformed_one(get):
    operation = record()
    unknown = uuid4()
    assert_error(get(f"{LIST}/{unknown}"), 404, "unknown_operation", str(unknown))
    for malformed in ("nope", str(operation.pk)[:-1], operation.pk.hex, f"{operation.pk}/", "%00"):
        assert_error(get(f"{LIST}/{malformed}"), 404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nobody_changes_the_trail(get, method):
    operation = record()
    for path in (LIST, f"{LIST}/{operation.pk}"):
        answer = get(path, method=method)
        assert_error(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD"
    assert Operation.objects.get() == operation


def test_a_head_request_answers_without_a_body(get):
    for path in (LIST, f"{LIST}/{record().pk}"):
        answer = get(path, method="HEAD")
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.usefixtures("plain_user")
def test_only_those_who_may_see_the_console_read_it(get, staff_user, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    for path in (LIST, f"{LIST}/{record().pk}"):
        assert_error(get(path, sub=None), 401, "not_authenticated")
        assert_error(get(path, sub="una"), 403, "permission_denied")
        assert_error(get(path, sub="sam"), 403, "permission_denied")
    staff_user.user_permissions.add(Permission.objects.get(codename="view_console"))
    assert get(sub="sam").status_code == 200
    assert Operation.objects.count() == 1  # to look is no act, and a refused look leaves no row


def test_a_browsers_session_does_not_open_it(client, superuser):
    client.force_login(superuser)
    assert_error(client.get(LIST), 401, "not_authenticated")


@pytest.mark.parametrize("rows", [1, 300])
def test_the_number_of_queries_is_constant(get, django_assert_num_queries, rows):
    fill(rows)
    some = Operation.objects.first().pk
    with django_assert_num_queries(3):  # user, count, rows
        get(kind="reset_circuit_breakers", since="2026-01-01T00:00:00Z")
    with django_assert_num_queries(2):
        get(f"{LIST}/{some}")


def test_the_list_and_its_filters_by_kind_and_actor_go_by_an_index():
    if connection.vendor != "sqlite":
        return
    for chosen, index in (
        ({}, "aa_operation_newest"),
        ({"kind": "clear_search_cache"}, "aa_operation_kind"),
        ({"actor": "ada"}, "aa_operation_actor"),
    ):
        rows = OperationFilter(**chosen).apply(Operation.objects.all())[5000:5100]
        assert f"USING INDEX {index}" in rows.explain(), chosen


def test_whatever_is_in_a_row_comes_out_as_it_is(get):
    words = f'{HOSTILE} "quoted" \\ \u2028 \x1b[31m \N{PILE OF POO} \u202e'
    outcome = {"results": [{"name": words * 10}] * 300, words: words}
    assert len(json.dumps(outcome)) > 100_000
    row = record(
        actor=words, reason=words, error=words, message=words, targets=[words], outcome=outcome
    )
    for answer in (get(), get(f"{LIST}/{row.pk}")):
        assert answer.headers["Content-Type"] == "application/json"
        row = answer.json()
        row = row["results"][0] if "results" in row else row
        assert row["outcome"] == outcome
        assert {row[key] for key in ("actor", "reason", "error", "message")} == {words}
        assert row["targets"] == [words]


def test_half_a_surrogate_pair_in_a_row_hides_nothing(get):
    if connection.vendor != "sqlite":  # PostgreSQL takes none
        return
    row = record(targets={"names": ["\ud800"]})
    assert get(f"{LIST}/{row.pk}").json()["targets"] == {"names": ["\ud800"]}
    assert get().json()["count"] == 1


def test_a_database_that_does_not_answer_is_the_500_of_a_question(get, monkeypatch):
    def fail(*_):
        raise DatabaseError("connection to db.internal, user hunter2, was lost")

    monkeypatch.setattr("analytics_admin.services.audit_queries.OperationFilter.apply", fail)
    answer = get()
    assert_error(answer, 500, "database_unavailable", "The audit trail cannot be read: ")
    assert "hunter2" not in answer.text


@pytest.mark.usefixtures("lost")
def test_the_breakers_store_may_be_down(get):
    row = record()
    assert [row["id"] for row in get().json()["results"]] == ids(row)


@pytest.mark.parametrize(
    "chosen",
    [
        {"kind": "nonsense"},
        {"channel": "phone"},
        {"status": "gone"},
        {"actor": "\x00"},
        {"search": "\ud800"},
        {"since": datetime(2026, 7, 1)},  # noqa: DTZ001
    ],
)
def test_the_service_refuses_what_can_choose_nothing(chosen):
    with pytest.raises(ValueError, match=next(iter(chosen))):
        page_operations(chosen=OperationFilter(**chosen))


def test_the_service_refuses_what_is_no_text_and_no_page():
    for wrong in (OperationFilter(actor=5), OperationFilter(search=None)):
        with pytest.raises(TypeError):
            page_operations(chosen=wrong)
    for number in (0, -1):
        with pytest.raises(ValueError, match="pages count from 1"):
            page_operations(page=number)
    with pytest.raises(TypeError):
        page_operations(page=1.0)
    with pytest.raises(LookupError, match=re.escape("Unknown operation")):
        describe_operation(uuid4())


@pytest.mark.parametrize("option", OperationsQuery().fields)
def test_every_option_is_in_the_reference(option):
    reference = (DOCS / "reference" / "rest.md").read_text()
    table = reference.split("### `GET /analytics/operations`")[1].split("\n### ")[0]
    assert re.search(rf"^\| [^|]*`{option}`", table, re.MULTILINE)


def test_the_guides_line_for_auditors_asks_for_what_is_answered(get):
    record(reason="since monday")
    record(started_at=timezone.now() - timedelta(days=9))
    guide = (DOCS / "howto" / "use-the-audit-trail.md").read_text()
    line = re.search(r"date -d '[^']*monday[^']*' -I\w+", guide)[0]

    def run(line: str) -> str:
        return subprocess.check_output(["sh", "-c", line], text=True).strip()

    since = get(since=run(line)).json()["results"]
    assert [row["reason"] for row in since] == ["since monday"]
    # Of any day of the week it is the last one, today included.
    today = datetime.fromisoformat(run("date -d 'today 00:00' -Iseconds")).date()
    for ago in range(7):
        day = today - timedelta(days=ago)
        name = calendar.day_name[day.weekday()]
        assert datetime.fromisoformat(run(line.replace("monday", name))).date() == day
