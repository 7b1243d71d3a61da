"""Every operation's pages in the console: the question, the result, and why it was not done."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from django.core.cache import caches
from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services.breakers import operations
from tests.console.staging import (
    AWAY,
    REASON,
    SHELL,
    changed,
    fill_the_cache,
    record,
    sign_in_with,
    url,
)
from tests.support.breakers import trip
from tests.support.console_pages import inputs

SEEN = "…"  # stands for the generation that the breaker has by then
Pressed = dict[str, Any]
HOLD = {"control": "forced_open", "for_seconds": "900", "expected_generation": SEEN}

ACTS: dict[str, dict[str, Pressed]] = {
    "searchcache/clear/": {
        "hard": {"mode": "hard"},
        "soft": {"mode": "soft"},
        "by tags": {"mode": "tags", "tags": "1, 2"},
        "by tags, without one": {"mode": "tags", "tags": ""},
        "by a tag that is too long": {"mode": "tags", "tags": "1" * 400},
        "in no way": {"mode": "8"},
    },
    "searchcache/undo/": {"": {}},
    "circuitbreaker/reset/": {"all": {}, "open": {"only_open": "True"}},
    "circuitbreaker/-/reset/": {"two": {"names": ["1", "2"]}, "none": {}},
    "circuitbreaker/-/control/": {
        **{
            control: {"names": ["1", "2"], "control": control, "for_seconds": "900"}
            for control in operations.CONTROLS
        },
        "one": {"names": ["1"], "control": "disabled", "for_seconds": "inf"},
        "none": {"control": "disabled"},
        "unknown": {"names": ["3"], "control": "disabled"},
        "to nothing": {"names": ["1"], "control": "8"},
    },
    "circuitbreaker/<str:name>/control/": {
        **{control: {**HOLD, "control": control} for control in operations.CONTROLS},
        "stale": {**HOLD, "expected_generation": "1"},
        "for no time": {**HOLD, "for_seconds": "1"},
        "to nothing": {**HOLD, "control": "8"},
    },
    "circuitbreaker/<str:name>/reset/": {
        "": {"expected_generation": SEEN},
        "stale": {"expected_generation": "1"},
    },
    "circuitbreaker/<str:name>/probe/": {
        "": {"expected_generation": SEEN},
        "stale": {"expected_generation": "1"},
    },
    "circuitbreaker/<str:name>/forget/": {
        "": {"expected_generation": SEEN},
        "stale": {"expected_generation": "1"},
    },
}


Walk = Callable[[Any, str, Pressed], list[Any]]
"""Presses an operation's button, goes on from there, and returns the pages on the way."""
WALKS: dict[str, Walk] = {}
IN_EVERY_WAY = {"done_and_sent_again"}
"""The walks whose pages say how the operation was requested; other pages do not."""
MOVING = {"done_and_sent_again", "on_what_has_moved", "begun_by_somebody"}
"""The walks after which everything has to be staged anew."""


def walk(steps: Walk) -> Walk:
    WALKS[steps.__name__] = steps
    return steps


@walk
def done_and_sent_again(client: Any, address: str, pressed: Pressed) -> list[Any]:
    question, sent = press(client, address, pressed)
    return [question, *(confirm(client, address, sent) for _ in range(2))]


@walk
def without_its_reason(client: Any, address: str, pressed: Pressed) -> list[Any]:
    with changed(REQUIRE_REASON=True):
        question, sent = press(client, address, pressed)
        return [question, confirm(client, address, {**sent, "reason": ""})]


@walk
def without_the_name_of_its_environment(client: Any, address: str, pressed: Pressed) -> list[Any]:
    with changed(REQUIRE_ENVIRONMENT_NAME=True, ENVIRONMENT_NAME="1"):
        question, sent = press(client, address, pressed)
        typed = [confirm(client, address, {**sent, "environment_name": it}) for it in ("", "8")]
        return [question, *typed]


@walk
def with_a_reason_that_is_none(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    return [confirm(client, address, {**sent, "reason": reason}) for reason in ("1" * 501, "\0")]


@walk
def with_the_store_down(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    with override_settings(CACHES=AWAY):
        question = client.post(url(address), {**sent, "confirmed": []}, follow=True)
        return [question, *(confirm(client, address, sent) for _ in range(2))]


@walk
def on_what_has_moved(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    for name in ("1", "2"):
        services.set_breaker_control(name=name, control="disabled", actor=SHELL)
    return [press(client, address, pressed)[0], confirm(client, address, sent)]


@walk
def begun_by_somebody(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    pages = [confirm(client, address, {**sent, "attempt": str(record().pk)})]
    confirm(client, address, sent)
    mine = Operation.objects.filter(pk__in=sent.get("attempt", []))
    for status in Operation.Status.values:
        mine.update(status=status, error="!", message="")
        pages.append(confirm(client, address, sent))
    mine.update(status="started", started_at=timezone.now() - timedelta(minutes=11))
    return [*pages, confirm(client, address, sent)]


@walk
def sent_back_damaged(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    return [confirm(client, address, {**sent, "attempt": "8"})]


@walk
def only_looked_at(client: Any, address: str, pressed: Pressed) -> list[Any]:
    return [client.get(url(address), follow=True)]


@walk
def on_a_site_that_is_read_only(client: Any, address: str, pressed: Pressed) -> list[Any]:
    with changed(READ_ONLY=True):
        return [client.post(url(address), pressed, follow=True)]


@walk
def with_the_audit_trail_away(client: Any, address: str, pressed: Pressed) -> list[Any]:
    _, sent = press(client, address, pressed)
    with patch.object(Operation, "save", side_effect=OperationalError("locked")):
        return [confirm(client, address, sent)]


@walk
def without_its_permission(client: Any, address: str, pressed: Pressed) -> list[Any]:
    """Must be the last: it signs in somebody else."""
    sign_in_with(client, "view_console")
    with changed(REQUIRE_MODEL_PERMISSIONS=True):
        return [client.post(url(address), pressed)]


def press(client: Any, address: str, pressed: Pressed) -> tuple[Any, Pressed]:
    """Press the button; return the question, and what its form sends once it is confirmed."""
    seen = services.describe_breaker("1").status.generation
    given = {key: seen if value == SEEN else value for key, value in pressed.items()}
    question = client.post(url(address), given, follow=True)
    sent: Pressed = {"confirmed": "yes", **given}
    if 'name="confirmed"' in question.text:
        fields = inputs(question, url(address))
        sent = {name: [value for key, value in fields if key == name] for name, _ in fields}
    return question, {**sent, "reason": REASON}


def confirm(client: Any, address: str, sent: Pressed) -> Any:
    return client.post(url(address), sent, follow=True)


def stage() -> None:
    """Have what every operation can be done to."""
    caches["default"].client.get_client(write=True).flushall()
    for name in ("1", "2"):
        trip(name)
    fill_the_cache()
    services.clear_search_cache(actor=SHELL, mode="soft")
