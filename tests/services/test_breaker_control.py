"""Holding and releasing a breaker through the service: what is done, refused and on record."""

import math

import pytest
from django.contrib.auth.models import Permission
from django.test import override_settings

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, errors, set_breaker_control
from tests.support.breakers import state_now, trip

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")


def build_status(name):
    return next(status for status in services.list_breakers() if status.name == name)


def test_a_hold_is_done_and_on_record():
    breaker = trip("held")
    result = set_breaker_control(
        name="held", control="disabled", actor=SHELL, for_seconds=900, reason="deploy"
    )
    assert result.message == "Circuit breaker held set to disabled"
    assert result.results == [{"name": "held", "from": "open", "to": "disabled"}]
    assert state_now(breaker) == "disabled"
    row = Operation.objects.get(pk=result.operation_id)
    assert (row.kind, row.status, row.reason) == ("control_circuit_breakers", "done", "deploy")
    assert row.targets == {"names": ["held"], "control": "disabled", "for_seconds": 900.0}
    nobody = {"processes": 0, "obeyed": 0, "missing": []}
    assert row.outcome == {
        "count": 1,
        "moved": 1,
        "results": result.results,
        "acknowledged": nobody,
    }
    assert (build_status("held").held_by, build_status("held").hold_reason) == ("root", "deploy")


def test_a_hold_ends_after_an_hour_unless_told_otherwise():
    trip("held")
    set_breaker_control(name="held", control="disabled", actor=SHELL)
    assert Operation.objects.get().targets["for_seconds"] == 3600
    set_breaker_control(name="held", control="disabled", actor=SHELL, for_seconds=math.inf)
    assert build_status("held").held_until is None


def test_a_release_is_an_operation_too():
    trip("held")
    set_breaker_control(name="held", control="forced_open", actor=SHELL)
    result = set_breaker_control(name="held", control="automatic", actor=SHELL)
    assert result.results == [{"name": "held", "from": "forced_open", "to": "half_open"}]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"control": "open"}, "control: one of automatic"),
        ({"control": ""}, "control: one of"),
        ({"control": "disabled", "for_seconds": 0}, "more than 0"),
        ({"control": "disabled", "for_seconds": -1}, "more than 0"),
        ({"control": "disabled", "for_seconds": math.nan}, "more than 0"),
        ({"control": "disabled", "for_seconds": 1e12}, "at most"),
        ({"control": "disabled", "for_seconds": True}, "has to be a number"),
        ({"control": "disabled", "for_seconds": "900"}, "has to be a number"),
        ({"control": "automatic", "for_seconds": 5}, "a release has no duration"),
        ({"control": "disabled", "reason": "x" * 501}, "at most 500"),
    ],
)
def test_what_is_not_asked_for_properly_is_refused(asked, words):
    breaker = trip("held")
    with pytest.raises(services.OperationRejected, match=words):
        set_breaker_control(name="held", actor=SHELL, **asked)
    assert state_now(breaker) == "open"
    assert not Operation.objects.exists()


def test_an_unknown_name_is_held_created_and_recorded_nowhere():
    with pytest.raises(services.UnknownBreakers, match="nope"):
        set_breaker_control(name="nope", control="disabled", actor=SHELL)
    assert not Operation.objects.exists()
    assert services.list_breakers(state="disabled") == []


def test_of_two_operators_with_the_same_view_one_is_told_that_it_moved():
    trip("held")
    seen = build_status("held").generation
    options = {"name": "held", "actor": SHELL, "expected_generation": seen}
    set_breaker_control(control="disabled", **options)
    with pytest.raises(errors.BreakerChanged):
        set_breaker_control(control="forced_open", **options)
    assert build_status("held").control == "disabled"
    assert [row.status for row in Operation.objects.all()] == ["failed", "done"]


def test_a_dry_run_holds_nothing():
    breaker = trip("held")
    result = set_breaker_control(name="held", control="disabled", actor=SHELL, dry_run=True)
    rows = [{"name": "held", "from": "open", "to": "disabled"}]
    assert result.preview == {"count": 1, "breakers": rows}
    assert state_now(breaker) == "open"
    assert not Operation.objects.exists()


def test_it_takes_its_own_permission_where_permissions_are_required(staff_user):
    trip("held")
    actor = Actor.from_user(staff_user, channel="api")
    with override_settings(ANALYTICS_ADMIN={"REQUIRE_MODEL_PERMISSIONS": True}):
        with pytest.raises(services.OperationDenied):
            set_breaker_control(name="held", control="disabled", actor=actor)
        permission = Permission.objects.get(codename="control_circuit_breakers")
        staff_user.user_permissions.add(permission)
        staff_user = type(staff_user).objects.get(pk=staff_user.pk)
        actor = Actor.from_user(staff_user, channel="api")
        set_breaker_control(name="held", control="disabled", actor=actor)
    assert build_status("held").control == "disabled"
