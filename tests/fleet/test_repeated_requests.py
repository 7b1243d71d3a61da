"""Requests with an Idempotency-Key that meet one another, or whose process is killed: one act."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fleet.conftest import BUSY_OPERATORS
from tests.fleet.deployments import Deployment

API = "/api/v1/analytics"
CLEAR, RESET, HOLD = (
    ("POST", f"{API}/cache/clear", None),
    ("POST", f"{API}/circuit-breakers/reset", {"names": ["catalog"]}),
    ("PUT", f"{API}/circuit-breakers/control", {"names": ["catalog"], "control": "disabled"}),
)
REQUESTS = 50
# A worker that is killed at a point of an operation, as often as there is a file for it.
KILLED = """
import os
import signal
from pathlib import Path

from analytics_admin.services import runner
from analytics_admin.signals import operation_finished

execute = runner._execute


def kill(point):
    try:
        Path(f"kill-{point}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def execute_and_die(*arguments, **options):
    kill("before the act")
    outcome = execute(*arguments, **options)
    kill("before its row is closed")
    return outcome


def die(**_):
    kill("before the answer")


runner._execute = execute_and_die
operation_finished.connect(die)

from project.urls import *
"""
POINTS = ("before the act", "before its row is closed", "before the answer")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("mortal") / "site", settings=BUSY_OPERATORS)
    (deployment.site.folder / "site_urls.py").write_text(KILLED)
    try:
        deployment.prepare()
        deployment.serve(workers=2)
        yield deployment
    finally:
        deployment.close()


def insist(
    site: Deployment, method: str, path: str, body: Any, key: str
) -> tuple[http.client.HTTPMessage, Any]:
    """Send the request until it is answered with anything but 409."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status, headers, answer = site.send(method, path, body, Idempotency_Key=key)
        if status != 409:
            assert status == 200, answer
            return headers, answer
        assert answer["code"] == "operation_under_way"
        time.sleep(0.05)
    pytest.fail("it stays under way")


@pytest.mark.parametrize("request_", [CLEAR, RESET, HOLD], ids=["clear", "reset", "hold"])
def test_of_fifty_requests_with_one_key_one_acts(staffed: Deployment, request_: Any) -> None:
    method, path, body = request_
    before = staffed.rows("id")
    together = threading.Barrier(REQUESTS)

    def send(_: int) -> tuple[int, str | None, str | None, str]:
        together.wait(20)
        while True:
            status, headers, answer = staffed.send(method, path, body, Idempotency_Key="fifty")
            if answer.get("code") != "audit_unavailable":  # the file is locked: nothing was done
                break
        told = (headers.get("X-Operation-Id"), headers.get("Idempotency-Replayed"))
        return status, *told, json.dumps(answer, sort_keys=True)

    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = list(threads.map(send, range(REQUESTS), timeout=60))
    assert [answer for answer in answers if answer[0] not in {200, 409}] == []
    assert Counter((status, replayed) for status, _, replayed, _ in answers)[200, None] == 1
    assert len({operation_id for _, operation_id, _, _ in answers}) == 1
    assert len({answer for status, *_, answer in answers if status == 200}) == 1
    headers, _ = insist(staffed, method, path, body, "fifty")
    assert headers["Idempotency-Replayed"] == "true"
    rows = staffed.rows("id", "status")[len(before) :]
    assert [status for _, status in rows] == ["done"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("request_", [CLEAR, RESET, HOLD], ids=["clear", "reset", "hold"])
def test_a_worker_killed_on_the_way_leaves_one_act_and_one_true_row(
    mortal: Deployment, request_: Any, point: str
) -> None:
    method, path, body = request_
    mortal.send("POST", f"{API}/circuit-breakers/reset")
    mortal.send("PUT", f"{API}/circuit-breakers/catalog/control", {"control": "forced_open"})
    mortal.client(1).set("search:1:query", "v")
    before, key = mortal.rows("id"), f"killed {point}"
    (mortal.site.folder / f"kill-{point}").touch()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        mortal.send(method, path, body, Idempotency_Key=key)
    headers, answer = insist(mortal, method, path, body, key)
    assert ("Idempotency-Replayed" in headers) is (point == "before the answer")
    ((status, message, outcome),) = mortal.rows("status", "message", "outcome")[len(before) :]
    assert (status, message) == ("done", answer["message"])
    again, same = insist(mortal, method, path, body, key)
    assert (again["Idempotency-Replayed"], same) == ("true", answer)
    if body is None:
        assert not mortal.client(1).exists("search:1:query")
        return
    moved = {"name": "catalog", "from": "forced_open", "to": answer["results"][0]["to"]}
    assert answer["results"] == json.loads(outcome)["results"] == [moved]
    _, _, breaker = mortal.send("GET", f"{API}/circuit-breakers/catalog")
    moves = [move["to_state"] for move in breaker["transitions"]]
    assert moves[:2] == [moved["to"], "forced_open"]
