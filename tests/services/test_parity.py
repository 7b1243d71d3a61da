"""One operation, four doors: the same state, the same words, the same row."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from django.core.cache import caches
from django.forms.models import model_to_dict

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.support import doors
from tests.support.api import contents
from tests.support.breakers import trip
from tests.support.doors import ConsoleDoor, Door, Request
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db

REASON = "the backend is healthy again"
NAME, OTHER = "parity.one", "parity.two"
OWN_TO_A_DOOR = {"channel", "actor", "user", "started_at", "finished_at", "duration_ms"}
SOMEBODY = Actor.system("somebody")
CLOSED = ("closed", "automatic", "", False)
"""A breaker's state, control, reason of the hold, and whether the hold ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An operation, what it says and leaves on record, and what it makes of the staged site."""

    request: Request
    kind: str
    targets: dict[str, Any] = field(default_factory=dict)
    message: str
    changes: dict[str, Any]
    """By the part of ``state`` that is another one afterwards."""
    failure: str
    outcome: dict[str, Any] = field(default_factory=dict)
    before: Callable[[], Any] = lambda: None


def moved(old: str, new: str) -> dict[str, Any]:
    return {"count": 1, "moved": 1, "results": [{"name": NAME, "from": old, "to": new}]}


def hold_as(control: str) -> Callable[[], Any]:
    return lambda: services.set_breaker_control(name=NAME, control=control, actor=SOMEBODY)


def softly_cleared() -> None:
    services.clear_search_cache(actor=SOMEBODY, mode="soft")
    search_cache.set("since", "since")


CASES = {
    "clear": Case(
        request=doors.clear("hard"),
        kind="clear_search_cache",
        targets={"mode": "hard", "tags": []},
        message="Search cache cleared",
        changes={"plain": None, "tagged": None, "fallback": None},
        failure="Failed to clear cache",
    ),
    "clear softly": Case(
        request=doors.clear("soft"),
        kind="clear_search_cache",
        targets={"mode": "soft", "tags": []},
        message="Search cache cleared softly: stale results for at most 60 s",
        changes={"plain": None, "tagged": None, "fallback": ("before", "stale")},
        failure="Failed to clear cache",
    ),
    "clear by tags": Case(
        request=doors.clear("hard", ["y z", "x", "x"]),
        kind="clear_search_cache",
        targets={"mode": "hard", "tags": ["x", "y z"]},
        message="Search cache cleared for 2 tags",
        changes={"tagged": None},
        failure="Failed to clear cache",
    ),
    "undo": Case(
        request=doors.undo_clear(),
        kind="undo_clear",
        message="Soft clear undone",
        changes={"plain": "before", "tagged": "before", "fallback": ("before", "hit")},
        failure="Failed to undo the clear",
        before=softly_cleared,
    ),
    "reset all": Case(
        request=doors.reset(None),
        kind="reset_circuit_breakers",
        targets={"names": "all"},
        message="All circuit breakers reset successfully",
        changes={NAME: CLOSED, OTHER: CLOSED},
        failure="Failed to reset circuit breakers",
    ),
    "reset one": Case(
        request=doors.reset(NAME),
        kind="reset_circuit_breakers",
        targets={"names": [NAME]},
        message="1 circuit breaker reset successfully",
        changes={NAME: CLOSED},
        failure="Failed to reset circuit breakers",
    ),
    **{
        f"hold {name} for {seconds} s": Case(
            request=doors.control(NAME, name, seconds),
            kind="control_circuit_breakers",
            targets={"names": [NAME], "control": name, "for_seconds": seconds or 3600},
            message=f"Circuit breaker {NAME} set to {name}",
            changes={NAME: (name, name, REASON, True)},
            failure="Failed to control circuit breaker",
        )
        for name, seconds in (("forced_open", None), ("disabled", 900), ("metrics_only", None))
    },
    "release": Case(
        request=doors.control(NAME, "automatic"),
        kind="control_circuit_breakers",
        targets={"names": [NAME], "control": "automatic"},
        message=f"Circuit breaker {NAME} set to automatic",
        changes={NAME: CLOSED},
        failure="Failed to control circuit breaker",
        before=hold_as("disabled"),
    ),
    "probe": Case(
        request=doors.allow_probe(NAME),
        kind="allow_probe",
        targets={"names": [NAME]},
        message=f"Circuit breaker {NAME} allows a probe",
        changes={NAME: ("half_open", "automatic", "", False)},
        outcome=moved("open", "half_open"),
        failure="Failed to allow a probe",
    ),
    "forget": Case(
        request=doors.forget(NAME),
        kind="forget_circuit_breaker",
        targets={"names": [NAME]},
        message=f"Circuit breaker {NAME} forgotten",
        changes={NAME: None, "keys": []},
        outcome=moved("open", "forgotten"),
        failure="Failed to forget circuit breaker",
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def each_door(superuser: Any) -> dict[str, Door]:
    return doors.every_door(superuser)


def stage(case: Case) -> dict[str, Any]:
    """Bring the site to the same state for each door; return that state."""
    caches["default"].client.get_client(write=True).flushall()
    for alias in caches:
        caches[alias].set("kept", "value")
    search_cache.set("plain", "before")
    search_cache.set("tagged", "before", tags=["x"])
    for name in (NAME, OTHER):
        trip(name)
    case.before()
    Operation.objects.all().delete()
    return state()


def state() -> dict[str, Any]:
    """Return what searches find, also while the backend fails, and what the breakers are."""
    try:
        lookup: Any = search_cache.lookup("plain", _fail)
        fallback = (lookup.value, lookup.state)
    except LookupError:
        fallback = None
    breakers = {
        status.name: (status.state, status.control, status.hold_reason, bool(status.held_until))
        for status in services.list_breakers()
    }
    return {
        "plain": search_cache.get("plain"),
        "since": search_cache.get("since"),
        "tagged": search_cache.get("tagged", tags=["x"]),
        "fallback": fallback,
        "others": [caches[alias].get("kept") for alias in ("default", "breakers")],
        NAME: breakers.get(NAME),
        OTHER: breakers.get(OTHER),
        "keys": sorted(key for key in contents("breakers") if NAME.encode() in key),
    }


def _fail() -> None:
    raise LookupError


def rows() -> list[dict[str, Any]]:
    """Return the rows without what belongs to a door, or is time, and take them away."""
    found = list(Operation.objects.all())
    Operation.objects.all().delete()
    for row in found:
        assert row.finished_at is not None
        row.outcome.pop("seconds_left", None)
    return [model_to_dict(row, exclude=OWN_TO_A_DOOR) for row in found]


def alike(values: list[Any]) -> Any:
    """Return what all doors came to, which is the same."""
    assert values == [values[0]] * len(values)
    return values[0]


@each_case
def test_an_operation_is_the_same_through_every_door_and_signed_by_each(
    case: Case, each_door: dict[str, Door], superuser: Any
) -> None:
    seen, signed = [], {}
    for name, door in each_door.items():
        before = stage(case)
        assert not isinstance(door, ConsoleDoor) or door.offers(case.request)
        answer = door.perform(replace(case.request, reason=REASON))
        operation = Operation.objects.get()
        assert answer.operation_id in {operation.pk, None}
        signed[name] = (operation.channel, operation.user)
        seen.append(((answer.done, answer.message), before, state(), rows()))
    said, before, after, (row,) = alike(seen)
    assert said == (True, case.message)
    changed = {key for key, value in after.items() if value != before[key]}
    assert {key: after[key] for key in case.changes} == case.changes
    assert case.changes.keys() <= changed <= case.changes.keys() | {"keys"}
    assert (row["kind"], row["status"]) == (case.kind, "done")
    assert (row["reason"], row["error"]) == (REASON, "")
    assert row["targets"] == {**row["targets"], **case.targets}
    assert row["outcome"] == {**row["outcome"], **case.outcome}
    assert signed == {
        "service": ("code", superuser),
        "rest": ("api", superuser),
        "console": ("admin", superuser),
        "command": ("command", None),
    }


@each_case
def test_a_failure_is_the_same_through_every_door(
    case: Case, each_door: dict[str, Door], settings: Any
) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    settings.CACHES = {
        alias: {**config, "LOCATION": f"{away}/{number}"}
        for number, (alias, config) in enumerate(settings.CACHES.items())
    }
    seen = []
    for door in each_door.values():
        answer = door.perform(replace(case.request, reason=REASON))
        seen.append((answer.done, answer.message, rows()))
    done, message, (row,) = alike(seen)
    assert (done, message) == (False, f"{case.failure}: the store cannot be reached")
    assert (row["kind"], row["status"]) == (case.kind, "failed")
    assert (row["error"], row["message"]) == ("the store cannot be reached", "")
    assert row["targets"] == {**row["targets"], **case.targets}


@pytest.mark.parametrize(
    "name", ["reset one", "hold disabled for 900 s", "release", "probe", "forget"]
)
def test_a_stale_view_is_refused_alike_with_a_row(name: str, each_door: dict[str, Door]) -> None:
    """The console finds out one step sooner, in the preview, which leaves no row."""
    case, seen = CASES[name], []
    for door_name, door in each_door.items():
        before = stage(case)
        answer = door.perform(replace(case.request, reason=REASON, generation="stale"))
        assert state() == before
        assert not answer.done
        if door_name == "console":
            assert "has changed meanwhile" in answer.message
            assert rows() == []
        else:
            seen.append((answer.message, rows()))
    message, (row,) = alike(seen)
    assert message == f"Circuit breaker {NAME} has changed meanwhile"
    assert (row["status"], row["error"]) == ("failed", "the breaker has changed meanwhile")


REJECTED = {
    "undo without a soft clear": (
        replace(CASES["undo"], before=lambda: None),
        "There is no soft clear to undo",
    ),
    "forget a held one": (
        replace(CASES["forget"], before=hold_as("disabled")),
        "it is held disabled; release it first",
    ),
    **{
        f"probe one that is {control}": (
            replace(CASES["probe"], before=hold_as(control)),
            f"Circuit breaker {NAME} cannot allow a probe: it is {control}, not open",
        )
        for control in ("forced_open", "disabled", "metrics_only")
    },
}


@pytest.mark.parametrize(("case", "words"), REJECTED.values(), ids=REJECTED)
def test_a_rejection_is_the_same_through_every_door_and_leaves_no_row(
    case: Case, words: str, each_door: dict[str, Door]
) -> None:
    seen = []
    for door in each_door.values():
        before = stage(case)
        answer = door.perform(replace(case.request, reason=REASON))
        assert (state(), rows()) == (before, [])
        seen.append((answer.done, answer.message))
    done, message = alike(seen)
    assert not done
    assert message.endswith(words)


@each_case
def test_a_dry_run_is_the_same_through_every_door_and_changes_nothing(
    case: Case, each_door: dict[str, Door]
) -> None:
    seen = []
    for name, door in each_door.items():
        before = stage(case)
        answer = door.perform(replace(case.request, dry_run=True))
        assert (state(), rows()) == (before, [])
        if name == "console":
            assert 'name="confirmed"' in answer.message
        else:
            seen.append((answer.done, answer.message))
    done, message = alike(seen)
    assert done
    assert message.startswith("Dry run: ")
