"""A confirm page that is sent twice at the same instant, to two processes, is one act."""

import html
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fleet.deployments import Deployment, Operator
from tests.fleet.doors import API, BREAKERS, Rest

CACHE = "/admin/analytics_admin/searchcache"
NAME = "catalog"
ONE = f"{BREAKERS}/{NAME}"
ROUNDS = 3
AGAIN = ("This was already done: ", "This is already in progress.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    path: str
    pressed: tuple[tuple[str, str], ...] = ()
    message: str


CASES = {
    "clear": Case(path=f"{CACHE}/clear/", message="Search cache cleared"),
    "clear tags": Case(
        path=f"{CACHE}/clear/",
        pressed=(("mode", "tags"), ("tags", "a")),
        message="Search cache cleared for 1 tag",
    ),
    "undo": Case(path=f"{CACHE}/undo/", message="Soft clear undone"),
    "reset all": Case(path=f"{BREAKERS}/reset/", message="All circuit breakers reset successfully"),
    "reset one": Case(path=f"{ONE}/reset/", message="1 circuit breaker reset successfully"),
    "hold one": Case(
        path=f"{ONE}/control/",
        pressed=(("control", "disabled"), ("for_seconds", "900")),
        message=f"Circuit breaker {NAME} set to disabled",
    ),
    "forget one": Case(path=f"{ONE}/forget/", message=f"Circuit breaker {NAME} forgotten"),
    "reset ticked": Case(
        path=f"{BREAKERS}/-/reset/",
        pressed=(("names", NAME),),
        message="1 circuit breaker reset successfully",
    ),
    "hold ticked": Case(
        path=f"{BREAKERS}/-/control/",
        pressed=(("names", NAME), ("control", "disabled"), ("for_seconds", "900")),
        message=f"Circuit breaker {NAME} set to disabled",
    ),
}
FIELD = re.compile(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?')


@pytest.fixture(scope="module")
def browsers(staffed: Deployment) -> list[Operator]:
    """One person at two browsers."""
    return [Operator(staffed), Operator(staffed)]


def prepare(staffed: Deployment, case: str) -> None:
    """Bring about what the act needs: the breaker, not held; a clear to undo."""
    control = f"{API}/{NAME}/control"
    if staffed.send("PUT", control, {"control": "automatic"})[0] == 404:
        use = (
            "import django; django.setup()\n"
            "from analytics_admin.breakers import circuit_breaker\n"
            f"circuit_breaker({NAME!r}).acquire().succeed()\n"
        )
        assert staffed.site.run("-c", use, **staffed.environment).returncode == 0
    if case == "undo":
        staffed.send("POST", "/api/v1/analytics/cache/clear", {"mode": "soft"})


def send_together(browsers: list[Operator], path: str, form: dict[str, str]) -> list[Any]:
    together = threading.Barrier(2)

    def send(browser: Operator) -> tuple[str, str]:
        together.wait(20)
        page = browser.submit(path, **form)
        found = re.search(r'<li class="[^"]*\b(success|info|error)">(.*?)</li>', page, re.DOTALL)
        assert found, page
        return found[1], html.unescape(found[2])

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(send, browsers, timeout=60))


@pytest.mark.parametrize("case", CASES)
def test_of_two_at_the_same_instant_one_acts_and_the_other_says_so(
    staffed: Deployment, browsers: list[Operator], case: str
) -> None:
    path, message = CASES[case].path, CASES[case].message
    for _ in range(ROUNDS):
        prepare(staffed, case)
        before = staffed.rows("id")
        seen = {"expected_generation": Rest(staffed).see(NAME)}
        page = browsers[0].submit(path, **seen, **dict(CASES[case].pressed))
        fields = {name: html.unescape(value) for name, value in FIELD.findall(page)}
        del fields["csrfmiddlewaretoken"]
        fields = dict(CASES[case].pressed) | fields
        told = send_together(browsers, path, fields)
        assert len([it for it in told if it == ("success", message)]) == 1, told
        (again,) = [words for level, words in told if words != message]
        assert again.startswith(AGAIN), told
        rows = staffed.rows("id", "status")[len(before) :]
        assert rows == [(fields["attempt"].replace("-", ""), "done")]
