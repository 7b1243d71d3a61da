"""What the services answer about breakers: the list and its pages, one in full, a single reset."""

import json
import math

import pytest

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    describe_breaker,
    errors,
    list_breakers,
    page_breakers,
    reset_circuit_breakers,
    set_breaker_control,
    to_json,
)
from analytics_admin.services.breakers.queries import BREAKER_STATES
from tests.support.api import nothing_changes
from tests.support.breakers import another, round_trips, snapshot_of, state_now, trip

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")


def names(breakers):
    return [status.name for status in breakers if status.name.startswith("r.")]


@pytest.fixture
def mixed():
    another("r.calm").acquire().succeed()
    for name in ("r.held", "r.Off", "r.open"):
        trip(name)
    set_breaker_control(name="r.held", control="forced_open", actor=SHELL)
    set_breaker_control(name="r.Off", control="disabled", actor=SHELL)


@pytest.mark.usefixtures("mixed")
def test_the_list_is_filtered_by_state_and_by_part_of_the_name():
    assert names(list_breakers()) == ["r.Off", "r.calm", "r.held", "r.open"]
    assert names(list_breakers(state="open")) == ["r.open"]
    assert names(list_breakers(state="disabled")) == ["r.Off"]
    assert names(list_breakers(search=" R.O ")) == ["r.Off", "r.open"]
    assert list_breakers(search="r.o", state="closed") == []


@pytest.mark.usefixtures("mixed")
def test_by_urgency_those_that_refuse_calls_come_first_and_the_closed_ones_last():
    assert names(list_breakers(sort="urgency")) == ["r.held", "r.open", "r.Off", "r.calm"]
    first = page_breakers(search="r.", sort="urgency", page_size=1)
    assert (first.count, first.pages, names(first.breakers)) == (4, 4, ["r.held"])


@pytest.mark.usefixtures("mixed")
def test_the_transition_of_a_reset_names_who_made_it():
    reset_circuit_breakers(names=["r.open"], actor=SHELL)
    reset_circuit_breakers(actor=Actor.system("night", channel="command"))
    page = page_breakers(search="r.", activity=True)
    last = {name: page.activity[name].last_change.actor for name in ("r.held", "r.open")}
    assert last == {"r.held": "night", "r.open": "root"}


def test_a_page_of_the_list_tells_of_its_own_breakers_in_one_round_trip():
    for number in range(7):
        another(f"r.{number}").acquire().fail()
    page_breakers()  # connects, and tells the server the script
    with round_trips() as sent:
        page = page_breakers(search="r.", page=2, page_size=3)
    assert sent["trips"] == 1
    assert (page.count, page.page, page.pages) == (7, 2, 3)
    assert names(page.breakers) == ["r.3", "r.4", "r.5"]
    assert page.breakers[0].consecutive_failures == 1
    assert names(page_breakers(search="r.", page=3, page_size=3).breakers) == ["r.6"]
    assert page_breakers(search="r.", page=4, page_size=3).breakers == []


def test_a_list_without_breakers_has_one_empty_page():
    page = page_breakers(search="nothing is called so")
    assert (page.count, page.page, page.pages, list(page.breakers)) == (0, 1, 1, [])


@pytest.mark.parametrize(
    "asked",
    [
        {"state": "ajar"},
        {"state": ""},
        {"sort": "size"},
        {"page": 0},
        {"page": -1},
        {"page_size": 0},
        {"page_size": 101},
    ],
)
def test_a_list_that_is_not_asked_for_properly_is_a_value_error(asked):
    with pytest.raises(ValueError, match=r"must be one of|pages count"):
        page_breakers(**asked)


def test_every_state_that_calls_can_meet_can_be_asked_for():
    shown = {"closed", "open", "half_open", "unknown", "forced_open", "disabled", "metrics_only"}
    assert set(BREAKER_STATES) == shown
    assert [list_breakers(state=state, search="r.") for state in BREAKER_STATES] == [[]] * 7


def test_a_breaker_is_described_with_counts_policy_and_transitions():
    trip("r.open")
    detail = describe_breaker("r.open")
    assert (detail.status.state, detail.status.control) == ("open", "automatic")
    assert 0 < detail.status.retry_after <= 60
    assert detail.policy["failure_threshold"] == 1
    (opened,) = detail.transitions
    assert (opened.from_state, opened.to_state) == ("closed", "open")
    assert (opened.cause, opened.consecutive_failures) == ("consecutive_failures", 1)
    assert abs((opened.at - detail.since).total_seconds()) < 1


def test_rates_are_unknown_below_the_minimum_and_are_per_cent_from_it_on(settings):
    policy = {"failure_rate_threshold": 90, "minimum_number_of_calls": 4}
    settings.ANALYTICS_ADMIN = {"BREAKERS": {"r.rated": policy}}
    breaker = another("r.rated", **policy)
    for _ in range(3):
        breaker.acquire().fail()
    detail = describe_breaker("r.rated")
    assert (detail.window.calls, detail.failure_rate, detail.slow_call_rate) == (3, None, None)
    breaker.acquire().succeed()
    snapshot_of(breaker)
    detail = describe_breaker("r.rated")
    assert (detail.window.calls, detail.window.failures) == (4, 3)
    assert (detail.failure_rate, detail.slow_call_rate) == (75.0, 0.0)


def test_a_policy_without_rates_has_no_window():
    trip("r.open")
    detail = describe_breaker("r.open")
    assert (detail.window, detail.failure_rate, detail.slow_call_rate) == (None, None, None)


def test_a_breaker_that_nobody_has_used_is_closed_and_is_not_created():
    circuit_breaker("r.unused")
    with nothing_changes():
        detail = describe_breaker("r.unused")
    assert (detail.status.state, detail.status.generation, detail.since) == ("closed", "", None)
    assert list(detail.transitions) == []


def test_an_unknown_breaker_is_not_described_and_not_created():
    with nothing_changes(), pytest.raises(services.UnknownBreakers, match=r"r\.nope"):
        describe_breaker("r.nope")
    assert list_breakers(search="r.nope") == []


class Picky:
    def __call__(self, answer):
        return False


def test_an_answer_in_json_has_numbers_times_and_names(settings):
    policy = {"record_exceptions": (OSError,), "record_result": Picky()}
    settings.ANALYTICS_ADMIN = {"BREAKERS": {"r.plain": policy}}
    another("r.plain", failure_threshold=1, **policy).acquire().fail(OSError())
    set_breaker_control(name="r.plain", control="disabled", actor=SHELL, reason="<b>x</b>")
    answer = json.loads(json.dumps(to_json(describe_breaker("r.plain")), allow_nan=False))
    assert answer["policy"]["record_exceptions"] == ["builtins.OSError"]
    assert answer["policy"]["record_result"].endswith("test_breaker_queries.Picky")
    assert answer["policy"]["wait_duration_in_open_state"] == 60
    assert (answer["hold_reason"], answer["held_by"]) == ("<b>x</b>", "root")
    assert answer["held_until"].endswith("Z")
    assert answer["counts"] == {"calls": 0, "failures": 0, "slow": 0}
    assert [row["cause"] for row in answer["transitions"]] == ["control", "consecutive_failures"]
    assert answer["transitions"][0]["actor"] == "root"


def test_a_reset_of_the_view_that_its_operator_has_is_done():
    breaker = trip("r.open")
    seen = describe_breaker("r.open").status.generation
    result = reset_circuit_breakers(names=["r.open"], actor=SHELL, expected_generation=seen)
    assert result.results == [{"name": "r.open", "from": "open", "to": "closed"}]
    assert state_now(breaker) == "closed"


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_reset_of_a_stale_view_does_nothing_and_says_what_the_breaker_is_now(dry_run):
    breaker = trip("r.open")
    with nothing_changes(rows=not dry_run), pytest.raises(errors.BreakerChanged) as moved:
        reset_circuit_breakers(
            names=["r.open"], actor=SHELL, expected_generation="stale", dry_run=dry_run
        )
    assert moved.value.status.state == state_now(breaker) == "open"
    assert [row.pk for row in Operation.objects.all()] == [moved.value.operation_id] * (not dry_run)
    assert [row.status for row in Operation.objects.all()] == ["failed"] * (not dry_run)


def test_a_reset_overtaken_by_another_operator_is_not_done(monkeypatch):
    """The other's act falls between this one's look and its write."""
    from analytics_admin.breakers import runtime

    trip("r.open")
    seen = describe_breaker("r.open").status.generation
    store = runtime.operator_store()
    real = store.compare_and_set

    def overtaken(moves):
        monkeypatch.setattr(store, "compare_and_set", real)
        set_breaker_control(name="r.open", control="forced_open", actor=SHELL, for_seconds=math.inf)
        return real(moves)

    monkeypatch.setattr(store, "compare_and_set", overtaken)
    with pytest.raises(errors.BreakerChanged):
        reset_circuit_breakers(names=["r.open"], actor=SHELL, expected_generation=seen)
    assert describe_breaker("r.open").status.control == "forced_open"


@pytest.mark.parametrize("several", [None, ["r.one", "r.two"]])
def test_a_generation_is_that_of_one_breaker(several):
    with pytest.raises(ValueError, match="one name"):
        reset_circuit_breakers(names=several, actor=SHELL, expected_generation="x")
