"""The audit trail in the admin: complete, newest first, and nobody's to change."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from analytics_admin.models import Operation
from tests.support.audit import HOSTILE, LIST, page_of, record, shown


def test_the_newest_row_comes_first(operator):
    now = timezone.now()
    rows = [record(started_at=now - timedelta(minutes=minutes)) for minutes in (5, 1, 9)]
    assert shown(operator.get(LIST)) == [rows[1].pk, rows[0].pk, rows[2].pk]


def test_a_row_shows_its_status_in_a_word_and_its_duration(operator):
    record(duration_ms=12.3, status="failed", reason="too stale")
    record(duration_ms=2345.0)
    page = operator.get(LIST).text
    for text in [
        "✕</span>&nbsp;Failed",
        "✓</span>&nbsp;Done",
        "12 ms",
        "2.3 s",
        "too stale",
        "REST API",
    ]:
        assert text in page


def test_a_long_reason_is_cut_in_the_list_and_whole_on_its_own_page(operator):
    row = record(reason="stale " * 40 + "end")
    page = operator.get(LIST).text
    assert "stale s…</td>" in page
    assert "stale end" not in page
    assert "stale end" in operator.get(page_of(row)).text


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        ("UTC", "Clear search cache · ada · 2026-07-01 22:30:00 UTC"),
        ("Europe/Berlin", "Clear search cache · ada · 2026-07-02 00:30:00 CEST"),
    ],
)
def test_a_row_is_called_by_its_time_in_the_readers_zone(zone, name):
    began = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    row = Operation(kind="clear_search_cache", actor="ada", started_at=began)
    with timezone.override(zone):
        assert str(row) == name


def test_a_site_without_time_zones_names_none(settings):
    settings.USE_TZ = False
    began = datetime(2026, 7, 1, 22, tzinfo=UTC).replace(tzinfo=None)
    row = Operation(kind="clear_search_cache", actor="ada", started_at=began)
    assert str(row) == "Clear search cache · ada · 2026-07-01 22:00:00"


def test_a_row_whose_end_nobody_reported_reads_as_interrupted_after_ten_minutes(operator):
    now = timezone.now()
    old = record(status="started", started_at=now - timedelta(minutes=11))
    fresh = record(status="started", started_at=now - timedelta(minutes=9))
    assert "Interrupted" in operator.get(page_of(old)).text
    assert "Interrupted" not in operator.get(page_of(fresh)).text
    assert shown(operator.get(LIST, {"status": "interrupted"})) == [old.pk]
    assert shown(operator.get(LIST, {"status": "started"})) == [fresh.pk]


def test_hostile_words_in_the_list_are_text(operator):
    record(actor=HOSTILE, reason=HOSTILE, targets={"names": [HOSTILE]})
    page = operator.get(LIST).text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4  # the actor also as a filter


@pytest.mark.parametrize("granted", ["superuser", "staff"])
@pytest.mark.parametrize(
    ("page", "get", "post"),
    [
        ("", 200, 405),
        ("change/", 302, 405),
        ("delete/", 404, 404),
        ("history/", 404, 404),
        ("password/", 404, 404),
    ],
)
def test_nobody_can_change_or_delete_a_row(client, request, granted, page, get, post):
    user = request.getfixturevalue("superuser" if granted == "superuser" else "staff_user")
    user.user_permissions.set(Permission.objects.all())
    client.force_login(user)
    row = record(reason="as it was")
    before = Operation.objects.values().get()
    forged = {"post": "yes", "reason": "forged", "_save": "Save"}
    assert client.get(f"{LIST}{row.pk}/{page}").status_code == get
    assert client.post(f"{LIST}{row.pk}/{page}", forged).status_code == post
    assert Operation.objects.values().get() == before


def test_even_a_superuser_cannot_add_or_delete_rows_from_the_list(operator):
    row = record()
    assert operator.get(LIST + "add/").status_code == 404
    assert operator.post(LIST + "add/", {"actor": "forged"}).status_code == 404
    operator.post(LIST, {"action": "delete_selected", "_selected_action": str(row.pk), "post": "y"})
    operator.post(LIST, {"form-TOTAL_FORMS": "1", "form-0-id": str(row.pk), "_save": "Save"})
    assert Operation.objects.get() == row
    page = operator.get(LIST).text
    assert "delete_selected" not in page
    assert 'type="checkbox"' not in page
    assert 'name="_save"' not in operator.get(page_of(row)).text


def test_the_number_of_queries_does_not_grow_with_the_rows(
    operator, superuser, django_assert_num_queries
):
    for rows in (5, 195):
        for number in range(rows):
            record(user=superuser, actor=f"ada-{number % 7}", targets={"names": ["a", "b"]})
        for query in ({}, {"all": "", "q": "ada", "status": "done"}):
            with django_assert_num_queries(5):  # session, user, actors, count, rows
                answer = operator.get(LIST, query)
            assert answer.status_code == 200
    assert len(shown(answer)) == 200


@pytest.fixture
def long_trail(db, monkeypatch):
    """A trail of 120 operations is a long one."""
    for name, number in {"MAX_COUNTED": 60, "MAX_EXAMINED": 55, "MAX_PAGED": 100}.items():
        monkeypatch.setattr(f"analytics_admin.services.audit_pages.{name}", number)
    monkeypatch.setattr("analytics_admin.console.audit.list.MAX_EXAMINED", 55)
    monkeypatch.setattr("analytics_admin.console.audit.list.MAX_PAGED", 100)
    began = timezone.now() - timedelta(days=1)
    return [
        record(actor=f"op-{number}", started_at=began - timedelta(seconds=number))
        for number in range(120)
    ]


def test_pages_of_a_long_trail_say_that_there_are_more_and_lead_to_them(operator, long_trail):
    page = operator.get(LIST)
    assert "More than 60 operations" in page.text
    assert "Export more than 60 operations as JSON" in page.text
    assert 'id="aa-older"' not in page.text
    last = operator.get(LIST, {"p": 2})
    assert shown(last) == [row.pk for row in long_trail[50:100]]
    (link,) = re.findall(r'<a href="([^"]+)" id="aa-older">Older operations</a>', last.text)
    older = operator.get(LIST + unescape(link))
    assert shown(older) == [row.pk for row in long_trail[100:]]
    assert "20 operations" in older.text
    assert operator.get(LIST + unescape(link) + "&p=2").status_code == 200


def test_a_page_beyond_all_numbers_says_how_far_they_reach(operator, long_trail):
    answer = operator.get(LIST, {"p": 3}, follow=True)
    assert shown(answer) == [row.pk for row in long_trail[:50]]
    (message,) = answer.context["messages"]
    assert str(message).startswith("Pages reach the newest")


@pytest.mark.parametrize(
    ("query", "limit", "link", "first", "second"),
    [
        ({"q": "op-5"}, "Searched", "Search older operations", [5, 50, 51, 52, 53, 54], [55]),
        ({"q": "op-6"}, "Searched", "Search older operations", [6], [60]),
        ({"o": "3"}, "Sorted", "Sort older operations", [0, 1, 10], [100, 101, 102]),
    ],
)
def test_a_search_or_a_sort_of_a_long_trail_says_where_it_stops_and_goes_on(
    operator, long_trail, query, limit, link, first, second
):
    page = operator.get(LIST, query)
    assert shown(page)[: len(first)] == [long_trail[number].pk for number in first]
    assert f"{limit} the newest 55 operations only." in page.text
    (address,) = re.findall(rf'<a href="([^"]+)" id="aa-older">{link}</a>', page.text)
    page = operator.get(LIST + unescape(address))
    assert shown(page)[: len(second)] == [long_trail[number].pk for number in second]
    assert f"{limit} the next 55 operations only." in page.text
    (address,) = re.findall(rf'<a href="([^"]+)" id="aa-older">{link}</a>', page.text)
    assert "older_than" in address
    page = operator.get(LIST + unescape(address))
    assert 'id="aa-limit"' not in page.text


@pytest.mark.usefixtures("long_trail")
def test_no_filter_counts_its_choices(operator):
    for query in ({}, {"_facets": "True"}):
        assert "Show counts" not in operator.get(LIST, query).text


@pytest.mark.parametrize(
    ("kind", "targets", "words"),
    [
        ("reset_circuit_breakers", {"names": "all", "only_open": False}, "all circuit breakers"),
        (
            "reset_circuit_breakers",
            {"names": "all", "only_open": True},
            "all open circuit breakers",
        ),
        ("reset_circuit_breakers", {"names": ["catalog"], "only_open": False}, "catalog"),
        ("reset_circuit_breakers", {"names": ["catalog"], "only_open": True}, "catalog, if open"),
        ("reset_circuit_breakers", {"names": ["a", "b", "c"]}, "3 circuit breakers"),
        (
            "control_circuit_breakers",
            {"names": ["catalog"], "control": "forced_open", "for_seconds": 900.0},
            "catalog: Forced open",
        ),
        (
            "control_circuit_breakers",
            {"names": ["a", "b"], "control": "automatic", "for_seconds": None},
            "2 circuit breakers: Released",
        ),
        ("forget_circuit_breaker", {"names": ["catlog"]}, "catlog"),
        ("clear_search_cache", {"mode": "hard", "tags": []}, "search cache"),
        ("clear_search_cache", {"mode": "soft", "tags": []}, "search cache (soft)"),
        ("clear_search_cache", {"mode": "hard", "tags": ["a"]}, "tag a"),
        ("clear_search_cache", {"mode": "hard", "tags": ["a", "b"]}, "tags a, b"),
        ("an_act_of_tomorrow", {"names": ["catalog"]}, "catalog"),
    ],
)
def test_a_row_says_what_its_act_was_aimed_at(operator, kind, targets, words):
    row = record(kind=kind, targets=targets)
    assert f"<bdi>{words}</bdi></span></td>" in operator.get(LIST).text
    assert f'<dd id="aa-target"><bdi>{words}</bdi></dd>' in operator.get(page_of(row)).text


@pytest.mark.parametrize("targets", [{}, [], None, "all", {"names": []}, {"names": 5}, {"tags": 1}])
def test_a_row_that_does_not_say_its_aim_is_shown_all_the_same(operator, targets):
    row = record(targets=targets, outcome=targets) if targets is not None else record()
    assert shown(operator.get(LIST)) == [row.pk]
    assert operator.get(page_of(row)).status_code == 200


@pytest.mark.parametrize("everything", [True, False])
def test_deleting_a_user_keeps_the_row_and_the_name(client, superuser, staff_user, everything):
    row = record(actor="sam", user=staff_user)
    deleter = superuser
    if not everything:  # may delete users, and has no permission for operations
        deleter = type(superuser).objects.create_user("hr", is_staff=True)
        deleter.user_permissions.set(Permission.objects.filter(codename__endswith="_user"))
    client.force_login(deleter)
    url = reverse("admin:auth_user_delete", args=[staff_user.pk])
    assert "Are you sure" in client.get(url).text
    client.post(url, {"post": "yes"})
    assert not type(superuser).objects.filter(pk=staff_user.pk).exists()
    row.refresh_from_db()
    assert (row.actor, row.user) == ("sam", None)
    client.force_login(superuser)
    assert "sam" in client.get(page_of(row)).text
