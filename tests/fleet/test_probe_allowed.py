"""An operator allows a probe: one call passes in the whole fleet, and what it finds holds."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker
from analytics_admin.breakers.permit import Permit
from tests.fleet.deployments import Deployment
from tests.fleet.doors import API
from tests.support.crew import Crew

pytestmark = pytest.mark.hurried

PROCESSES = 3
CALLS = 20
WAIT = 600.0
LIMIT = 0.25 + 0.05
"""Seconds after which every process goes by what the operator did: an interval and a bit."""

_probes: list[Permit] = []
"""The probe of a process, under way."""


@pytest.fixture(scope="module")
def crew(staffed: Deployment) -> Iterator[Crew]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "REDIS_URL", staffed.store.url)
        crew = Crew(PROCESSES)
    with crew:
        yield crew


def breaker(name: str) -> CircuitBreaker:
    return circuit_breaker(name, failure_threshold=1, wait_duration_in_open_state=WAIT)


def open_it(name: str) -> None:
    breaker(name).acquire().fail()


def call_often(name: str) -> tuple[int, list[str]]:
    """Try to call; return how many calls passed, and what met the others."""
    passed, refused = 0, []
    for _ in range(CALLS):
        try:
            _probes.append(breaker(name).acquire())
            passed += 1
        except CircuitOpenError as refusal:
            refused.append(refusal.state)
    return passed, refused


def end_probe(name: str, succeeds: bool) -> None:
    while _probes:
        _probes.pop().succeed() if succeeds else _probes.pop().fail()


def state(name: str) -> str:
    return breaker(name).state


def by_rest(site: Deployment, name: str) -> None:
    status, headers, body = site.send("POST", f"{API}/{name}/probe", {"reason": "it is back"})
    assert (status, body["message"]) == (200, f"Circuit breaker {name} allows a probe")
    assert headers["X-Operation-Id"]


def by_command(site: Deployment, name: str) -> None:
    done = site.manage("allow_probe", name, "--no-input", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr  # the log's line
    assert json.loads(done.stdout)["results"] == [{"name": name, "from": "open", "to": "half_open"}]


@pytest.mark.parametrize("door", [by_rest, by_command])
@pytest.mark.parametrize(("succeeds", "becomes"), [(True, "closed"), (False, "open")])
def test_exactly_one_call_passes_and_what_it_finds_holds_everywhere(
    staffed: Deployment, crew: Crew, door, succeeds: bool, becomes: str
) -> None:
    name = f"allowed.{door.__name__}.{becomes}"
    crew.workers[0].ask(open_it, name)
    time.sleep(LIMIT)
    before = crew.ask_all(call_often, name)
    assert before == [(0, ["open"] * CALLS)] * PROCESSES
    door(staffed, name)
    time.sleep(LIMIT)
    met = crew.ask_all(call_often, name)
    assert sum(passed for passed, _ in met) == 1
    assert {state for _, refused in met for state in refused} == {"half_open"}
    crew.ask_all(end_probe, name, succeeds)
    time.sleep(LIMIT)
    assert crew.ask_all(state, name) == [becomes] * PROCESSES
    _, _, now = staffed.send("GET", f"{API}/{name}")
    causes = [move["cause"] for move in now["transitions"]]
    assert causes[1:] == ["probe_allowed", "consecutive_failures"]
    assert causes[0] == ("probes_succeeded" if succeeds else "probe_failed")
    assert now["retry_after"] is None if succeeds else now["retry_after"] > WAIT - 30
