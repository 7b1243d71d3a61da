"""The audit trail in the admin: complete, newest first, and nobody's to change."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from analytics_admin.models import Operation

LIST = "/admin/analytics_admin/operation/"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def operator(client, superuser):
    client.force_login(superuser)
    return client


def record(**fields):
    return Operation.objects.create(
        **{"kind": "clear_search_cache", "channel": "api", "actor": "ada", "status": "done"}
        | fields
    )


def shown(answer):
    return [row.pk for row in answer.context["cl"].result_list]


def page_of(operation, page="change"):
    return reverse(f"admin:analytics_admin_operation_{page}", args=[operation.pk])


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


def test_the_list_is_filtered(operator):
    today = str(timezone.now().replace(hour=0, minute=0, second=0))
    clear = record(started_at=timezone.now() - timedelta(days=40))
    reset = record(kind="reset_circuit_breakers", channel="command", status="failed")
    for query, rows in [
        ({"kind__exact": "clear_search_cache"}, [clear.pk]),
        ({"channel__exact": "command"}, [reset.pk]),
        ({"status": "failed"}, [reset.pk]),
        ({"status": "nonsense"}, [reset.pk, clear.pk]),
        ({"started_at__gte": today}, [reset.pk]),
    ]:
        assert shown(operator.get(LIST, query)) == rows, query


def test_the_list_is_searched_by_actor_reason_and_id(operator):
    row = record(actor="grace", reason="ticket 4711")
    record()
    for words in ["grace", "ticket 4711", "GRACE 4711", str(row.pk), str(row.pk)[:13]]:
        assert shown(operator.get(LIST, {"q": words})) == [row.pk], words
    assert shown(operator.get(LIST, {"q": "nobody"})) == []
    assert operator.get(LIST, {"q": "a\x00b"}).status_code == 200


def test_the_detail_shows_targets_and_outcome_as_readable_text(operator):
    row = record(targets={"names": [HOSTILE]}, outcome={"keys": 12}, reason=HOSTILE, error=HOSTILE)
    page = operator.get(page_of(row)).text
    assert "{\n  &quot;keys&quot;: 12\n}" in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert "<script>alert" not in page


def test_hostile_words_in_the_list_are_text(operator):
    record(actor=HOSTILE, reason=HOSTILE)
    page = operator.get(LIST).text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


@pytest.mark.parametrize("page", ["change", "delete"])
def test_even_a_superuser_cannot_change_or_delete_a_row(operator, page):
    row = record(reason="as it was")
    before = Operation.objects.values().get()
    answer = operator.post(page_of(row, page), {"post": "yes", "reason": "forged", "_save": "Save"})
    assert answer.status_code == 403
    assert Operation.objects.values().get() == before


def test_even_a_superuser_cannot_add_or_delete_rows_from_the_list(operator):
    row = record()
    assert operator.get(LIST + "add/").status_code == 403
    assert operator.post(LIST + "add/", {"actor": "forged"}).status_code == 403
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
    record(user=superuser)
    with django_assert_num_queries(4):  # session, user, count, rows
        operator.get(LIST)
    for _ in range(30):
        record(user=superuser)
    with django_assert_num_queries(4):
        operator.get(LIST)


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
