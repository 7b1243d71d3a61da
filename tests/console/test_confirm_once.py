"""A confirm page is one operation, however often it is sent: later answers report the first."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import caches
from django.test import Client
from django.utils import timezone

from analytics_admin import services
from analytics_admin.caching.clear import hard
from analytics_admin.console import confirmation
from analytics_admin.console.breakers import operations
from analytics_admin.console.search_cache import operations as console_acts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.support.breakers import trip
from tests.support.console_pages import inputs, told

SHELL = Actor.system("root", channel="command")
CACHE = "/admin/analytics_admin/searchcache/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
ONE = f"{BREAKERS}once.1/"


def soft_clear() -> None:
    services.clear_search_cache(actor=SHELL, mode="soft")
    Operation.objects.all().delete()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation of the console: the button's form, and what the operation answers."""

    act: type[confirmation.ConfirmedOperation]
    url: str
    back: str
    pressed: dict[str, Any] = field(default_factory=dict)
    message: str
    before: Callable[[], None] = lambda: None


SOME_ID = "21db1be4-d5c1-485d-a763-96a860141f48"
TICKED = {"names": ["once.1", "once.2"]}
CASES = {
    "clear": Case(
        act=console_acts.Clear,
        url=f"{CACHE}clear/",
        back=CACHE,
        pressed={"mode": "hard"},
        message="Search cache cleared",
    ),
    "undo": Case(
        act=console_acts.Undo,
        url=f"{CACHE}undo/",
        back=CACHE,
        message="Soft clear undone",
        before=soft_clear,
    ),
    "reset all": Case(
        act=operations.ResetMany,
        url=f"{BREAKERS}reset/",
        back=BREAKERS,
        message="All circuit breakers reset successfully",
    ),
    "reset one": Case(
        act=operations.ResetOne,
        url=f"{ONE}reset/",
        back=ONE,
        pressed={"expected_generation": ...},
        message="1 circuit breaker reset successfully",
    ),
    "hold one": Case(
        act=operations.ControlOne,
        url=f"{ONE}control/",
        back=ONE,
        pressed={"expected_generation": ..., "control": "disabled", "for_seconds": "900"},
        message="Circuit breaker once.1 set to disabled",
    ),
    "probe one": Case(
        act=operations.ProbeOne,
        url=f"{ONE}probe/",
        back=ONE,
        pressed={"expected_generation": ...},
        message="Circuit breaker once.1 allows a probe",
    ),
    "forget one": Case(
        act=operations.ForgetOne,
        url=f"{ONE}forget/",
        back=BREAKERS,
        pressed={"expected_generation": ...},
        message="Circuit breaker once.1 forgotten",
    ),
    "reset ticked": Case(
        act=operations.ResetSelected,
        url=f"{BREAKERS}-/reset/",
        back=BREAKERS,
        pressed=TICKED,
        message="2 circuit breakers reset successfully",
    ),
    "hold ticked": Case(
        act=operations.ControlSelected,
        url=f"{BREAKERS}-/control/",
        back=BREAKERS,
        pressed={**TICKED, "control": "disabled"},
        message="2 circuit breakers set to disabled",
    ),
}


@pytest.fixture
def operator(client, superuser):
    client.force_login(superuser)
    for name in ("once.1", "once.2"):
        trip(name)
    return client


def press(client, case):
    case.before()
    seen = services.describe_breaker("once.1").status.generation
    return client.post(
        case.url, {key: seen if it is ... else it for key, it in case.pressed.items()}
    )


def filled_in(page, case, **more):
    """Return what the confirm page sends once it is confirmed."""
    fields = inputs(page, case.url)
    names = dict.fromkeys(name for name, _ in fields)
    sent = {name: [value.strip() for key, value in fields if key == name] for name in names}
    return {"for_seconds": "900"} | sent | more


def concrete(cls):
    return [
        operation
        for found in cls.__subclasses__()
        for operation in ([found] if hasattr(found, "kind") else concrete(found))
    ]


def test_every_operation_of_the_console_is_in_the_table():
    assert {case.act for case in CASES.values()} == set(concrete(confirmation.ConfirmedOperation))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_operation_is_done_once_and_said_again(operator, superuser, case):
    data = filled_in(press(operator, case), case, reason="once")
    first, second = (operator.post(case.url, data, follow=True) for _ in range(2))
    assert first.redirect_chain == second.redirect_chain == [(case.back, 302)]
    assert told(first) == [("success", case.message)]
    assert told(second) == [("success", f"This was already done: {case.message}")]
    row = Operation.objects.get()
    assert (row.pk, row.status, row.message) == (UUID(data["attempt"][0]), "done", case.message)
    assert (row.user, row.reason) == (superuser, "once")
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_page_that_asks_is_an_attempt_of_its_own(operator, case):
    page, again = press(operator, case), press(operator, case)
    attempts = [filled_in(it, case)["attempt"][0] for it in (page, again)]
    assert len({UUID(attempt) for attempt in attempts}) == 2


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_malformed_attempt_is_an_error_and_nothing_is_done(operator, case):
    page = press(operator, case)
    malformed = ["", "x", "0" * 32, f"{{{SOME_ID}}}", "\0", SOME_ID * 2]
    # Each of them is sent to one operation, and by turns to a third of the others.
    turn = list(CASES.values()).index(case)
    for attempt in malformed[turn % 3 :: 3] if turn else malformed:
        data = filled_in(page, case, attempt=attempt)
        (said,) = told(operator.post(case.url, data, follow=True))
        assert said == ("error", "The confirmation page is damaged. Nothing was done."), attempt
        assert not Operation.objects.exists(), attempt


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_script_that_sends_no_attempt_acts_as_ever(operator, case):
    data = filled_in(press(operator, case), case)
    del data["attempt"]
    assert told(operator.post(case.url, data, follow=True)) == [("success", case.message)]


CLEAR = CASES["clear"]


def test_two_attempts_at_once_are_none(operator):
    data = filled_in(press(operator, CLEAR), CLEAR, attempt=[str(uuid4()), str(uuid4())])
    assert told(operator.post(CLEAR.url, data, follow=True))[0][0] == "error"
    assert not Operation.objects.exists()


def test_a_page_shown_again_for_its_reason_can_be_sent_again(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    page = operator.post(CLEAR.url, filled_in(press(operator, CLEAR), CLEAR, reason=""))
    data = filled_in(page, CLEAR, reason="now with one")
    assert told(operator.post(CLEAR.url, data, follow=True)) == [("success", CLEAR.message)]


def test_a_reload_after_a_failure_tells_of_it_and_does_nothing(operator, monkeypatch):
    data = filled_in(press(operator, CLEAR), CLEAR)
    with monkeypatch.context() as patch:
        patch.setattr(hard, "clear", unreachable)
        first = operator.post(CLEAR.url, data, follow=True)
    caches["search"].set("key", "value")
    second = operator.post(CLEAR.url, data, follow=True)
    failure = "Failed to clear cache: the store cannot be reached"
    assert told(first) == [("error", failure)]
    assert told(second) == [("error", f"This was already tried: {failure}")]
    assert first.redirect_chain == second.redirect_chain
    assert caches["search"].get("key") == "value"
    assert Operation.objects.get().status == "failed"


def unreachable(**_):
    raise services.StoreUnavailable("the store cannot be reached")


def test_a_stale_page_sent_twice_is_refused_twice_and_can_be_sent_anew(operator):
    case = CASES["reset ticked"]
    data = filled_in(press(operator, case), case)
    services.reset_circuit_breakers(actor=SHELL, names=["once.1"])
    Operation.objects.all().delete()
    shown_anew = operator.post(case.url, data)
    assert shown_anew.status_code == 200
    (said,) = told(operator.post(case.url, data, follow=True))
    assert said[1].startswith("This was already tried: Failed to reset circuit breakers")
    anew = operator.post(case.url, filled_in(shown_anew, case), follow=True)
    assert told(anew) == [("success", case.message)]
    assert sorted(row.status for row in Operation.objects.all()) == ["done", "failed"]


@pytest.mark.parametrize(
    ("age", "level", "words"),
    [
        (1, "info", "This is already in progress."),
        (11, "error", "This was already started; its outcome is unknown."),
    ],
)
def test_an_operation_without_an_end_is_said_to_be_under_way_or_unknown(
    operator, age, level, words
):
    data = filled_in(press(operator, CLEAR), CLEAR)
    operator.post(CLEAR.url, data, follow=True)
    began = timezone.now() - timedelta(minutes=age)
    Operation.objects.update(status="started", message="", finished_at=None, started_at=began)
    assert told(operator.post(CLEAR.url, data, follow=True)) == [(level, words)]


def test_nobody_learns_anything_from_the_id_of_somebody_elses_act(operator, django_user_model):
    data = filled_in(press(operator, CLEAR), CLEAR, reason="secret plans")
    operator.post(CLEAR.url, data)
    other = Client()
    other.force_login(django_user_model.objects.create_superuser("olga"))
    answer = other.post(CLEAR.url, data, follow=True)
    assert told(answer) == [("error", "This page was already submitted. Nothing was done.")]
    assert Operation.objects.count() == 1


def test_the_id_of_another_operation_is_no_leave_and_no_claim_that_this_one_is_done(operator):
    done = filled_in(press(operator, CLEAR), CLEAR)
    operator.post(CLEAR.url, done)
    case = CASES["reset all"]
    data = filled_in(press(operator, case), case, attempt=done["attempt"])
    answer = operator.post(case.url, data, follow=True)
    assert told(answer) == [("error", "This page was already submitted. Nothing was done.")]
    assert services.describe_breaker("once.1").status.state == "open"


def test_the_id_of_a_refused_act_is_no_leave_and_nobody_is_told_that_it_was_tried(
    operator, superuser
):
    refused = Operation.objects.create(
        kind="clear_search_cache", status="denied", user=superuser, channel="admin", actor="admin"
    )
    data = filled_in(press(operator, CLEAR), CLEAR, attempt=str(refused.pk))
    answer = operator.post(CLEAR.url, data, follow=True)
    assert told(answer) == [("error", "This page was already submitted. Nothing was done.")]


def test_the_buttons_of_the_pages_carry_no_attempt(operator):
    for page in (CACHE, BREAKERS, ONE):
        assert not re.search(r'name="attempt"', operator.get(page).text)
