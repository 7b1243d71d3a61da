"""Every argument and option of the breakers' commands, given what it cannot mean: no operation."""

import pytest
from django.core.management import call_command

from tests.services.test_breaker_bad_input import NAME, NO_NAMES, outcome
from tests.support.api import nothing_changes
from tests.support.breakers import another, trip

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _breakers():
    trip(NAME)
    another("bad.two").acquire().succeed()


ACT = ("--no-input",)
BAD_REASONS = (["--reason", "x" * 501], ["--reason", "a\0b"], ["--reason", "\udcff"], ["--reason"])
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[list[str], ...]]] = {
    "list": (
        ("circuit_breakers",),
        (
            *(["--state", value] for value in ("", "ajar", "OPEN", "\udcff")),
            ["--state"],
            ["--search"],
            ["--sort", "name"],
            ["--page", "1"],
            ["bad.one", "bad.two"],
        ),
    ),
    "one": (("circuit_breakers",), tuple([name] for name in (*NO_NAMES, "\udcff"))),
    "reset": (
        ("reset_circuit_breakers", NAME, *ACT),
        (["bad.nope"], ["\udcff"], [""], ["--only-open=yes"], ["--dry-run=yes"], *BAD_REASONS),
    ),
    "hold": (
        ("set_circuit_breaker", NAME, "disabled", *ACT),
        (
            *(
                [f"--for={text}"]
                for text in ("", "0s", "-5m", "15", "1h30m", "nan", "inf", "367d", "9" * 400 + "d")
            ),
            ["--for"],
            ["--dry-run=yes"],
            ["--if-generation"],
            ["extra"],
            *BAD_REASONS,
        ),
    ),
    "hold what": (
        ("set_circuit_breaker", *ACT),
        (
            *([name, "disabled"] for name in (*NO_NAMES, "\udcff")),
            *([NAME, control] for control in ("", "open", "DISABLED", "\udcff")),
            [NAME],
            [],
            [NAME, "automatic", "--for", "1h"],
        ),
    ),
    "probe": (
        ("allow_probe", NAME, *ACT),
        (["--dry-run=yes"], ["--if-generation"], ["bad.two"], *BAD_REASONS),
    ),
    "probe what": (
        ("allow_probe", *ACT),
        (*([name] for name in (*NO_NAMES, "\udcff")), []),
    ),
    "forget": (
        ("forget_circuit_breaker", NAME, *ACT),
        (["--dry-run=yes"], ["--if-generation"], ["bad.two"], *BAD_REASONS),
    ),
    "forget what": (
        ("forget_circuit_breaker", *ACT),
        (*([name] for name in (*NO_NAMES, "\udcff")), []),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_command_says_what_is_wrong_and_does_nothing(command, extra, capsys):
    begins, wrong = COMMANDS[command]
    with nothing_changes():
        answers = {repr(argv): outcome(call_command, *begins, *extra, *argv) for argv in wrong}
    assert answers == dict.fromkeys(answers, "CommandError")
