"""A breaker's page: its past as one line, its policy option by option, the probe let through."""

import re
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.console.breakers.labels import OPTIONS, format_policy_value
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    OperationRejected,
    allow_probe,
    clear_search_cache,
    reset_circuit_breakers,
    set_breaker_control,
    set_breaker_controls,
)
from analytics_admin.services.breakers import timeline
from analytics_admin.services.breakers.queries import explain_policy
from analytics_admin.services.breakers.timeline import build_timeline, list_operations_on_breaker
from analytics_admin.services.errors import BreakerNotOpen
from tests.support.breakers import another, snapshot_of, state_now, trip
from tests.support.console_pages import asked, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGE = f"{BREAKERS}past:1/"
PROBE = f"{PAGE}probe/"
ADA = Actor.system("ada" * 30, channel="api")  # longer than what a transition keeps of it
SAM = Actor.system("sam", channel="command")
NOTHING = "\u2013"

pytestmark = pytest.mark.django_db


def table(page, name):
    """Return the table's rows as the texts of their cells, without the phone's labels."""
    found = re.search(rf'id="{name}".*?<tbody>(.*?)</tbody>', page.text, re.DOTALL)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", found[1], re.DOTALL) if found else []
    plain = [re.sub(r'<span class="aa-label">.*?</span>', "", row) for row in rows]
    return [
        [
            " ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in plain
    ]


def past(page):
    return [row[1:] for row in table(page, "aa-timeline")]


def test_transitions_and_acts_are_one_line_newest_first(operator):
    trip("past:1")
    set_breaker_control(name="past:1", control="forced_open", actor=ADA, reason="quiet, please")
    reset_circuit_breakers(actor=SAM, names=["past:1"], reason="all is well")
    assert past(operator.get(PAGE)) == [
        ["Reset", "⊗ Forced open", "✓ Closed", "sam", "all is well"],
        ["Held", "✕ Open", "⊗ Forced open", "ada" * 30, "quiet, please"],
        ["Consecutive failures", "✓ Closed", "✕ Open", NOTHING, NOTHING],
    ]


def test_an_operation_leads_to_its_row_in_the_audit_trail(operator):
    done = set_breaker_control(name=trip("past:1").name, control="disabled", actor=SAM)
    link = f'<a href="/admin/analytics_admin/operation/{done.operation_id}/">Held</a>'
    page = operator.get(PAGE).text
    assert link in page
    assert len(re.findall(r'href="/admin/analytics_admin/operation/[0-9a-f-]+/"', page)) == 1


def test_an_operation_that_moved_nothing_or_failed_is_told_as_well(operator):
    trip("past:1")
    reset_circuit_breakers(actor=SAM, names=["past:1"])
    reset_circuit_breakers(actor=SAM, reason="everything")
    Operation.objects.filter(reason="everything").update(status="failed")
    first, second, third = past(operator.get(PAGE))
    assert first == ["Reset all ✕ Failed", NOTHING, NOTHING, "sam", "everything"]
    assert second[0] == "Reset"
    assert third[0] == "Consecutive failures"


def test_acts_on_other_breakers_are_not_of_its_past():
    for name in ("past:1", "past:10", "other"):
        trip(name)
    set_breaker_controls(names=["past:10", "other"], control="disabled", actor=SAM)
    reset_circuit_breakers(actor=SAM, names=["other"], only_open=False)
    clear_search_cache(actor=SAM)
    assert list_operations_on_breaker("past:1") == []
    mine = set_breaker_controls(names=["other", "past:1"], control="disabled", actor=SAM)
    assert [operation.pk for operation in list_operations_on_breaker("past:1")] == [
        mine.operation_id
    ]


def test_rows_that_hold_anything_are_passed_over(operator):
    trip("past:1")
    for odd in ([], "all", 5, {"names": "past:1"}, {"names": None}, {"names": {"past:1": 1}}):
        for outcome in ([], {"results": {"name": "past:1"}}, {"results": ["past:1", None]}):
            row = {"kind": "reset_circuit_breakers", "channel": "code", "actor": "old release"}
            Operation.objects.create(**row, status="done", targets=odd, outcome=outcome)
    Operation.objects.create(**row, targets={"names": "all", "only_open": True}, outcome=[])
    assert list_operations_on_breaker("past:1") == []
    assert [row[0] for row in past(operator.get(PAGE))] == ["Consecutive failures"]


def test_a_reset_of_the_open_ones_concerns_those_that_it_moved():
    trip("past:1")
    another("calm").acquire().succeed()
    reset_circuit_breakers(actor=SAM, only_open=True)
    assert len(list_operations_on_breaker("past:1")) == 1
    assert list_operations_on_breaker("calm") == []


def test_of_two_acts_at_one_time_each_has_its_own_transition():
    trip("past:1")
    for control in ("disabled", "metrics_only"):
        set_breaker_control(name="past:1", control=control, actor=SAM)
    transitions = services.describe_breaker("past:1").transitions
    events = build_timeline("past:1", transitions, list_operations_on_breaker("past:1"))
    assert [event.operation and event.operation.targets["control"] for event in events] == [
        "metrics_only",
        "disabled",
        None,
    ]
    assert [event.transition.to_state for event in events] == ["metrics_only", "disabled", "open"]


def test_an_operation_of_somebody_else_or_of_another_time_is_not_taken_for_the_cause():
    set_breaker_control(name=trip("past:1").name, control="disabled", actor=SAM)
    transitions = services.describe_breaker("past:1").transitions
    (operation,) = list_operations_on_breaker("past:1")
    operation.actor = "eve"
    assert len(build_timeline("past:1", transitions, [operation])) == 3
    operation.actor = "sam"
    assert len(build_timeline("past:1", transitions, [operation])) == 2
    operation.started_at -= timeline.MAX_OPERATION_DURATION * 3
    operation.finished_at = operation.started_at
    assert len(build_timeline("past:1", transitions, [operation])) == 3


def test_the_past_is_bounded_and_one_query_however_many_acts_there_are(operator, monkeypatch):
    monkeypatch.setattr(timeline, "MAX_OPERATIONS_SEARCHED", 30)
    trip("past:1")
    set_breaker_control(name="past:1", control="disabled", actor=SAM)
    with CaptureQueriesContext(connection) as few:
        operator.get(PAGE)
    row = {"kind": "control_circuit_breakers", "actor": "eve", "status": "done"}
    for number in range(50):
        names = ["past:1"] if number % 2 else ["other"]
        Operation.objects.create(**row, channel="api", targets={"names": names})
    with CaptureQueriesContext(connection) as many:
        page = operator.get(PAGE)
    assert len(few) == len(many)
    assert len(list_operations_on_breaker("past:1")) == 15
    assert len(past(page)) == 17


@pytest.mark.django_db(transaction=True)
def test_without_the_audit_trail_the_page_says_what_is_missing(operator, monkeypatch):
    set_breaker_control(name=trip("past:1").name, control="disabled", actor=SAM)

    monkeypatch.setattr(Operation._meta, "db_table", "secret_table_that_is_gone")
    page = operator.get(PAGE)
    assert page.status_code == 200
    assert "The audit trail cannot be read: the database is not migrated." in page.text
    assert "secret_table" not in page.text
    assert [row[0] for row in past(page)] == ["Held", "Consecutive failures"]


@pytest.mark.usefixtures("lost")
def test_with_the_store_away_the_operations_are_still_told(operator):
    row = {"kind": "reset_circuit_breakers", "actor": "sam", "status": "done", "channel": "api"}
    Operation.objects.create(**row, targets={"names": ["past:1"]}, reason="deploy")
    page = operator.get(PAGE)
    assert past(page) == [["Reset", NOTHING, NOTHING, "sam", "deploy"]]
    assert "The transitions cannot be read" in page.text


# The policy.


def test_each_option_is_told_with_its_unit_and_who_chose_it(operator, settings):
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "BREAKER_DEFAULTS": {"randomized_wait_factor": 0.2},
        "BREAKERS": {"policy.told": {"wait_duration_in_open_state": 90}},
    }
    circuit_breaker(
        "policy.told",
        failure_threshold=3,
        failure_rate_threshold=50,
        sliding_window_type="time_based",
        wait_duration_in_open_state=10,
        ignore_exceptions=(KeyError,),
    ).acquire().succeed()
    page = operator.get(f"{BREAKERS}policy.told/")
    options = {row[1]: (row[2], row[3]) for row in table(page, "aa-options")}
    assert set(options) == set(OPTIONS)
    assert options["failure_threshold"] == ("3", "code (default: off)")
    assert options["failure_rate_threshold"] == ("50 %", "code (default: off)")
    assert options["wait_duration_in_open_state"] == (
        "90 s",
        "settings: BREAKERS (default: 60 s)",
    )
    assert options["randomized_wait_factor"] == (
        "± 20 %",
        "settings: BREAKER_DEFAULTS (default: none)",
    )
    assert options["sliding_window_size"] == ("100 s", "default")
    assert options["ignore_exceptions"] == ("builtins.KeyError", "code (default: none)")
    assert options["max_wait_duration_in_open_state"] == ("no limit", "default")
    assert options["slow_call_duration_threshold"] == ("60 s", "default")


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("policy.plain", {}, ("5", "default")),
        ("policy.rate", {"failure_rate_threshold": 50}, ("off", "default")),
        ("policy.slow", {"slow_call_rate_threshold": 50}, ("off", "default")),
        (
            "policy.both",
            {"slow_call_rate_threshold": 50, "failure_threshold": 5},
            ("5", "code (default: off)"),
        ),
    ],
)
def test_the_page_says_that_a_rate_switches_the_consecutive_rule_off(
    operator, name, options, shown
):
    breaker = circuit_breaker(name, **options)
    breaker.acquire().succeed()
    snapshot_of(breaker)
    page = operator.get(f"{BREAKERS}{name}/")
    rows = {row[1]: (row[2], row[3]) for row in table(page, "aa-options")}
    assert rows["failure_threshold"] == shown


def test_a_policy_of_another_process_is_not_said_to_be_this_ones():
    breaker = another("policy.foreign", failure_threshold=7)
    breaker.acquire().succeed()
    snapshot_of(breaker)
    snapshot_of(breaker)
    detail = services.describe_breaker("policy.foreign")
    by_name = {it.name: it for it in explain_policy("policy.foreign", detail.policy)}
    assert by_name["failure_threshold"].value == 7
    assert by_name["failure_threshold"].chosen_by == "elsewhere"
    assert by_name["sliding_window_size"].is_default


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("failure_threshold", None, "off"),
        ("failure_rate_threshold", 12.5, "12.5 %"),
        ("sliding_window_size", 1, "1 call"),
        ("sliding_window_size", 10_000, "10,000 calls"),
        ("wait_duration_in_open_state", 0.25, "0.25 s"),
        ("open_state_backoff_multiplier", 2.0, "\u00d7 2"),
        ("record_exceptions", ["a.B", "c.D"], "a.B, c.D"),
        ("record_exceptions", [], "none"),
        ("record_result", "shop.is_bad", "shop.is_bad"),
        ("record_result", None, "none"),
        ("of_a_later_release", 5, "5"),
    ],
)
def test_a_value_reads_with_its_unit(option, value, words):
    assert format_policy_value(option, value, {"sliding_window_type": "count_based"}) == words


# The probe.


def button(page):
    return re.search(r'id="aa-allow-probe".*?(<button[^>]*>)', page.text, re.DOTALL)[1]


def test_a_probe_is_let_through_an_open_breaker_after_a_confirm_page(operator, superuser):
    breaker = trip("past:1")
    page = operator.get(PAGE)
    assert "disabled" not in button(page)
    confirm = operator.post(PROBE, asked(page, PROBE))
    assert "Allow a probe of the circuit breaker past:1?" in confirm.text
    assert "manage.py allow_probe past:1" in unescape(confirm.text)
    assert state_now(breaker) == "open"
    answer = operator.post(PROBE, {**asked(confirm, PROBE), "reason": "they say"}, follow=True)
    assert told(answer) == [("success", "Circuit breaker past:1 allows a probe")]
    assert state_now(breaker) == "half_open"
    assert past(answer)[0] == [
        "Allow probe",
        "✕ Open",
        "◐ Half open",
        superuser.get_username(),
        "they say",
    ]


@pytest.mark.parametrize(
    ("come_to_be", "why"),
    [
        (lambda: another("past:1").acquire().succeed(), "It is not open: calls pass."),
        (
            lambda: allow_probe(name=trip("past:1").name, actor=SAM),
            "It is half open: probes already pass.",
        ),
        (
            lambda: set_breaker_control(name=trip("past:1").name, control="forced_open", actor=SAM),
            "It is held: release it first.",
        ),
    ],
    ids=["closed", "half open", "held"],
)
def test_no_probe_is_offered_where_none_can_be_let_through(operator, come_to_be, why):
    come_to_be()
    page = operator.get(PAGE)
    assert "disabled" in button(page)
    assert f'<p id="aa-probe-disabled-reason" class="help">{why}</p>' in page.text
    with pytest.raises((BreakerNotOpen, OperationRejected)):
        allow_probe(name="past:1", actor=SAM)
    rows = list(Operation.objects.values())
    sent = {**asked(page, PROBE), "confirmed": "yes"}
    answer = operator.post(PROBE, sent, follow=True)
    assert [level for level, _ in told(answer)] == ["error"]
    assert list(Operation.objects.values()) == rows


# The page as a whole.


def test_the_page_is_the_same_while_only_the_clock_goes_on_and_another_after_an_operation(
    operator, still_drawing
):
    trip("past:1")
    page = operator.get(PAGE)
    headers = {"X-Console-Refresh": "1", "If-None-Match": page["ETag"]}
    assert operator.get(PAGE, headers=headers).status_code == 304
    reset_circuit_breakers(actor=SAM, names=["past:1"])
    fresh = operator.get(PAGE, headers=headers)
    assert fresh.status_code == 200
    again = {"X-Console-Refresh": "1", "If-None-Match": fresh["ETag"]}
    assert operator.get(PAGE, headers=again).status_code == 304
    reset_circuit_breakers(actor=SAM, names=["past:1"])  # moves nothing, and is on record
    assert operator.get(PAGE, headers=again).status_code == 200
