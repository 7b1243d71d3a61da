"""The lines that the confirm page shows, pasted into a real shell, do the act they stand for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from analytics_admin.breakers import circuit_breaker, control
from analytics_admin.console.equivalents import command_equivalents, curl_equivalents
from analytics_admin.models import Operation
from tests.fleet.deployments import KEY, Deployment
from tests.fleet.doors import Rest
from tests.support.crew import Crew

NAMES = ("lines.1", "lines.2")
ONE = NAMES[0]
HOSTILE = 'it\'s "$(touch ran)" `touch ran`; touch ran & touch ran\n--dry-run touch ran ☃ !! \\'
REASONS = ["", HOSTILE, "--dry-run"]
SEEN: Any = object()
"""Stands for the generation of the breaker, or those by name, when the act is asked for."""

# What the service is called with, and what the row of the act says it was aimed at.
ACTS: dict[str, tuple[Operation.Kind, dict[str, Any], dict[str, Any]]] = {
    "clear": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"mode": "hard", "tags": None},
        {"mode": "hard", "tags": []},
    ),
    "clear softly": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"mode": "soft"},
        {"mode": "soft", "tags": []},
    ),
    "clear tags": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"tags": ["-x", "$(touch ran)"]},
        {"mode": "hard", "tags": ["$(touch ran)", "-x"]},
    ),
    "undo": (Operation.Kind.UNDO_CLEAR, {}, {}),
    "reset all": (Operation.Kind.RESET_CIRCUIT_BREAKERS, {}, {"names": "all", "only_open": False}),
    "reset open": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"only_open": True},
        {"names": "all", "only_open": True},
    ),
    "reset one": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"names": [ONE], "expected_generation": SEEN},
        {"names": [ONE], "only_open": False},
    ),
    "reset several": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"names": [*NAMES], "expected_generation": SEEN},
        {"names": [*NAMES], "only_open": False},
    ),
    "hold": (
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {"name": ONE, "control": "disabled", "for_seconds": 900.0, "expected_generation": SEEN},
        {"names": [ONE], "control": "disabled", "for_seconds": 900.0},
    ),
    "release": (
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {"name": ONE, "control": "automatic", "for_seconds": None},
        {"names": [ONE], "control": "automatic", "for_seconds": None},
    ),
    "probe": (
        Operation.Kind.ALLOW_PROBE,
        {"name": ONE, "expected_generation": SEEN},
        {"names": [ONE]},
    ),
    "forget": (
        Operation.Kind.FORGET_CIRCUIT_BREAKER,
        {"name": ONE, "expected_generation": SEEN},
        {"names": [ONE]},
    ),
}


@pytest.fixture(scope="module")
def crew(staffed: Deployment) -> Iterator[Crew]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "REDIS_URL", staffed.store.url)
        crew = Crew(1)
    with crew:
        yield crew


def open_anew() -> None:
    """Have the breakers of the tests open, whatever became of them."""
    for name in NAMES:
        protected = circuit_breaker(name, failure_threshold=1, wait_duration_in_open_state=600)
        protected.engine.expire(name)
        if protected.state != "closed":
            control.reset([name], only_open=False)
            protected.engine.expire(name)
        protected.acquire().fail()


def run(site: Deployment, lines: list[str]) -> "subprocess.CompletedProcess[str]":
    """Paste the lines into a shell in the project's folder, as an operator would."""
    claims = {"sub": "admin", "exp": int(time.time()) + 60}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e"],
        input="\n".join(lines),
        cwd=site.site.folder,
        env={**site.environment, "PATH": path, "TOKEN": jwt.encode(claims, KEY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines_of(
    site: Deployment, door: str, act: Operation.Kind, options: dict[str, Any]
) -> list[str]:
    if door == "command":
        return command_equivalents(act, options)
    root = f"http://127.0.0.1:{site.port}"
    return curl_equivalents(act, options, absolute=lambda path: f"{root}{path}")


def look(site: Deployment, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the generations that an operator sees now."""
    if "expected_generation" not in options:
        return options
    seen: Any = {name: Rest(site).see(name) for name in NAMES}
    if len(options.get("names", [ONE])) == 1:
        seen = seen[ONE]
    return {**options, "expected_generation": seen}


@pytest.mark.parametrize("door", ["curl", "command"])
@pytest.mark.parametrize("case", ACTS)
def test_a_pasted_line_does_the_act_with_its_reason_and_nothing_else(
    staffed: Deployment, crew: Crew, door: str, case: str
) -> None:
    act, options, targets = ACTS[case]
    for reason in REASONS if case == "reset one" else [HOSTILE]:
        crew.workers[0].ask(open_anew)
        if case == "undo":
            staffed.send("POST", "/api/v1/analytics/cache/clear", {"mode": "soft"})
        before = len(staffed.rows())
        given = {**look(staffed, options), "reason": reason}
        lines = lines_of(staffed, door, act, given)
        ended = run(staffed, lines)
        assert ended.returncode == 0, ended.stderr
        assert '"code"' not in ended.stdout, ended.stdout
        rows = staffed.rows("kind", "status", "reason", "targets")[before:]
        told = [(kind, status, why, json.loads(aim)) for kind, status, why, aim in rows]
        assert told == [(act.value, "done", reason, targets)]
    assert not (staffed.site.folder / "ran").exists()


@pytest.mark.parametrize("door", ["curl", "command"])
def test_the_lines_of_a_hold_of_several_hold_each_and_a_stale_one_holds_none(
    staffed: Deployment, crew: Crew, door: str
) -> None:
    crew.workers[0].ask(open_anew)
    options = {"names": [*NAMES], "control": "disabled", "for_seconds": 90.5}
    seen = look(staffed, {**options, "expected_generation": SEEN})
    lines = lines_of(staffed, door, Operation.Kind.CONTROL_CIRCUIT_BREAKERS, seen)
    assert len(lines) == 2
    for outcome in ("done", "failed"):
        before = len(staffed.rows())
        for line in lines:
            run(staffed, [line])
        rows = staffed.rows("status", "targets")[before:]
        aims = [{"names": [name], "control": "disabled", "for_seconds": 90.5} for name in NAMES]
        assert [(status, json.loads(aim)) for status, aim in rows] == [(outcome, it) for it in aims]
