"""circuit_breakers NAME, its check and its watch; set_circuit_breaker and its options."""

import getpass
import json
import math
from io import StringIO

import pytest

from analytics_admin import services
from analytics_admin.management.commands.set_circuit_breaker import duration
from analytics_admin.management.watch import watch
from analytics_admin.models import Operation
from analytics_admin.services import Actor, StoreUnavailable, describe_breaker, set_breaker_control
from tests.support.api import nothing_changes
from tests.support.breakers import another, state_now, trip
from tests.support.doors import run
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")
SET = ("set_circuit_breaker", "shell.open", "disabled", "--no-input")


@pytest.fixture(autouse=True)
def breaker():
    another("shell.calm").acquire().succeed()
    return trip("shell.open")


def test_json_of_a_name_is_what_the_service_says():
    answer = json.loads(run("circuit_breakers", "shell.open", "--json")[1])
    assert answer.pop("retry_after") <= 60
    said = services.to_json(describe_breaker("shell.open"))
    said.pop("retry_after")
    assert answer == said


def test_an_unknown_name_is_exit_code_2_and_is_not_created():
    with nothing_changes():
        code, out, err = run("circuit_breakers", "shell.nope")
    assert (code, out, err) == (2, "", "Unknown circuit breakers: shell.nope")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["shell.open", "--state", "open"], "NAME and --state"),
        (["shell.open", "--search", "x"], "NAME and --search"),
        (["shell.open", "--watch"], "NAME and --watch"),
        (["--watch", "--json"], "--watch and --json"),
        (["--watch", "--fail-on-open"], "--watch and --fail-on-open"),
        (["--strict"], "--fail-on-open"),
        (["--watch"], "terminal"),
    ],
)
def test_options_that_do_not_go_together_are_exit_code_2(argv, words):
    code, out, err = run("circuit_breakers", *argv)
    assert (code, out) == (2, "")
    assert words in err


def check(*argv):
    code, out, _ = run("circuit_breakers", "--fail-on-open", *argv)
    assert out
    return code


def test_the_check_fails_while_one_is_waiting_open():
    code, out, err = run("circuit_breakers", "--fail-on-open", "--json")
    assert (code, err) == (3, "Not closed: shell.open")
    assert json.loads(out)["count"] >= 2
    assert check("shell.open") == check("--state", "open") == 3
    assert check("shell.calm") == check("--state", "closed") == 0


def test_one_whose_wait_is_over_fails_the_strict_check_alone():
    another("shell.rested", failure_threshold=1, wait_duration_in_open_state=1e-6).acquire().fail()
    status = describe_breaker("shell.rested").status
    assert (status.state, status.retry_after) == ("open", 0.0)
    assert check("shell.rested") == 0
    assert check("shell.rested", "--strict") == 3


def test_one_that_probes_fails_the_strict_check_alone():
    set_breaker_control(name="shell.open", control="forced_open", actor=SHELL)
    assert check("shell.open") == 3  # it refuses calls
    set_breaker_control(name="shell.open", control="automatic", actor=SHELL)
    assert describe_breaker("shell.open").status.state == "half_open"
    assert check("shell.open") == 0
    assert check("shell.open", "--strict") == check("--strict") == 3
    set_breaker_control(name="shell.open", control="disabled", actor=SHELL)
    assert check("shell.open", "--strict") == 0  # calls pass


def test_the_check_does_not_pass_while_the_store_is_down(settings):
    nowhere = {**settings.CACHES["breakers"], "LOCATION": f"redis://127.0.0.1:{free_port()}/2"}
    settings.CACHES = {**settings.CACHES, "breakers": nowhere}
    assert run("circuit_breakers", "--fail-on-open")[0] == 1


class Screen(StringIO):
    def isatty(self):
        return True


def watched(looks):
    """Let the watch look so often, then press Ctrl-C; return what each look left on the screen."""
    screen, shown = Screen(), []

    def pause(seconds):
        shown.append(screen.getvalue())
        screen.seek(0)
        screen.truncate()
        if len(shown) == len(looks):
            raise KeyboardInterrupt

    def look(lines):
        return looks[len(shown)](lines)

    watch(look, screen, color=False, pause=pause)
    return shown


def fleet(lines):
    return services.page_breakers(search="shell.", page_size=lines)


def one(lines):
    return services.page_breakers(search="shell.calm", page_size=lines)


def down(lines):
    raise StoreUnavailable("the store cannot be reached")


def test_the_watch_follows_the_fleet_and_outlives_an_outage():
    first, lost, back = watched([fleet, down, one])
    assert "shell.open" in first
    assert "2 circuit breakers at" in first
    assert "unknown: the store cannot be reached (as of" in " ".join(lost.split())
    assert "shell.open" in lost
    assert "shell.open" not in back
    assert "1 circuit breaker at" in back


def test_the_watch_may_begin_in_an_outage():
    (lost,) = watched([down])
    assert "no data yet" in " ".join(lost.split())


def test_the_watch_of_a_large_fleet_keeps_to_the_screen(monkeypatch):
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("COLUMNS", "80")
    for number in range(20):
        another(f"shell.{number:02}").acquire().succeed()
    (shown,) = watched([fleet])
    assert shown.count("closed") == 14
    assert "22 circuit breakers at" in " ".join(shown.split())
    assert "8 of them not shown" in " ".join(shown.split())


def test_a_hold_from_the_shell_is_done_and_on_record(breaker):
    code, out, err = run(*SET, "--for", "15m", "--reason", "deploy")
    message = "Circuit breaker shell.open set to disabled\n  shell.open: open -> disabled\n"
    assert (code, out, err) == (0, f"{message}no process uses circuit breakers\n", "")
    assert state_now(breaker) == "disabled"
    row = Operation.objects.get()
    assert (row.kind, row.channel, row.actor) == (
        "control_circuit_breakers",
        "command",
        getpass.getuser(),
    )
    assert row.targets["for_seconds"] == 900
    assert row.reason == "deploy"


def test_a_hold_lasts_an_hour_unless_told_otherwise_and_can_be_released():
    run(*SET)
    assert Operation.objects.get().targets["for_seconds"] == 3600
    code, out, _ = run("set_circuit_breaker", "shell.open", "automatic", "--no-input", "--json")
    assert (code, json.loads(out)["message"]) == (0, "Circuit breaker shell.open set to automatic")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("1.5h", 5400), ("ever", math.inf)],
)
def test_a_time_is_a_number_and_its_unit(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "15", "m", "-5m", "1h30m", "15 m", "15M", "1e9s", "inf", "nan", "٣m", "9" * 400 + "d"],
)
def test_any_other_time_is_a_usage_error(text):
    with nothing_changes():
        assert "not a duration" in run(*SET, f"--for={text}")[2]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["shell.nope", "disabled"], "Unknown circuit breakers: shell.nope"),
        (["shell.open", "disabled", "--for", "0s"], "more than 0"),
        (["shell.open", "disabled", "--for", "400d"], "at most"),
        (["shell.open", "automatic", "--for", "1h"], "a release has no duration"),
        (["shell.open", "disabled", "--reason", "x" * 501], "at most 500"),
    ],
)
def test_what_is_not_asked_for_properly_is_exit_code_2_and_nothing_is_done(argv, words):
    with nothing_changes():
        code, out, err = run("set_circuit_breaker", *argv, "--no-input")
    assert (code, out) == (2, "")
    assert words in err


def test_a_control_that_does_not_exist_is_a_usage_error():
    with nothing_changes():
        assert "invalid choice: 'open'" in run("set_circuit_breaker", "shell.open", "open")[2]


def test_a_dry_run_holds_nothing_and_without_a_terminal_it_does_not_act_unasked():
    with nothing_changes():
        code, out, _ = run(*SET, "--dry-run")
        said = "Dry run: circuit breaker shell.open would be set to disabled"
        assert out == f"{said}\n  shell.open: open -> disabled\n"
        assert code == 0
        assert run(*SET[:-1])[0] == 2


def test_only_what_its_operator_has_seen_is_held():
    seen = describe_breaker("shell.open").status.generation
    with nothing_changes(rows=1):
        code, out, err = run(*SET, "--if-generation", "stale", "--json")
    assert (code, err) == (1, "Circuit breaker shell.open has changed meanwhile")
    answer = json.loads(out)
    assert answer["code"] == "breaker_moved"
    assert answer["operation_id"] == str(Operation.objects.get().pk)
    assert run(*SET, "--if-generation", seen)[0] == 0


def test_with_the_store_down_nothing_is_held_and_the_row_says_so(settings):
    nowhere = {**settings.CACHES["breakers"], "LOCATION": f"redis://127.0.0.1:{free_port()}/2"}
    settings.CACHES = {**settings.CACHES, "breakers": nowhere}
    code, out, err = run(*SET)
    sentence = "Failed to control circuit breaker: the store cannot be reached"
    assert (code, out, err) == (1, "", sentence)
    assert Operation.objects.get().status == "failed"
