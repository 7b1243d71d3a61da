"""The walks of docs/explanation/architecture.md are those that the code takes."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from django.test import Client

from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker, describe_search_cache
from analytics_admin.tokens import issue_access_token
from tests.docs.pages import ROOT, read
from tests.support.breakers import another

PACKAGE = f"{ROOT / 'analytics_admin'}/"
ARCHITECTURE = read("explanation/architecture.md")
SHARED = {
    name
    for begin in ("what all may use:", "The lists leave out")
    for name in re.findall(r"`([\w/]+\.py)`", ARCHITECTURE.split(begin)[1].split("\n\n")[0])
}


def walk(heading: str) -> list[str]:
    """Return the files that the page lists below a heading, in order."""
    (part,) = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", ARCHITECTURE, re.M | re.S)
    return re.findall(r"`([\w/]+\.py)`", part)


@contextmanager
def traced() -> Iterator[list[str]]:
    """Yield the files of the package whose functions the block calls, in order of the first call.

    In this thread and in those that it starts. Class bodies and modules are no calls.
    """
    files: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and frame.f_code.co_name != "<module>":
            file = name.removeprefix(PACKAGE)
            if file not in files and file not in SHARED:
                files.append(file)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def files_of(operation: Callable[[], object]) -> list[str]:
    """Return the files of the operation's second run, when everything is imported and connected."""
    operation()
    with traced() as files:
        operation()
    return files


@pytest.mark.django_db(transaction=True)
def test_the_walk_of_a_clear(client: Client, superuser: Any) -> None:
    headers = {"Authorization": f"Bearer {issue_access_token(superuser)}"}
    path = "/api/v1/analytics/cache/clear"

    def clear() -> None:
        assert client.post(path, content_type="application/json", headers=headers).json() == {
            "message": "Search cache cleared"
        }

    assert sorted(files_of(clear)) == sorted(walk("POST analytics/cache/clear"))


@pytest.mark.django_db(transaction=True)
def test_the_walk_of_a_reset_in_the_admin(client: Client, superuser: Any) -> None:
    client.force_login(superuser)
    path = "/admin/analytics_admin/circuitbreaker/docs.walked/reset/"

    def confirm_page() -> dict[str, str]:
        """Return the fields of the page that asks whether to reset the breaker as it is now."""
        another("docs.walked").acquire().fail()  # in a process that uses it
        generation = describe_breaker("docs.walked").status.generation
        page = client.post(path, {"expected_generation": generation}).text
        return {
            field["name"]: field["value"]
            for tag in re.findall(r'<input type="hidden"[^>]*>', page)
            for field in [dict(re.findall(r'(\w+)="([^"]*)"', tag))]
        }

    client.post(path, confirm_page())
    form = confirm_page()
    with traced() as files:
        assert client.post(path, form).status_code == 302
    assert Operation.objects.filter(status=Operation.Status.DONE).count() == 2
    assert describe_breaker("docs.walked").status.consecutive_failures == 0
    walked = walk("A reset in the admin")
    assert sorted(files) == sorted(walked)
    wait = {"services/obedience.py", "console/obedience.py"}
    wait |= {"stores/copies.py", "stores/identity.py"}
    assert len({*walked} - wait) <= 15


def test_the_walk_of_a_closed_call() -> None:
    call = circuit_breaker("docs.walked")(lambda: 1)
    # Whichever call comes after SYNC_INTERVAL also asks the store.
    shortest = min((files_of(call) for _ in range(10)), key=len)
    assert set(shortest) <= set(walk("A call through a closed breaker"))
    assert len(walk("A call through a closed breaker")) <= 3


@pytest.mark.django_db
def test_the_walk_of_a_figure() -> None:
    assert sorted(files_of(describe_search_cache)) == sorted(walk("A figure of the search cache"))
