"""The reference is complete and invents nothing: it is held against the code, both ways."""

import ast
import inspect
import json
import re
import shlex
from argparse import Action
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError
from django.dispatch import Signal
from django.test import Client

from analytics_admin import services, signals, testing
from analytics_admin.breakers import BreakerPolicy, circuit_breaker, state_machine
from analytics_admin.breakers.state import Control, State
from analytics_admin.caching import SearchCache, search_cache
from analytics_admin.caching.statistics.queries import Load
from analytics_admin.conf import DEFAULT_THROTTLE_RATES, KEYS
from analytics_admin.console.audit.followup import FOLLOW_UP_LABELS
from analytics_admin.models import Operation
from analytics_admin.permissions import CLEAR_PART, VIEW_CONSOLE, permission_of
from analytics_admin.services import Actor, errors, to_json
from analytics_admin.services.breakers.processes import ProcessStatus
from analytics_admin.services.breakers.types import BreakerActivity, BreakerDetail, BreakerStatus
from analytics_admin.services.search_cache.queries import SearchCacheCounts, SearchCacheStatus
from tests.docs.pages import ROOT, code_blocks, first_names, names, read, rows, sections
from tests.support.audit import EXPORT
from tests.support.breakers import trip

APP = ROOT / "analytics_admin"
OPENAPI = json.loads((APP / "api" / "openapi.json").read_text())
COMMANDS = {
    name: app for name, app in get_commands().items() if app in ("analytics_admin", "project")
}
SETTINGS, POLICY, REST = (
    read("reference/settings.md"),
    read("reference/policy.md"),
    read("reference/rest.md"),
)
COMMANDS_PAGE, FIGURES = read("reference/commands.md"), read("reference/figures.md")
AUDIT, PYTHON = read("reference/audit.md"), read("reference/python.md")


def _default(item: "Field[Any]") -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _evaluated(cell: str) -> Any:
    (code,) = names(cell)
    return eval(code, {"timedelta": timedelta})


def declare_catalog() -> None:
    """Have the breaker of the examples, which all of a process' tests share."""
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)


# Settings and policy


def test_every_setting_is_there_and_none_is_invented() -> None:
    assert sorted(first_names(SETTINGS, "key")) == sorted(KEYS)


@pytest.mark.parametrize("row", rows(SETTINGS, "key"), ids=lambda row: row[0])
def test_the_default_of_a_setting_is_that_of_the_code(row: list[str]) -> None:
    (key,) = names(row[0])
    default = DEFAULT_THROTTLE_RATES if key == "THROTTLE_RATES" else _default(KEYS[key])
    assert _evaluated(row[1]) == default
    assert type(_evaluated(row[1])) is type(default)


def test_every_policy_option_is_there_and_none_is_invented() -> None:
    assert sorted(first_names(POLICY, "option")) == sorted(
        item.name for item in fields(BreakerPolicy)
    )


@pytest.mark.parametrize("row", rows(POLICY, "option"), ids=lambda row: row[0])
def test_the_default_of_an_option_is_that_of_the_code(row: list[str]) -> None:
    (option,) = names(row[0])
    assert _evaluated(row[1]) == getattr(BreakerPolicy(), option)


def test_every_state_is_explained() -> None:
    holds = {control.value for control in Control} - {"automatic"}
    assert set(first_names(POLICY, "state")) == {state.value for state in State} | holds


def test_every_permission_is_explained_and_none_is_invented() -> None:
    assert set(first_names(SETTINGS, "permission")) == {
        permission_of(act) for act in [VIEW_CONSOLE, CLEAR_PART, *Operation.Kind]
    }


# Environment, checks, signals


def test_every_environment_variable_is_there_and_none_is_invented() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "project").rglob("*.py")))
    reads = r'(?:env\.\w+|read|flag|number|environ\.get)\(\s*"([A-Z_]+)"'
    found = set(re.findall(reads, source)) - {"DJANGO_SETTINGS_MODULE"}
    assert {"REDIS_URL", "DATABASE_URL", "SECRET_KEY", "DEBUG", "NUM_PROXIES"} <= found
    assert set(first_names(read("reference/environment.md"), "variable")) == found


def test_every_check_is_there_and_none_is_invented() -> None:
    source = "".join(path.read_text() for path in sorted(APP.rglob("*.py")))
    found = {f"analytics_admin.{number}" for number in re.findall(r"\b[EWI]\d{3}\b", source)}
    assert len(found) > 15
    assert set(first_names(read("reference/checks.md"), "id")) == {*found, "project.E001"}


@pytest.mark.parametrize("row", rows(read("reference/checks.md"), "id"), ids=lambda row: row[0])
def test_a_check_has_the_level_of_its_number(row: list[str]) -> None:
    (name,) = names(row[0])
    levels = {"E": "error", "W": "warning", "I": "info"}
    assert row[1].split(",")[0] == levels[name.split(".")[1][0]]


def test_every_signal_is_there_and_none_is_invented() -> None:
    found = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert set(first_names(read("reference/signals.md"), "signal")) == found


def test_every_argument_of_a_signal_is_there_and_none_is_invented() -> None:
    calls = [
        node
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    sent = {
        call.func.value.id: {item.arg for item in call.keywords} - {"sender"}
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "send_robust"
        and isinstance(call.func.value, ast.Name)
    }
    told = rows(read("reference/signals.md"), "signal")
    assert {names(row[0])[0]: set(names(row[1])) for row in told} == sent


def test_every_cause_of_a_transition_is_there_and_none_is_invented() -> None:
    causes = {
        state_machine.CONSECUTIVE_FAILURES,
        state_machine.FAILURE_RATE,
        state_machine.SLOW_CALL_RATE,
        state_machine.WAIT_OVER,
        state_machine.PROBE_FAILED,
        state_machine.PROBES_SUCCEEDED,
        state_machine.RESET,
        state_machine.CONTROL,
        state_machine.HOLD_OVER,
        state_machine.PROBE_ALLOWED,
        "local",
    }
    assert set(first_names(read("reference/signals.md"), "cause")) == causes


# Commands


def _options(command: str) -> list[Action]:
    """Return the command's arguments without those that every Django command has."""
    parser = load_command_class(COMMANDS[command], command).create_parser("manage.py", command)
    common = BaseCommand().create_parser("manage.py", "any")
    known = {text for action in common._actions for text in action.option_strings}
    return [
        action
        for action in parser._actions
        if not action.option_strings or not set(action.option_strings) <= known
    ]


def test_every_command_is_there_and_none_is_invented() -> None:
    assert set(first_names(COMMANDS_PAGE, "command")) == set(COMMANDS)
    headed = {names(heading)[0] for heading in sections(COMMANDS_PAGE) if heading.startswith("`")}
    assert headed == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_is_there_and_none_is_invented(command: str) -> None:
    page = sections(COMMANDS_PAGE)
    section, shared = page[f"`{command}`"], page["Options of every operation"]
    taken = {text for action in _options(command) for text in action.option_strings}
    own = set(re.findall(r"(?<![\w-])--[\w-]+", " ".join(first_names(section, "option"))))
    everywhere = set(re.findall(r"(?<![\w-])--[\w-]+", shared))
    assert taken <= own | everywhere
    assert own <= taken
    for action in _options(command):
        if not action.option_strings:
            shown = action.metavar or action.dest.upper()
            assert str(shown) in section


@pytest.mark.django_db
@pytest.mark.parametrize(
    "line", re.findall(r"^python manage.py (.+)$", COMMANDS_PAGE, re.MULTILINE)
)
def test_every_command_line_works(
    line: str, superuser: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    trip("catlog")  # as a misspelt name would be
    if line.startswith("undo_clear"):
        call_command("clear_search_cache", "--no-input", "--soft")
        search_cache.set("q", 1, tags=["products"])
        call_command("clear_search_cache", "--no-input", "--soft", "--tag", "products")
        capsys.readouterr()
    if line.startswith("allow_probe"):
        trip("catalog")
    if line.startswith("doctor"):  # the tests' store keeps nothing on disk, which it warns of
        with pytest.raises(CommandError, match=r"^0 errors, 1 warning$"):
            call_command(*shlex.split(line))
        return
    call_command(*shlex.split(line))
    assert capsys.readouterr().err == ""


# REST

ENDPOINTS = {
    f"{method.upper()} {path}": details
    for path, methods in OPENAPI["paths"].items()
    for method, details in methods.items()
}


def test_every_endpoint_is_there_and_none_is_invented() -> None:
    headed = {names(heading)[0] for heading in sections(REST) if heading.startswith("`")}
    assert headed == set(ENDPOINTS)


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_every_option_and_field_of_an_endpoint_is_there_and_none_is_invented(endpoint: str) -> None:
    section, details = sections(REST)[f"`{endpoint}`"], ENDPOINTS[endpoint]
    asked = {item["name"] for item in details.get("parameters", []) if item["in"] == "query"}
    body = details.get("requestBody", {"content": {}})["content"].get("application/json")
    named = {} if body is None else _schema(body["schema"])["properties"]
    assert set(first_names(section, "option")) == asked
    assert set(first_names(section, "field")) == set(named)
    takes_etag = any(item["name"] == "If-Match" for item in details.get("parameters", []))
    assert ("If-Match" in section) is takes_etag


def _schema(reference: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = OPENAPI["components"]["schemas"][reference["$ref"].split("/")[-1]]
    return found


NOT_OVER_REST = {
    "circuit_open",  # of protected calls
    "unknown_user",  # of revoke_tokens
    "unstorable_value",
    "value_too_large",
    "already_on_record",  # of an operation_id, which services take
    "another_clear",
    "other_environment",  # of the console
}
OF_THE_FRAMEWORK = {
    "authentication_failed",
    "method_not_allowed",
    "not_authenticated",
    "not_found",
    "throttled",
    "unsupported_media_type",
}


def test_every_error_code_is_there_and_none_is_invented() -> None:
    told = {name for row in rows(REST, "status") for name in names(row[1])}
    source = "".join(path.read_text() for path in sorted(APP.rglob("*.py")))
    declared = set(re.findall(r'\b(?:default_)?code ?= ?"(\w+)"', source))
    assert len(declared) > 12
    assert declared - told == NOT_OVER_REST
    assert {name for name in told if f'"{name}"' not in source} <= OF_THE_FRAMEWORK


@pytest.mark.django_db
def test_every_curl_line_works(superuser: Any, client: Client) -> None:
    superuser.set_password("open sesame")
    superuser.save()
    declare_catalog()
    (block,) = code_blocks(REST, "sh")
    lines = block.splitlines()
    assert len(lines) >= 7
    tokens = ""
    for line in lines:
        if line.endswith("catalog is back\"}'"):
            services.set_breaker_control(
                name="catalog", control="automatic", actor=Actor.system("test")
            )
            services.reset_circuit_breakers(names=["catalog"], actor=Actor.system("test"))
            trip("catalog")
        answer = _send(client, line, username=superuser.get_username(), token=tokens)
        assert answer.status_code == 200, (line, answer.content)
        tokens = answer.json().get("access", tokens)


def _send(client: Client, line: str, *, username: str, token: str) -> Any:
    """Send what the curl line would send."""
    filled = line.replace('"\'"$PASSWORD"\'"', '"open sesame"').replace("$TOKEN", token)
    filled = filled.replace('"admin"', f'"{username}"')
    words = iter(shlex.split(filled)[1:])
    method, body, headers, path = "GET", "", {}, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            path = word.removeprefix("http://127.0.0.1:8000")
    content_type = headers.pop("Content-Type", "application/x-www-form-urlencoded")
    return client.generic(method, path, body, content_type=content_type, headers=headers)


# Audit trail


def test_every_field_of_a_row_is_there_and_none_is_invented() -> None:
    told = {name for row in rows(sections(AUDIT)["Fields"], "field") for name in names(row[0])}
    assert told == set(to_json(Operation()))


@pytest.mark.django_db
def test_every_part_of_an_export_is_there_and_none_is_invented(
    client: Client, superuser: Any
) -> None:
    client.force_login(superuser)
    exported = json.loads(client.get(EXPORT).getvalue())
    assert set(first_names(sections(AUDIT)["Export"], "field")) == set(exported)


def test_every_kind_status_and_channel_is_there_and_none_is_invented() -> None:
    assert set(first_names(AUDIT, "kind")) == set(Operation.Kind.values)
    assert set(first_names(AUDIT, "status")) == set(Operation.Status.values)
    (channel,) = [row[1] for row in rows(AUDIT, "field") if row[0] == "`channel`"]
    assert set(names(channel)) == set(Operation.Channel.values)


@pytest.mark.django_db
def test_rows_hold_the_targets_and_outcomes_that_it_names(superuser: Any) -> None:
    actor = Actor.system("test")
    services.prune_operations(actor=actor, older_than=400 * 86_400)
    services.revoke_tokens(actor=actor, username=superuser.get_username())
    declare_catalog()
    circuit_breaker("docs.held")
    trip("catalog")
    trip("catlog")
    services.clear_search_cache(actor=actor, mode="soft")
    services.undo_clear(actor=actor)
    services.clear_search_cache(actor=actor)
    services.clear_search_cache(actor=actor, tags=["products"])
    services.clear_search_cache(actor=actor, functions=["shop.search.find"])
    search_cache.set(["f", {}], 1)
    services.clear_search_cache(actor=actor, functions=["f"], tags=["t"], mode="soft")
    services.undo_clear(actor=actor, functions=["f"], tags=["t"])
    services.clear_search_cache(actor=actor, keys=[["search", "lamp", 1]])
    services.sweep_search_cache(actor=actor)
    services.allow_probe(actor=actor, name="catalog")
    services.set_breaker_control(actor=actor, name="docs.held", control="disabled")
    services.reset_circuit_breakers(actor=actor)
    services.forget_breaker(actor=actor, name="catlog")
    told = {
        names(row[0])[0]: (set(names(row[1])) - {'"all"'}, set(names(row[2])))
        for row in rows(AUDIT, "kind")
    }
    found: dict[str, tuple[set[str], set[str]]] = {}
    for row in Operation.objects.all():
        targets, outcome = found.setdefault(row.kind, (set(), set()))
        targets.update(row.targets)
        outcome.update(row.outcome)
    assert found == told


def test_every_outcome_of_a_follow_up_is_there_and_none_is_invented() -> None:
    said = {str(label.of_one).split(" %(")[0] for label in FOLLOW_UP_LABELS.values()}
    told = [row[0] for row in rows(AUDIT, "it says")]
    assert {next((it for it in said if text.startswith(it)), text) for text in told} == said


# Figures


def test_every_figure_of_a_breaker_is_there_and_none_is_invented() -> None:
    told = first_names(sections(FIGURES)["Circuit breaker"], "figure")
    activity = {item.name for item in fields(BreakerActivity)}
    activity |= {name for name, it in vars(BreakerActivity).items() if isinstance(it, property)}
    found = {item.name for item in (*fields(BreakerStatus), *fields(BreakerDetail))}
    assert set(told) == found | activity


def test_every_figure_of_a_process_is_there_and_none_is_invented() -> None:
    told = {name for row in rows(sections(FIGURES)["Process"], "figure") for name in names(row[0])}
    assert told == {item.name for item in fields(ProcessStatus)}


def test_every_figure_of_the_search_cache_is_there_and_none_is_invented() -> None:
    page = sections(FIGURES)
    told = first_names(page["Search cache"], "figure")
    assert set(told) == {item.name for item in fields(SearchCacheStatus)}
    counts = first_names(page["Counts"], "count")
    assert set(counts) == {item.name for item in fields(SearchCacheCounts)}
    assert set(first_names(page["Load"], "figure")) == {item.name for item in fields(Load)}


# Python


def test_every_method_of_the_search_cache_is_there_and_none_is_invented() -> None:
    told = {re.split(r"\W", name)[0] for name in first_names(PYTHON, "method")}
    lifecycle = {"after_fork", "flush", "reconnect"}  # called by the process, not by a site
    public = {name for name in vars(SearchCache) if not name.startswith("_")} - lifecycle
    twins = {name for name in public if name[0] == "a" and name[1:] in public}
    assert told == public - twins
    assert all(f"`{name}`" in PYTHON for name in twins)


@pytest.mark.parametrize(
    "simulation", [value for value in vars(testing).values() if inspect.isclass(value)]
)
def test_everything_that_a_simulation_does_is_there_and_nothing_is_invented(
    simulation: type,
) -> None:
    told = {re.split(r"\W", name)[0] for name in first_names(PYTHON, f"`{simulation.__name__}`")}
    own = {*vars(simulation), *vars(simulation).get("__annotations__", {})}
    assert told == {name for name in own if not name.startswith("_")}


def test_every_simulation_is_there_and_none_is_invented() -> None:
    told = {name.removesuffix("()") for name in first_names(PYTHON, "context manager")}
    assert told == {name for name in testing.__all__ if name.startswith("simulated_")}


def _called(told: str) -> tuple[str, dict[str, str]]:
    """Return the name and the arguments, with their defaults, of what looks like a definition."""
    definition = ast.parse(f"def {told}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = [argument.arg for argument in definition.args.args]
    defaults = [ast.unparse(default) for default in definition.args.defaults]
    without = ["required"] * (len(arguments) - len(defaults))
    return definition.name, dict(zip(arguments, [*without, *defaults], strict=True))


@pytest.mark.parametrize(
    "told", [*first_names(PYTHON, "operation"), *first_names(PYTHON, "question")]
)
def test_a_service_takes_what_is_told_of_it(told: str) -> None:
    name, arguments = _called(told)
    taken = inspect.signature(getattr(services, name)).parameters
    for argument, default in arguments.items():
        if taken[argument].default is inspect.Parameter.empty:
            assert default == "required"
        else:
            assert ast.literal_eval(default) == taken[argument].default


def test_every_name_of_the_services_is_there() -> None:
    told = set(re.findall(r"`(\w+)", PYTHON.split("## `analytics_admin.services`")[1]))
    assert set(services.__all__) - told == set()


def test_every_error_of_an_operator_is_there_with_its_code() -> None:
    told = {names(row[0])[0]: names(row[1]) for row in rows(PYTHON, "error")}
    found = {name: getattr(errors, name) for name in errors.__all__ if name != "OperatorError"}
    assert told.keys() == found.keys()
    for name, error in found.items():
        assert issubclass(error, errors.OperatorError)
        assert name == "OperationFailed" or error.code in told[name]


@pytest.mark.parametrize("page", ["settings", "signals", "python"])
@pytest.mark.django_db
def test_the_python_examples_run(page: str) -> None:
    declare_catalog()
    blocks = code_blocks(read(f"reference/{page}.md"), "python")
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": "site"})
