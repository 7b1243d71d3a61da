"""The watch over what an act on breakers has come to: its cost, its readers, and odd rows."""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    reset_circuit_breakers,
    set_breaker_control,
    set_breaker_controls,
)
from analytics_admin.services.breakers.followup import follow_up_breakers
from tests.console.followup_pages import (
    SAM,
    open_many,
    reset,
    section,
    verdict,
    watched,
)
from tests.support.audit import HOSTILE, page_of, record
from tests.support.breakers import another, round_trips, state_now, trip

pytestmark = pytest.mark.django_db


def test_of_three_hundred_a_hundred_are_watched_and_the_rest_counted_at_the_cost_of_one(look):
    open_many(["one"])
    one = reset_circuit_breakers(actor=SAM)
    open_many([f"many-{number:03}" for number in range(300)])
    many = reset_circuit_breakers(actor=SAM)
    costs = []
    for act in (one, many):
        look(act)  # tells the server the script
        with round_trips() as sent, CaptureQueriesContext(connection) as queries:
            page = look(act)
        costs.append((sent["trips"], len(queries)))
    assert costs == [(1, 3), (1, 3)]
    assert len(watched(page)) == 100
    assert verdict(page)[0] == "All 100 circuit breakers are closed."
    words = "200 more circuit breakers are not listed."
    assert words in section(page)


def test_of_many_named_the_moved_ones_come_first(look):
    open_many([f"z-{number:03}" for number in range(90)])
    healthy = [f"a-{number:03}" for number in range(90)]
    for name in healthy[:5]:
        another(name).acquire().succeed()
    names = [*healthy[:5], *(f"z-{number:03}" for number in range(90))]
    act = set_breaker_controls(names=names, control="automatic", actor=SAM)
    assert len(watched(look(act))) == 95
    act = reset(*names)
    assert [row[0] for row in watched(look(act))] == names[5:] + names[:5]


def test_rows_that_hold_anything_break_nothing_and_stay_text(look):
    nul = "a\0b" if connection.vendor == "sqlite" else "only SQLite holds one"
    odd = [HOSTILE, "../../", nul, "\ud800".encode("utf-16", "surrogatepass").hex(), "n" * 9000]
    for results in (5, "text", [5, None, {}], [{"name": None}], [{"name": it} for it in odd]):
        row = record(
            kind="reset_circuit_breakers",
            targets={"names": [*odd, None, 5, {}]},
            outcome={"results": results, "moved": "many", "names": 5},
        )
        page = look(row)
        assert "<script>alert" not in page.text
        assert len(watched(page)) == len(odd)
    trip("shop:a")
    reset("shop:a")
    hostile = Actor.system(HOSTILE, channel="api")
    set_breaker_control(name="shop:a", control="disabled", actor=hostile)
    page = look(Operation.objects.get(kind="reset_circuit_breakers", actor="sam"))
    assert "<script>" not in section(page)


def test_a_name_that_no_store_takes_keeps_no_other_from_being_watched():
    trip("shop:a")
    reset("shop:a")
    row = Operation.objects.get()
    row.targets = {"names": ["\ud800", "shop:a"]}
    watch = follow_up_breakers(row)
    assert {it.name: it.follow_up for it in watch.breakers} == {
        "shop:a": "closed",
        "\ud800": "unknown",
    }


def test_only_those_who_may_see_the_console_see_it_and_for_others_no_store_is_asked(
    client, staff_user, settings
):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    trip("shop:a")
    reset("shop:a")
    url = page_of(Operation.objects.get())
    with round_trips() as sent:
        assert client.get(url).status_code == 302
        client.force_login(staff_user)
        assert client.get(url).status_code == 403
    assert sent["trips"] == 0
    staff_user.user_permissions.add(Permission.objects.get(codename="view_console"))
    assert verdict(client.get(url)) == ("The circuit breaker is closed.", "good")


def test_the_page_is_the_same_until_something_happens_whatever_the_traffic(look):
    trip("shop:a")
    act = reset("shop:a")
    headers = {"X-Console-Refresh": "1", "If-None-Match": look(act)["ETag"]}
    breaker = another("shop:a", failure_threshold=2)
    for _ in range(3):
        breaker.acquire().succeed()
    breaker.acquire().fail()
    state_now(breaker)
    assert look(act, headers=headers).status_code == 304
    breaker.acquire().fail()
    fresh = look(act, headers=headers)
    assert fresh.status_code == 200
    again = {**headers, "If-None-Match": fresh["ETag"]}
    assert look(act, headers=again).status_code == 304
