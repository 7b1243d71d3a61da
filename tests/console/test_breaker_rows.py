"""The rows of the list of breakers: what they tell of each, and when the page is a new one."""

import re
import time
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError, runtime
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.console.breakers.labels import next_probe_at
from analytics_admin.services import Actor, set_breaker_control
from tests.support.breakers import another, snapshot_of, trip

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
SHELL = Actor.system("root", channel="command")
NOTHING = "\u2013"
COLUMNS = [
    "Name",
    "State",
    "Failure rate",
    "Calls/min",
    "Rejected",
    "Last 5 minutes",
    "Next probe",
    "Hold",
    "Last change",
]


def text_of(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def row(page, name):
    """Return the breaker's cells by their columns' headings, as text."""
    head = re.search(r'id="aa-breakers".*?<thead>(.*?)</thead>', page.text, re.DOTALL)[1]
    headings = [text_of(cell) for cell in re.findall(r"<th .*?</th>", head, re.DOTALL)][1:]
    body = re.search(rf'<tr data-key="{re.escape(name)}">(.*?)</tr>', page.text, re.DOTALL)[1]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", body, re.DOTALL)[1:]
    cells = [re.sub(r'<span class="aa-label">.*?</span>', "", cell) for cell in cells]
    return dict(zip(headings, map(text_of, cells), strict=True))


def paths(page, name):
    body = re.search(rf'<tr data-key="{re.escape(name)}">(.*?)</tr>', page.text, re.DOTALL)[1]
    return dict(re.findall(r'<path class="aa-spark-(\w+)" d="([^"]*)">', body))


def use(name, *, successes=0, failures=0, rejected=0, **policy):
    breaker = another(name, **policy)
    for _ in range(successes):
        breaker.acquire().succeed()
    for _ in range(failures):
        breaker.acquire().fail(OSError("down"))
    for _ in range(rejected):
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
    snapshot_of(breaker)
    return breaker


def test_every_column_says_what_an_operator_needs_at_night(operator):
    use("r.busy", successes=2, failures=6, rejected=3, failure_threshold=6)
    told = row(operator.get(BREAKERS), "r.busy")
    assert list(told) == COLUMNS
    assert told["State"] == "✕ Open"
    assert told["Failure rate"] == "75 %"
    assert told["Rejected"] == "3"
    assert told["Last 5 minutes"] == "Calls: 8, failed: 6, rejected: 3"
    assert re.fullmatch(r"1:0[01]|0:5\d", told["Next probe"])
    assert told["Hold"] == NOTHING
    assert told["Last change"].endswith("minutes ago Consecutive failures")


def test_a_breaker_that_nobody_called_has_no_rate_and_an_empty_drawing(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": {"r.unused": {}}}
    page = operator.get(BREAKERS)
    told = row(page, "r.unused")
    assert (
        told["Failure rate"] == told["Next probe"] == told["Hold"] == told["Last change"] == NOTHING
    )
    assert told["Calls/min"] == told["Rejected"] == "0"
    assert told["Last 5 minutes"] == "Calls: 0, failed: 0, rejected: 0"
    assert paths(page, "r.unused") == {"calls": "", "trouble": ""}


def test_failures_in_a_row_are_told_before_they_open_it(operator):
    use("r.near", successes=1, failures=4)
    assert row(operator.get(BREAKERS), "r.near")["Failure rate"] == "80 % 4 in a row"


def test_a_rate_that_is_not_quite_nothing_or_everything_reads_so(operator):
    use("r.once", successes=3000, failures=1)
    assert row(operator.get(BREAKERS), "r.once")["Failure rate"] == "0.1 %"


def test_when_the_wait_is_over_it_is_ready_to_probe(operator):
    use("r.ready", failures=1, failure_threshold=1, wait_duration_in_open_state=0.01)
    time.sleep(0.02)
    assert row(operator.get(BREAKERS), "r.ready")["Next probe"] == "ready to probe"


def test_a_held_breaker_tells_how_long_by_whom_and_why_and_waits_for_no_probe(operator):
    trip("r.held")
    set_breaker_control(
        name="r.held", control="forced_open", actor=SHELL, for_seconds=900, reason="w" * 200
    )
    told = row(operator.get(BREAKERS), "r.held")
    assert re.fullmatch(r"1[45]:\d\d left by root w{79}…", told["Hold"])
    assert told["Next probe"] == NOTHING
    assert told["Last change"].endswith("Held root")
    set_breaker_control(name="r.held", control="disabled", actor=SHELL, for_seconds=float("inf"))
    assert row(operator.get(BREAKERS), "r.held")["Hold"] == "until released by root"


def test_the_next_probe_is_the_same_instant_at_each_look():
    trip("r.open")
    seen = []
    for _ in range(5):
        page = services.page_breakers(search="r.open")
        seen.append(next_probe_at(page.breakers[0], page.at))
        time.sleep(0.03)
    assert len(set(seen)) == 1
    assert timedelta(0) < seen[0] - datetime.now(UTC) <= timedelta(seconds=60)


def look_again(client, page, **asked):
    headers = {"X-Console-Refresh": "1", "If-None-Match": page["ETag"]}
    return client.get(BREAKERS, asked, headers=headers)


def test_the_list_is_the_same_while_only_the_clock_goes_on(operator, still_drawing):
    trip("r.open")
    set_breaker_control(name="r.open", control="forced_open", actor=SHELL, for_seconds=900)
    trip("r.waits")
    page = operator.get(BREAKERS)
    time.sleep(0.15)
    assert look_again(operator, page).status_code == 304


@pytest.mark.parametrize(
    "happens",
    [
        lambda: use("r.calm", successes=1),
        lambda: trip("r.calm"),
        lambda: set_breaker_control(name="r.calm", control="disabled", actor=SHELL),
        lambda: another("r.new").acquire().succeed(),
    ],
    ids=["a call", "an opening", "a hold", "a new breaker"],
)
def test_the_list_is_a_new_one_after(operator, happens):
    use("r.calm", successes=1)
    page = operator.get(BREAKERS)
    happens()
    again = look_again(operator, page)
    assert (again.status_code, again["ETag"] != page["ETag"]) == (200, True)


def test_a_history_that_moves_makes_the_list_a_new_one(operator):
    use("r.calm", successes=1)
    page = operator.get(BREAKERS)
    store = runtime.operator_store()
    history = store._key("r.calm", "periods")
    ((at, counted),) = store._client.hgetall(history).items()
    store._client.delete(history)
    store._client.hset(history, int(at) - 10, counted)
    assert look_again(operator, page).status_code == 200


def create(number):
    moves = [Move(name=f"n.{index:04}", expected=None, new=new_record()) for index in range(number)]
    runtime.operator_store().compare_and_set(moves)


@pytest.fixture
def costs(operator, monkeypatch):
    """Return a function that tells of a page view: database queries, store round trips."""
    sent, send = [], AbstractConnection.send_packed_command

    def counted_send(self, *args, **options):
        sent.append(self)
        return send(self, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted_send)

    def costs(path=BREAKERS):
        sent.clear()
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(path).status_code == 200
        return len(queries), len(sent)

    return costs


@pytest.mark.parametrize("path", [BREAKERS, f"{BREAKERS}n.0001/"])
def test_a_page_of_three_hundred_breakers_costs_at_most_one_round_trip_more(costs, path):
    create(3)
    costs(path)  # what a process learns once
    queries, trips = costs(path)
    assert trips == 1
    create(300)
    costs(path)
    many_queries, many_trips = costs(path)
    assert many_queries == queries
    assert many_trips <= 2


def test_the_first_look_at_a_page_of_all_costs_one_round_trip_too(costs):
    create(37)
    costs(f"{BREAKERS}n.0001/")  # the scripts are known from then on
    costs()
    assert costs()[1] == 1


def test_who_may_do_nothing_ticks_nothing(client, staff_user, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    staff_user.user_permissions.add(Permission.objects.get(codename="view_console"))
    client.force_login(staff_user)
    trip("r.open")
    page = client.get(BREAKERS).text
    boxes = re.findall(r'<input type="checkbox"[^>]*>', page)
    assert len(boxes) > 1
    assert all(" disabled" in box for box in boxes)
