"""circuit_breakers NAME: why it opened and all other evidence, for people, pipes and programs."""

import json
import math
import os
import re
from datetime import datetime
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError
from analytics_admin.services import Actor, describe_breaker, set_breaker_control, to_json
from tests.support.breakers import another, snapshot_of
from tests.support.stopwatch import Stopwatch

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

SHELL = Actor.system("root", channel="command")
HOSTILE = "\x1b[31mred\x1b]0;title\x07 a\r\nname  healthy [red]c[/red] \u202ertl <b>&"
SPELT_OUT = r"\x1b[31mred\x1b]0;title\x07 a\r\nname  healthy [red]c[/red] \u202ertl <b>&"


class Terminal(StringIO):
    def isatty(self):
        return True


def show(*argv, stdout=None):
    out = stdout or StringIO()
    call_command("circuit_breakers", *argv, stdout=out)
    return out.getvalue()


def section(text, title):
    """Return the cells of each line below the title, the columns' names first."""
    lines = text.split(f"\n{title}\n")[1].splitlines()
    inside = []
    for line in lines:
        if not line.startswith("  "):
            break
        inside.append(line.split())
    return inside


@pytest.fixture
def failed():
    """One success, then two failures that open it, then a rejected call."""
    breaker = another("full.one", failure_threshold=2)
    breaker.acquire().succeed()
    for text in ("first", "second"):
        breaker.acquire().fail(ConnectionError(text))
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    snapshot_of(breaker)
    return breaker


@pytest.mark.usefixtures("failed")
def test_a_name_is_shown_with_why_it_opened():
    out = show("full.one")
    facts = dict(line.split(None, 1) for line in out.splitlines() if len(line.split(None, 1)) == 2)
    assert (facts["name"], facts["state"], facts["control"]) == ("full.one", "open", "automatic")
    (opened,) = [line for line in out.splitlines() if line.startswith("opened ")]
    assert opened.endswith("by consecutive_failures: 3 (2 failed, 2 in a row, 0 slow)")
    assert datetime.fromisoformat(opened.split()[1]).tzinfo
    assert re.search(r"^last used +20\d\d-\S+Z$", out, re.MULTILINE)
    assert ["failure_threshold", "2"] in section(out, "policy")


@pytest.mark.usefixtures("failed")
def test_its_last_failures_are_listed_newest_first_with_place_class_and_text():
    columns, newest, older = section(show("full.one"), "last failures")
    assert columns == ["AT", "HOST", "PID", "ERROR", "MESSAGE"]
    assert newest[2:] == [str(os.getpid()), "ConnectionError", "second"]
    assert older[2:] == [str(os.getpid()), "ConnectionError", "first"]


@pytest.mark.usefixtures("failed")
def test_its_calls_of_five_minutes_take_five_lines():
    columns, *minutes = section(show("full.one"), "last five minutes")
    assert columns == ["FROM", "CALLS", "FAILED", "SLOW", "REJECTED"]
    assert len(minutes) == 5
    assert minutes[-1][1:] == ["3", "2", "0", "1"]
    assert [line[1:] for line in minutes[:4]] == [["0"] * 4] * 4
    starts = [datetime.fromisoformat(line[0]) for line in minutes]
    gaps = {(later - sooner).seconds for sooner, later in pairwise(starts)}
    assert gaps == {60}


def test_its_transitions_name_cause_counts_and_operator(failed):
    set_breaker_control(name="full.one", control="disabled", actor=SHELL)
    out = show("full.one")
    columns, held, opened = section(out, "transitions")
    assert " ".join(columns) == "AT MOVE CAUSE COUNTS BEFORE BY"
    assert " ".join(held[1:]).startswith("open -> disabled control 0 (")
    assert held[-1] == "root"
    words = "closed -> open consecutive_failures 3 (2 failed, 2 in a row, 0 slow) -"
    assert " ".join(opened[1:]) == words
    assert "opened" in out.split("generation")[0]
    assert "\nopened                -\n" in out  # under a hold that lets calls pass


def test_one_without_evidence_says_so():
    another("full.new").acquire().succeed()
    out = show("full.new")
    assert "last failures\n  none\n" in out
    assert "transitions\n  none\n" in out
    assert "last failures: none" in show("full.new", stdout=Terminal())


def test_under_metrics_only_it_says_whether_it_would_have_opened():
    breaker = another("full.watched", failure_threshold=1)
    breaker.acquire().succeed()
    set_breaker_control(
        name="full.watched", control="metrics_only", actor=SHELL, for_seconds=math.inf
    )
    assert "\nwould open            no\n" in show("full.watched")
    snapshot_of(breaker)
    breaker.acquire().fail(OSError("gone"))
    out = show("full.watched")
    assert "\nwould open            yes\n" in out
    assert "\nheld until            its release\n" in out
    (opened,) = [line for line in out.splitlines() if line.startswith("opened ")]
    assert "consecutive_failures: 1 (1 failed, 1 in a row, 0 slow)" in opened


@pytest.mark.usefixtures("failed")
def test_on_a_terminal_the_same_is_drawn_as_tables(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    drawn = show("full.one", stdout=Terminal())
    assert "┃" in drawn
    for words in ("last failures", "last five minutes", "transitions", "policy", "second", "open"):
        assert words in drawn
    assert "by consecutive_failures: 3 (2 failed, 2 in a row, 0 slow)" in drawn


@pytest.fixture
def hostile():
    """Foreign words in every place where they can stand."""
    breaker = another("full.hostile", failure_threshold=1)
    kind = type("[bold]Evil\x1b[2J\nError", (Exception,), {"__module__": "evil\x1b[31m"})
    breaker.acquire().fail(kind(HOSTILE))
    snapshot_of(breaker)
    actor = Actor.system("mal\x1b[2Jlory[/]", channel="command")
    set_breaker_control(name="full.hostile", control="forced_open", actor=actor, reason=HOSTILE)
    assert describe_breaker("full.hostile").failures[0].message == HOSTILE


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("stdout", [StringIO, Terminal])
@pytest.mark.parametrize("columns", ["40", "400"])
def test_foreign_words_are_shown_as_text_and_do_not_steer_the_terminal(
    monkeypatch, stdout, columns
):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    out = show("full.hostile", "--no-color", stdout=stdout())
    assert not {letter for letter in out if not letter.isprintable()} - {"\n"}
    if columns == "400" or stdout is StringIO:
        assert out.count(SPELT_OUT) == 2  # the failure's text and the hold's reason
        assert "[bold]Evil?[2J?Error" in out
        assert r"mal\x1b[2Jlory[/]" in out
    assert sum(line.startswith("name ") for line in out.splitlines()) <= 1


@pytest.mark.usefixtures("hostile")
def test_json_tells_foreign_words_as_they_were_said_in_ascii():
    out = show("full.hostile", "--json")
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out)["hold_reason"] == HOSTILE


@pytest.mark.parametrize(
    "argv",
    [
        ["circuit_breakers", HOSTILE],
        ["forget_circuit_breaker", HOSTILE, "--no-input"],
        ["set_circuit_breaker", HOSTILE, "disabled", "--no-input"],
        ["reset_circuit_breakers", HOSTILE, "--no-input"],
    ],
)
def test_a_hostile_name_does_not_steer_the_terminal_either(argv):
    with pytest.raises(CommandError) as refusal:
        call_command(*argv)
    assert (refusal.value.returncode, str(refusal.value)) == (
        2,
        f"Unknown circuit breakers: {SPELT_OUT}",
    )


@pytest.mark.usefixtures("hostile")
def test_json_of_a_name_is_what_the_service_and_rest_say(client, mint, superuser):
    path = "/api/v1/analytics/circuit-breakers/full.hostile"
    rest = client.get(path, headers={"Authorization": f"Bearer {mint()}"})
    shell = json.loads(show("full.hostile", "--json"))
    said = json.loads(json.dumps(to_json(describe_breaker("full.hostile"))))
    for answer in (shell, said, given := rest.json()):
        assert len(answer.pop("history")) == 30  # goes on with the clock, as the wait does
        assert 3590 < answer.pop("retry_after") <= 3600
    assert shell == said == given


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize(
    "argv", [[], ["--search", "api"], ["api.open"], ["api.open", "--fail-on-open"]]
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_with_the_store_down_the_state_is_unknown_within_a_second(argv, form):
    out = StringIO()
    watch = Stopwatch()
    with pytest.raises(CommandError, match="The state is unknown: the store ") as failure:
        call_command("circuit_breakers", *argv, *form, stdout=out)
    assert watch.seconds < 1
    assert failure.value.returncode == 1
    assert "hunter2" not in str(failure.value) + out.getvalue()
    assert bool(out.getvalue()) == bool(form)
    if form:
        assert json.loads(out.getvalue())["code"] == "store_unavailable"


def test_a_name_of_bytes_that_are_no_text_is_unknown():
    with pytest.raises(CommandError, match="Unknown circuit breakers") as refusal:
        show("\udcff")
    assert refusal.value.returncode == 2
    with pytest.raises(services.UnknownBreakers):
        describe_breaker("\udcff")
