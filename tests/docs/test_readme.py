"""README tells the truth: its examples run, its tables are complete."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands
from django.urls import get_resolver

from analytics_admin.breakers import circuit_breaker
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.conf import KEYS
from tests.support.breakers import trip

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^python manage.py (.+)$", README, re.MULTILINE)


@pytest.mark.django_db
def test_the_python_examples_run_in_the_order_given():
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    namespace: dict[str, object] = {}
    for example in PYTHON:
        exec(compile(example, "README.md", "exec"), namespace)
    assert namespace["hits"] == namespace["answer"] == {"results": ["lamp"]}
    assert set(namespace["CACHES"]) == {"default", "search", "breakers"}


@pytest.mark.django_db
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_works(line, superuser, capsys):
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    trip("catlog")  # as a misspelt name would be
    if line.startswith("undo_clear"):
        call_command("clear_search_cache", "--no-input", "--soft")
        capsys.readouterr()
    if line.startswith("allow_probe"):
        trip("catalog")
    call_command(*shlex.split(line))
    assert capsys.readouterr().err == ""


def test_there_are_examples_for_every_kind():
    assert len(PYTHON) >= 4
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_setting_is_in_the_table(key):
    assert f"| `{key}` |" in README


@pytest.mark.parametrize("option", [item.name for item in fields(BreakerPolicy)])
def test_every_policy_option_is_in_the_table(option):
    assert f"| `{option}` |" in README


@pytest.mark.parametrize(
    "command",
    sorted(name for name, app in get_commands().items() if app in ("analytics_admin", "project")),
)
def test_every_command_is_named(command):
    assert command in README


def test_every_endpoint_is_named():
    paths = [
        f"api/v1/{pattern.pattern}".replace("<str:name>", "NAME").replace(
            "<uuid:operation_id>", "ID"
        )
        for root in get_resolver().url_patterns
        if str(root.pattern) == "api/v1/"
        for included in root.url_patterns
        for pattern in getattr(included, "url_patterns", [included])
        if re.fullmatch(r"[\w/<:>-]+", str(pattern.pattern))
    ]
    assert "api/v1/analytics/circuit-breakers/NAME/control" in paths
    assert [path for path in paths if path not in README] == []


def test_every_environment_variable_is_in_the_table():
    source = "".join(path.read_text() for path in sorted((ROOT / "project").rglob("*.py")))
    names = set(re.findall(r'(?:env\.\w+|read|flag|number)\(\s*"([A-Z_]+)"', source))
    assert {"REDIS_URL", "DATABASE_URL", "SECRET_KEY", "DEBUG", "NUM_PROXIES"} <= names
    assert sorted(name for name in names if f"`{name}`" not in README) == []


def test_every_folder_it_names_exists():
    tree = README.split("## Where things are")[1].split("```")[1]
    for name in re.findall(r"^  (\w+/?(?:\.py)?)", tree, re.MULTILINE):
        assert (ROOT / "analytics_admin" / name).exists(), name
