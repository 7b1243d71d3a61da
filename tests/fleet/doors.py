"""The three doors to a site that runs: REST, ``manage.py`` and the admin, each with an operator.

All three answer in the same words, so that a test can send one act through each of them.
"""

import json
import os
import re
import time
import urllib.error
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any, Protocol

import pytest

from tests.fleet.deployments import Deployment, Operator
from tests.support.crew import Crew

API = "/api/v1/analytics/circuit-breakers"
BREAKERS = "/admin/analytics_admin/circuitbreaker"

DONE, MOVED, UNKNOWN, FAILED = "done", "moved", "unknown name", "failed"
"""What becomes of an act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an act, in which words, and when (monotonic seconds) that was known."""

    outcome: str
    text: str
    answered_at: float


class Door(Protocol):
    """An operator at one of the doors; ``seen`` is the generation to act on, "" for any."""

    def look(self, name: str = "") -> str:
        """Return what is said of this breaker, or of all."""

    def see(self, name: str) -> str:
        """Return the generation that is shown."""

    def hold(
        self, name: str, control: str, seconds: float, *, seen: str = "", dry_run: bool = False
    ) -> Answer:
        """Hold the breaker."""

    def ready_to_hold(self, name: str, control: str, seconds: float) -> Callable[[], Answer]:
        """Look at the breaker, and do all that comes before the act itself; return the act."""

    def reset(self, name: str, *, dry_run: bool = False) -> Answer:
        """Reset the breaker."""


class Rest:
    """REST with a token."""

    def __init__(self, deployment: Deployment, *, user: str = "admin") -> None:
        self._deployment = deployment
        self._user = user

    def look(self, name: str = "") -> str:
        status, _, body = self._deployment.send("GET", f"{API}/{name}".rstrip("/"), user=self._user)
        return f"{status} {json.dumps(body)}"

    def see(self, name: str) -> str:
        status, headers, _ = self._deployment.send("GET", f"{API}/{name}", user=self._user)
        assert status == 200
        return headers["ETag"].strip('"')

    def hold(
        self, name: str, control: str, seconds: float, *, seen: str = "", dry_run: bool = False
    ) -> Answer:
        body = {"control": control, "for_seconds": seconds, "dry_run": dry_run}
        return self._act("PUT", f"{API}/{name}/control", body, seen)

    def ready_to_hold(self, name: str, control: str, seconds: float) -> Callable[[], Answer]:
        return partial(self.hold, name, control, seconds, seen=self.see(name))

    def reset(self, name: str, *, dry_run: bool = False) -> Answer:
        return self._act("POST", f"{API}/{name}/reset", {"dry_run": dry_run}, "")

    def _act(self, method: str, path: str, body: dict[str, Any], seen: str) -> Answer:
        condition = {"If-Match": f'"{seen}"'} if seen else {}
        status, _, said = self._deployment.send(method, path, body, user=self._user, **condition)
        answered_at = time.monotonic()
        outcomes = {200: DONE, 412: MOVED, 404: UNKNOWN, 500: FAILED}
        text = said["message"] if status == 200 else said["detail"]
        return Answer(outcome=outcomes[status], text=text, answered_at=answered_at)


class Command:
    """``manage.py`` in a process that has loaded the site already: only the command is timed."""

    def __init__(self, deployment: Deployment) -> None:
        with pytest.MonkeyPatch.context() as patch:  # as manage.py would find it
            for name, value in deployment.environment.items():
                patch.setitem(os.environ, name, value)
            self._crew = Crew(1, settles=False)
        (self.worker,) = self._crew.workers
        assert self._run("circuit_breakers", "--json").outcome == DONE

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.__exit__()

    def look(self, name: str = "") -> str:
        return self._run("circuit_breakers", "--json", *([name] if name else [])).text

    def see(self, name: str) -> str:
        generation: str = json.loads(self.look(name))["generation"]
        return generation

    def hold(
        self, name: str, control: str, seconds: float, *, seen: str = "", dry_run: bool = False
    ) -> Answer:
        condition = ["--if-generation", seen] if seen else []
        argv = ["set_circuit_breaker", name, control, "--for", f"{seconds}s", *condition]
        return self._act(*argv, dry_run=dry_run)

    def ready_to_hold(self, name: str, control: str, seconds: float) -> Callable[[], Answer]:
        return partial(self.hold, name, control, seconds, seen=self.see(name))

    def reset(self, name: str, *, dry_run: bool = False) -> Answer:
        return self._act("reset_circuit_breakers", name, dry_run=dry_run)

    def _act(self, *argv: str, dry_run: bool) -> Answer:
        return self._run(*argv, "--dry-run" if dry_run else "--no-input")

    def _run(self, *argv: str) -> Answer:
        code, text, answered_at = self.worker.ask(run_command, *argv)
        outcome = {0: DONE, 1: FAILED, 2: UNKNOWN}[code]
        if outcome == FAILED and "has changed meanwhile" in text:
            outcome = MOVED
        return Answer(outcome=outcome, text=text, answered_at=answered_at)


def run_command(*argv: str) -> tuple[int, str, float]:
    """Run a command line in this process; return its exit code, what it said, when it ended."""
    from django.core.management import execute_from_command_line

    said, code = StringIO(), 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            execute_from_command_line(["manage.py", *argv])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, said.getvalue().strip(), time.monotonic()


class Admin:
    """The admin's pages: the breaker's own, the confirm page, and its yes."""

    def __init__(self, deployment: Deployment, *, user: str = "admin") -> None:
        self._operator = Operator(deployment, user=user)

    def look(self, name: str = "") -> str:
        return self._operator.open(f"{BREAKERS}/{name}/" if name else f"{BREAKERS}/")

    def see(self, name: str) -> str:
        return _hidden_field(self.look(name), "expected_generation")

    def hold(
        self, name: str, control: str, seconds: float, *, seen: str = "", dry_run: bool = False
    ) -> Answer:
        form = _hold_form(control, seconds, seen)
        return self._act(f"{BREAKERS}/{name}/control/", form, dry_run=dry_run)

    def ready_to_hold(self, name: str, control: str, seconds: float) -> Callable[[], Answer]:
        path = f"{BREAKERS}/{name}/control/"
        form = _hold_form(control, seconds, self.see(name))
        confirm = self._operator.submit(path, **form)
        assert _hidden_field(confirm, "expected_generation") == form["expected_generation"]
        return partial(self._act, path, form)

    def reset(self, name: str, *, dry_run: bool = False) -> Answer:
        form = {"expected_generation": ""}
        return self._act(f"{BREAKERS}/{name}/reset/", form, dry_run=dry_run)

    def _act(self, path: str, form: dict[str, str], *, dry_run: bool = False) -> Answer:
        """Say yes, as the confirm page does; a dry run is what leads to that page."""
        try:
            page = self._operator.submit(path, **form, **({} if dry_run else {"confirmed": "yes"}))
        except urllib.error.HTTPError as refusal:
            if refusal.code != 404:
                raise
            text = refusal.read().decode()
            return Answer(outcome=UNKNOWN, text=text, answered_at=time.monotonic())
        found = re.search(r'<li class="[^"]*\b(success|error)">(.*?)</li>', page, re.DOTALL)
        assert found, page
        outcome = DONE if found[1] == "success" else FAILED
        if "has changed meanwhile: nothing was done" in found[2]:
            outcome = MOVED
        return Answer(outcome=outcome, text=found[2], answered_at=self._operator.answered_at)


def _hold_form(control: str, seconds: float, seen: str) -> dict[str, str]:
    return {"control": control, "for_seconds": str(seconds), "expected_generation": seen}


def _hidden_field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return found[1]
