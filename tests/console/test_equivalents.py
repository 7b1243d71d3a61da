"""The confirm page says the same act as curl and as manage.py: word for word what does it."""

import json
import math
import re
import shlex
from html import unescape

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.test import override_settings

from analytics_admin import services
from analytics_admin.console.equivalents import MAX_LINES, command_equivalents, curl_equivalents
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.support.breakers import trip
from tests.support.doors import run

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")
SITE = "https://console.example.org"
API = f"{SITE}/api/v1/analytics"
BEARER = '-H "Authorization: Bearer $TOKEN"'
JSON = "-H 'Content-Type: application/json'"
HOSTILE = 'it\'s "$(reboot)" `reboot`; reboot & \\\n--x ☃ !! %s {{ 1 }} </pre><script>'

# What an operation's service is called with, and what a user types instead: curl and manage.py.
LINES = {
    "clear": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"mode": "hard", "tags": None},
        f"curl -X POST {API}/cache/clear {BEARER}",
        "clear_search_cache --no-input",
    ),
    "clear softly": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"mode": "soft", "tags": None, "reason": "old prices"},
        f"curl -X POST {API}/cache/clear {BEARER} {JSON} "
        """-d '{"mode": "soft", "reason": "old prices"}'""",
        "clear_search_cache --soft --no-input --reason='old prices'",
    ),
    "clear tags": (
        Operation.Kind.CLEAR_SEARCH_CACHE,
        {"mode": "hard", "tags": ["prices", "-x y"]},
        f"""curl -X POST {API}/cache/clear {BEARER} {JSON} -d '{{"tags": ["prices", "-x y"]}}'""",
        "clear_search_cache --tag=prices --tag='-x y' --no-input",
    ),
    "undo": (
        Operation.Kind.UNDO_CLEAR,
        {},
        f"curl -X POST {API}/cache/undo {BEARER}",
        "undo_clear --no-input",
    ),
    "reset all": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"only_open": False},
        f"curl -X POST {API}/circuit-breakers/reset {BEARER}",
        "reset_circuit_breakers --no-input",
    ),
    "reset open ones": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"only_open": True},
        f"""curl -X POST {API}/circuit-breakers/reset {BEARER} {JSON} -d '{{"only_open": true}}'""",
        "reset_circuit_breakers --only-open --no-input",
    ),
    "reset several": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"names": ["a", "b"], "expected_generation": {"a": "x:1", "b": "y:1"}},
        f"curl -X POST {API}/circuit-breakers/reset {BEARER} {JSON} "
        """-d '{"names": ["a", "b"]}'""",
        "reset_circuit_breakers a b --no-input",
    ),
    "reset one": (
        Operation.Kind.RESET_CIRCUIT_BREAKERS,
        {"names": ["a:1"], "expected_generation": "x:1"},
        f"""curl -X POST {API}/circuit-breakers/a:1/reset {BEARER} -H 'If-Match: "x:1"'""",
        "reset_circuit_breakers a:1 --if-generation=x:1 --no-input",
    ),
    "hold": (
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {
            "name": "a",
            "control": "disabled",
            "for_seconds": 900.0,
            "expected_generation": "x:1",
            "reason": "deploy",
        },
        f"""curl -X PUT {API}/circuit-breakers/a/control {BEARER} -H 'If-Match: "x:1"' {JSON} """
        """-d '{"control": "disabled", "for_seconds": 900, "reason": "deploy"}'""",
        "set_circuit_breaker a disabled --for=15m --if-generation=x:1 --no-input --reason=deploy",
    ),
    "hold for ever": (
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {"name": "a", "control": "forced_open", "for_seconds": math.inf},
        f"curl -X PUT {API}/circuit-breakers/a/control {BEARER} {JSON} "
        """-d '{"control": "forced_open", "for_seconds": "ever"}'""",
        "set_circuit_breaker a forced_open --for=ever --no-input",
    ),
    "release": (
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {"name": "a", "control": "automatic", "for_seconds": None},
        f"""curl -X PUT {API}/circuit-breakers/a/control {BEARER} {JSON} """
        """-d '{"control": "automatic"}'""",
        "set_circuit_breaker a automatic --no-input",
    ),
    "probe": (
        Operation.Kind.ALLOW_PROBE,
        {"name": "a", "expected_generation": "x:1"},
        f"""curl -X POST {API}/circuit-breakers/a/probe {BEARER} -H 'If-Match: "x:1"'""",
        "allow_probe a --if-generation=x:1 --no-input",
    ),
    "forget": (
        Operation.Kind.FORGET_CIRCUIT_BREAKER,
        {"name": "a", "expected_generation": ""},
        f"""curl -X DELETE {API}/circuit-breakers/a {BEARER} -H 'If-Match: ""'""",
        "forget_circuit_breaker a --if-generation='' --no-input",
    ),
}


def absolute(path):
    return f"{SITE}{path}"


@pytest.mark.parametrize(("act", "options", "curl", "command"), LINES.values(), ids=LINES)
def test_the_lines_are_what_a_user_would_type(act, options, curl, command):
    assert curl_equivalents(act, options, absolute=absolute) == ([curl] if curl else [])
    assert command_equivalents(act, options) == [f"python manage.py {command}"]


def test_there_are_lines_for_every_operation_of_the_console():
    kinds = Operation.Kind
    shell_only = {kinds.SWEEP_SEARCH_CACHE, kinds.REVOKE_TOKENS, kinds.PRUNE_OPERATIONS}
    assert {act for act, *_ in LINES.values()} == set(Operation.Kind) - shell_only


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(60, "1m"), (90, "90s"), (0.5, "0.5s"), (86_400, "1d"), (5400, "90m"), (1e-9, "0.000000001s")],
)
def test_a_duration_is_said_exactly(seconds, words):
    (line,) = command_equivalents(
        Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
        {"name": "a", "control": "disabled", "for_seconds": seconds},
    )
    assert f" --for={words} " in line


def test_a_hold_of_several_is_a_line_for_each_as_it_was_seen_and_of_many_the_rest_is_counted():
    names = [f"many.{number}" for number in range(25)]
    seen = {name: f"{name}:7" for name in names}
    options = {"names": names, "control": "disabled", "expected_generation": seen}
    for lines, condition in [
        (
            curl_equivalents(Operation.Kind.CONTROL_CIRCUIT_BREAKERS, options, absolute=absolute),
            'If-Match: "{}"',
        ),
        (
            command_equivalents(Operation.Kind.CONTROL_CIRCUIT_BREAKERS, options),
            "--if-generation={}",
        ),
    ]:
        assert len(lines) == MAX_LINES + 1
        assert lines[-1] == "# … and 5 more"
        told = dict(zip(names, lines[:MAX_LINES], strict=False))
        assert all(condition.format(seen[name]) in line for name, line in told.items())


@override_settings(ROOT_URLCONF="tests.console.bare_urls")
def test_where_the_api_is_not_mounted_there_is_no_curl():
    for act, options, *_ in LINES.values():
        assert curl_equivalents(act, options, absolute=absolute) == []


@pytest.mark.parametrize("reason", [HOSTILE, "-x", "--dry-run", "'", "", "a\r\nb", "\u202e"])
def test_no_reason_is_anything_but_the_reason(reason):
    for act, given, *_ in LINES.values():
        options = {**given, "reason": reason}
        (command,) = command_equivalents(act, options)
        assert shlex.split(command)[-1] == (f"--reason={reason}" if reason else "--no-input")
        for curl in curl_equivalents(act, options, absolute=absolute):
            option, body = shlex.split(curl)[-2:]
            told = json.loads(body) if option == "-d" else {}
            assert told.get("reason", "") == reason


@pytest.fixture
def operator(client, superuser):
    client.force_login(superuser)
    trip("said.1")
    trip("said.2")
    caches["search"].set("key", "value")
    return client


CACHE = "/admin/analytics_admin/searchcache/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGES = {
    "clear": (f"{CACHE}clear/", {"mode": "soft", "reason": HOSTILE}),
    "tags": (f"{CACHE}clear/", {"mode": "tags", "tags": "a b, 'c'", "reason": HOSTILE}),
    "reset all": (f"{BREAKERS}reset/", {}),
    "reset one": (f"{BREAKERS}said.1/reset/", {"reason": HOSTILE}),
    "hold one": (
        f"{BREAKERS}said.1/control/",
        {"control": "disabled", "for_seconds": "900", "reason": HOSTILE},
    ),
    "forget one": (f"{BREAKERS}said.1/forget/", {"reason": HOSTILE}),
    "reset ticked": (f"{BREAKERS}-/reset/", {"names": ["said.1", "said.2"]}),
    "hold ticked": (
        f"{BREAKERS}-/control/",
        {"names": ["said.1", "said.2"], "control": "forced_open"},
    ),
}


def shown(page, name):
    text = unescape(re.search(rf'<pre id="aa-{name}"[^>]*>(.*?)</pre>', page.text, re.DOTALL)[1])
    return [text] if "reboot" in text else text.split("\n")  # a reason may have lines of its own


@pytest.mark.parametrize("case", PAGES)
def test_the_confirm_page_shows_lines_that_do_what_it_would_do(operator, case):
    url, pressed = PAGES[case]
    seen = {"expected_generation": services.describe_breaker("said.1").status.generation}
    page = operator.post(url, {**seen, **pressed})
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert "curl -X " in shown(page, "curl")[0]
    for command in shown(page, "command"):
        call_command(*shlex.split(command)[2:])
    by_command = list(Operation.objects.order_by("started_at").values("kind", "targets", "reason"))
    assert {row["reason"] for row in by_command} == {pressed.get("reason", "")}
    assert set(Operation.objects.values_list("status", flat=True)) == {"done"}
    targets = [row["targets"] for row in by_command]
    if case in {"clear", "tags"}:
        mode, tags = ("soft", []) if case == "clear" else ("hard", ["'c'", "a b"])
        assert targets == [{"mode": mode, "tags": tags}]
    elif "all" in case:
        assert targets == [{"names": "all", "only_open": False}]
    else:
        meant = ["said.1", "said.2"] if "ticked" in case else ["said.1"]
        assert sorted(name for it in targets for name in it["names"]) == meant


def test_a_page_shown_again_says_the_reason_that_was_given(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    page = operator.post(f"{CACHE}clear/", {"mode": "soft", "reason": "x" * 501, "confirmed": "y"})
    assert shown(page, "command") == ["python manage.py clear_search_cache --soft --no-input"]


def test_the_lines_name_the_site_by_which_the_page_was_asked_for(operator):
    page = operator.post(f"{BREAKERS}reset/", headers={"host": "localhost"}, secure=True)
    (line,) = shown(page, "curl")
    assert line.startswith("curl -X POST https://localhost/api/v1/analytics/circuit-breakers/reset")


def test_the_reset_command_insists_on_the_generation_of_one_breaker(operator):
    stale = run("reset_circuit_breakers", "said.1", "--if-generation=stale", "--no-input")
    assert (stale[0], stale[1]) == (1, "")
    assert "has changed meanwhile" in stale[2]
    for names in ([], ["said.1", "said.2"]):
        code, out, err = run("reset_circuit_breakers", *names, "--if-generation=x", "--no-input")
        assert (code, out) == (2, "")
        assert "--if-generation requires exactly one NAME" in err
    assert services.describe_breaker("said.1").status.state == "open"
