"""Soft clear, undo and clear by tags through three doors: the same state, words and row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.forms.models import model_to_dict
from django.test import Client

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from analytics_admin.tokens import issue_access_token
from tests.support.console_pages import asked
from tests.support.servers import StoreServer, free_port

REASON = "prices were imported"
OWN_TO_A_DOOR = {"channel", "actor", "user", "started_at", "finished_at", "duration_ms"}
SOMEBODY = Actor.system("somebody")
PAGE = "/admin/analytics_admin/searchcache/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    path: str
    """Of the endpoint and of the console's page alike."""
    command: tuple[str, ...]
    body: dict[str, Any] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    kind: str = "clear_search_cache"
    targets: dict[str, Any] = field(default_factory=dict)
    done: str
    sentence: str = "Failed to clear cache: "


ACTS = {
    "hard": Act(
        path="clear",
        command=("clear_search_cache",),
        body={"mode": "hard"},
        form={"mode": "hard", "tags": ""},
        targets={"mode": "hard", "tags": []},
        done="Search cache cleared",
    ),
    "soft": Act(
        path="clear",
        command=("clear_search_cache", "--soft"),
        body={"mode": "soft"},
        form={"mode": "soft", "tags": " "},
        targets={"mode": "soft", "tags": []},
        done="Search cache cleared softly: stale results for at most 60 s",
    ),
    "tags": Act(
        path="clear",
        command=("clear_search_cache", "--tag", "y z", "--tag", "x", "--tag", "x"),
        body={"tags": ["y z", "x", "x"]},
        form={"tags": " y z,x, x,"},
        targets={"mode": "hard", "tags": ["x", "y z"]},
        done="Search cache cleared for 2 tags",
    ),
    "undo": Act(
        path="undo",
        command=("undo_clear",),
        kind="undo_clear",
        done="Soft clear undone",
        sentence="Failed to undo the clear: ",
    ),
}


def by_api(act: Act, user: Any) -> str:
    answer = Client().post(
        f"/api/v1/analytics/cache/{act.path}",
        {"reason": REASON, **act.body},
        content_type="application/json",
        headers={"Authorization": f"Bearer {issue_access_token(user)}"},
    )
    body: dict[str, str] = answer.json()
    return body["message"] if answer.status_code == 200 else body["detail"]


def by_console(act: Act, user: Any) -> str:
    """Press the button, fill in the confirm page as it came, and read the message after it."""
    client = Client()
    client.force_login(user)
    url = f"{PAGE}{act.path}/"
    confirm = client.post(url, act.form)
    answer = client.post(url, {**asked(confirm, url), "reason": REASON}, follow=True)
    (message,) = answer.context["messages"]
    return str(message)


def by_command(act: Act, user: Any) -> str:
    out = StringIO()
    try:
        call_command(*act.command, "--no-input", "--reason", REASON, stdout=out)
    except CommandError as error:
        return str(error)
    return out.getvalue().strip()


DOORS: list[Callable[[Act, Any], str]] = [by_api, by_console, by_command]


def stage(act: Act) -> None:
    """Bring the store to the same state for each door."""
    caches["default"].client.get_client(write=True).flushall()
    search_cache.set("plain", "before")
    search_cache.set("tagged", "before", tags=["x"])
    if act.path == "undo":
        services.clear_search_cache(actor=SOMEBODY, mode="soft")
        search_cache.set("since", "since")
    Operation.objects.all().delete()


def state() -> list[Any]:
    """Return what searches see: fresh values, then the one that stands in for a failure."""
    try:
        lookup: Any = search_cache.lookup("plain", _fail)
        stands_in = (lookup.value, lookup.state)
    except LookupError:
        stands_in = None
    seen = [search_cache.get(key) for key in ("plain", "since")]
    return [*seen, search_cache.get("tagged", tags=["x"]), stands_in]


def _fail() -> None:
    raise LookupError


def row() -> dict[str, Any]:
    """Return the only row without what belongs to the door, or is time."""
    operation = Operation.objects.get()
    assert operation.finished_at is not None
    operation.outcome.pop("seconds_left", None)
    return model_to_dict(operation, exclude=OWN_TO_A_DOOR)


EXPECTED = {
    "hard": [None, None, None, None],
    "soft": [None, None, None, ("before", "stale")],
    "tags": ["before", None, None, ("before", "hit")],
    "undo": ["before", "since", "before", ("before", "hit")],
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_the_same_through_every_door(name: str, superuser: Any) -> None:
    act = ACTS[name]
    seen = []
    for door in DOORS:
        stage(act)
        message = door(act, superuser)
        seen.append((message, state(), row()))
    by_api_, by_console_, by_command_ = seen
    assert by_api_ == by_console_ == by_command_
    message, left, record = by_api_
    assert (message, left) == (act.done, EXPECTED[name])
    assert (record["kind"], record["targets"]) == (act.kind, act.targets)
    assert (record["status"], record["reason"], record["error"]) == ("done", REASON, "")


@pytest.mark.parametrize("name", ACTS)
def test_a_failure_is_the_same_through_every_door(name: str, superuser: Any, settings: Any) -> None:
    act = ACTS[name]
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {**config, "LOCATION": f"{server.url}/{number}"}
            for number, (alias, config) in enumerate(settings.CACHES.items())
        }
        server.stop()
        seen = []
        for door in DOORS:
            seen.append((door(act, superuser), row()))
            Operation.objects.all().delete()
    by_api_, by_console_, by_command_ = seen
    assert by_api_ == by_console_ == by_command_
    message, record = by_api_
    assert message == f"{act.sentence}the store cannot be reached"
    assert (record["status"], record["error"]) == ("failed", "the store cannot be reached")
    assert (record["kind"], record["targets"]) == (act.kind, act.targets)


def test_nothing_to_undo_is_the_same_through_every_door_and_leaves_no_row(superuser: Any) -> None:
    stage(ACTS["hard"])
    # The console asks first what would be undone, and goes no further.
    client = Client()
    client.force_login(superuser)
    answer = client.post(f"{PAGE}undo/", {"confirmed": "yes"}, follow=True)
    (message,) = answer.context["messages"]
    said = [by_api(ACTS["undo"], superuser), str(message), by_command(ACTS["undo"], superuser)]
    assert said == ["There is no soft clear to undo"] * 3
    assert not Operation.objects.exists()
