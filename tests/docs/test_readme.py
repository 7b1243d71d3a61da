"""README is short and true: its examples run. The fleet's tests follow its install."""

import re
import shlex
import tomllib

import pytest
from django.core.management import call_command

from analytics_admin.breakers import circuit_breaker
from tests.docs.pages import ROOT, part, sections

README = (ROOT / "README.md").read_text()


def test_it_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_commands_are_there_once_and_alone_on_their_lines() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
    for does in (".venv/bin/python manage.py quickstart", ".venv/bin/pytest"):
        assert README.splitlines().count(f"{install} && {does}") == 1


def test_it_has_an_example_of_each_interface() -> None:
    told = part(README, "Three interfaces")
    assert "curl -X POST" in told
    assert "Clear search cache" in told
    assert "python manage.py" in told


def test_it_names_the_versions_that_the_package_asks_for() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = " ".join(sections(README)["Versions and license"].split())
    assert f"Python {package['requires-python'].removeprefix('>=')} to" in told
    (django,) = [line for line in package["dependencies"] if line.startswith("Django>")]
    first, below = re.findall(r"\d+\.\d+", django)
    assert f"Django {first}" in told
    assert f"Django {below}" not in told


@pytest.mark.django_db
def test_its_operations_run(capsys: pytest.CaptureFixture[str]) -> None:
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    lines = re.findall(
        r"^\.venv/bin/python manage\.py (.+)$", part(README, "Three interfaces"), re.MULTILINE
    )
    assert len(lines) == 2
    for line in lines:
        call_command(*shlex.split(line))
    assert capsys.readouterr().err == ""
