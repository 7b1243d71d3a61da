"""circuit_breakers: the list, for people, pipes and programs."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from analytics_admin.breakers import runtime
from analytics_admin.management.breakers import COLORS
from analytics_admin.services import Actor, set_breaker_control
from analytics_admin.services.breakers.queries import BREAKER_STATES
from tests.support.breakers import another, round_trips
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fleet() -> None:
    """Two breakers that only the store knows of, as another process' breakers are."""
    another("list.calm").acquire().succeed()
    shaken = another("list.shaken", failure_threshold=2)
    for _ in range(2):
        shaken.acquire().fail()
    limping = another("list.limping", failure_threshold=2)
    limping.acquire().fail()


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def run(*argv: str, stdout: StringIO | None = None) -> str:
    out = stdout or StringIO()
    call_command("circuit_breakers", *argv, stdout=out)
    return out.getvalue()


def listed(*argv: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("--json", *argv))["breakers"]
    return [row for row in rows if row["name"].startswith("list.")]


def test_into_a_pipe_it_writes_aligned_columns_that_awk_can_cut():
    header, *lines = run().splitlines()
    assert header.split() == ["NAME", "STATE", "FAILURES", "RETRY"]
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["list.limping"] == ["closed", "1", "-"]
    state, _, wait = cells["list.shaken"]
    assert state == "open"
    assert 0 < float(wait.removesuffix("s")) <= 60
    starts = {line.index(state) for line in lines for state in [f" {line.split()[1]} "]}
    assert starts == {header.index(" STATE ")}


def test_on_a_terminal_it_draws_a_table():
    drawn = run(stdout=Terminal())
    assert "┃" in drawn
    assert "list.shaken" in drawn


def test_nothing_to_list_is_said_to_people_and_is_a_bare_header_in_a_pipe():
    assert run("--state", "half_open", stdout=Terminal()) == "No circuit breakers\n"
    assert run("--state", "half_open").split() == ["NAME", "STATE", "FAILURES", "RETRY"]


def test_json_is_one_object_with_numbers():
    answer = json.loads(run("--json"))
    assert answer["count"] == len(answer["breakers"])
    rows = {row["name"]: row for row in answer["breakers"]}
    assert rows["list.limping"]["consecutive_failures"] == 1
    assert rows["list.limping"]["retry_after"] is None
    assert 0 < rows["list.shaken"]["retry_after"] <= 60


def test_it_lists_only_those_in_the_state_asked_for():
    assert [row["name"] for row in listed("--state", "open")] == ["list.shaken"]
    assert [row["name"] for row in listed("--state", "closed")] == ["list.calm", "list.limping"]
    assert listed("--state", "half_open") == []


def test_it_lists_only_those_whose_names_hold_the_text():
    assert [row["name"] for row in listed("--search", "SHAK")] == ["list.shaken"]
    assert listed("--search", "shak", "--state", "closed") == []
    assert [line.split()[0] for line in run("--search", "list.calm").splitlines()] == [
        "NAME",
        "list.calm",
    ]


def test_on_a_terminal_one_that_would_have_opened_is_marked():
    set_breaker_control(name="list.calm", control="metrics_only", actor=Actor.system("root"))
    held = another("list.calm", failure_threshold=1)
    held.acquire().fail()
    assert "metrics_only (would open)" in run("--search", "list.calm", stdout=Terminal())
    assert "metrics_only  " in run("--search", "list.calm")  # a pipe's cells hold no space


def test_a_large_fleet_is_listed_in_two_round_trips():
    names = [f"many.{number:04}" for number in range(1200)]
    runtime.operator_store().register(names, keep_for=None)
    run()  # connects, and tells the server the scripts
    with round_trips() as sent:
        lines = run("--search", "many.").splitlines()
    assert (len(lines), sent["trips"]) == (1201, 2)


def test_it_knows_every_state_there_is():
    assert set(COLORS) == set(BREAKER_STATES)


def test_a_state_that_does_not_exist_is_refused():
    with pytest.raises(CommandError, match="invalid choice: 'ajar'"):
        run("--state", "ajar")


def test_it_registers_nothing():
    before = run("--json", "--state", "closed")
    assert run("--json", "--state", "closed") == before


def test_with_the_store_down_nothing_is_said_to_be_closed(settings):
    password = "hunter2-hunter2"
    settings.CACHES = {
        **settings.CACHES,
        "breakers": {
            **settings.CACHES["breakers"],
            "LOCATION": f"redis://:{password}@127.0.0.1:{free_port()}/2",
        },
    }
    out = StringIO()
    with pytest.raises(CommandError, match="unknown: the store cannot be reached") as failure:
        call_command("circuit_breakers", stdout=out)
    assert (failure.value.returncode, out.getvalue()) == (1, "")
    assert password not in str(failure.value)
