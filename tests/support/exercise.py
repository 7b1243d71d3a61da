"""Everything that the app offers, done once, as a program: one line of JSON for each step.

It runs in a site's own process, against whatever its settings name. A step is right if its function
returns without an exception, and if what it returns is not False.
"""

import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from django.contrib.auth import get_user_model
from django.core.cache import caches
from django.core.management import call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.services import Actor

ACTOR = Actor.system("exercise")
PAGES = ("", "circuitbreaker/", "circuitbreaker/catalog/", "searchcache/", "operation/")
REQUESTS = (
    ("GET", "cache"),
    ("POST", "cache/clear"),
    ("POST", "cache/clear", {"mode": "soft"}),
    ("POST", "cache/undo"),
    ("GET", "circuit-breakers"),
    ("GET", "circuit-breakers/catalog"),
    ("POST", "circuit-breakers/reset"),
    ("GET", "operations"),
)
COMMANDS = (
    ("clear_search_cache", "--no-input"),
    ("search_cache",),
    ("circuit_breakers",),
    ("reset_circuit_breakers", "--no-input"),
    ("sweep_search_cache", "--no-input"),
)
UNUSABLE = ("does not answer", "not usable", "cannot be reached")
"""What a page says of a store that it could not read."""
SEES_OPEN = """
import django
django.setup()
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
circuit_breaker("mistyped").call(int)
try:
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30).call(int)
except CircuitOpenError:
    print("open")
"""

_steps: list[tuple[str, Callable[[], Any]]] = []


def step(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        _steps.append((name, function))
        return function

    return add


def _checked(**options: Any) -> str:
    """Return what the checks say; raise for an error among it."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        call_command("check", stdout=said, stderr=said, **options)
    return said.getvalue()


@step("check")
def _() -> str:
    return _checked()


@step("check --deploy")
def _() -> str:
    return _checked(deploy=True)


@step("the site's own cache")
def _() -> bool:
    caches["default"].set("exercise", {"a": 1}, 30)
    return bool(caches["default"].get("exercise") == {"a": 1})


def _fail() -> None:
    raise ZeroDivisionError


def _tries(breaker: Any, call: Callable[[], Any]) -> bool:
    """Return whether the breaker lets the call pass."""
    try:
        with suppress(ZeroDivisionError):
            breaker.call(call)
    except CircuitOpenError:
        return False
    return True


@step("a breaker opens after five failures")
def _() -> bool:
    catalog = circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    return all(_tries(catalog, _fail) for _ in range(5)) and not _tries(catalog, int)


@step("rates of calls and of seconds")
def _() -> bool:
    kinds = ("count_based", "time_based")
    breakers = [
        circuit_breaker(
            f"rates.{kind}",
            failure_threshold=None,
            failure_rate_threshold=50,
            minimum_number_of_calls=10,
            sliding_window_type=kind,
            sliding_window_size=30,
        )
        for kind in kinds
    ]
    passed = [
        _tries(breaker, int if number % 3 else _fail)
        for breaker in breakers
        for number in range(20)
    ]
    return all(passed)


@step("another process sees the breaker open")
def _() -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        command = [sys.executable, "-c", SEES_OPEN]
        other = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if other.stdout.strip() == "open":
            return True
    return False


@step("list breakers")
def _() -> bool:
    states = {breaker.name: breaker.state for breaker in services.list_breakers()}
    return states["catalog"] == "open" and "mistyped" in states


@step("page of breakers with their activity")
def _() -> bool:
    return len(services.page_breakers(activity=True).breakers) == 4


@step("describe a breaker")
def _() -> bool:
    return "open" in str(services.describe_breaker("catalog"))


@step("allow a probe")
def _() -> str:
    return services.allow_probe(name="catalog", actor=ACTOR).message


@step("hold a breaker")
def _() -> str:
    held = {"name": "catalog", "control": "forced_open"}
    return services.set_breaker_control(**held, actor=ACTOR).message


@step("release it")
def _() -> str:
    freed = {"name": "catalog", "control": "automatic"}
    return services.set_breaker_control(**freed, actor=ACTOR).message


@step("reset all breakers")
def _() -> str:
    return services.reset_circuit_breakers(actor=ACTOR).message


@step("preview of a reset")
def _() -> str:
    return str(services.reset_circuit_breakers(actor=ACTOR, dry_run=True))


@step("forget a breaker")
def _() -> str:
    return services.forget_breaker(name="mistyped", actor=ACTOR).message


def _look_up() -> str:
    tags = ["products", "prices"]
    return str(search_cache.lookup("first", lambda: {"a": 1}, timeout=60, tags=tags).state)


@step("a miss, then a hit")
def _() -> bool:
    return (_look_up(), _look_up()) == ("miss", "hit")


@step("set, read many, delete, clear tags")
def _() -> bool:
    names = [f"many.{number}" for number in range(20)]
    is_set = all(search_cache.set(name, name, timeout=60) for name in names)
    are_read = len(search_cache.get_many(names)) == len(names)
    is_deleted = search_cache.delete(names[3]) and search_cache.get(names[3]) is None
    search_cache.clear_tags(["products"])
    return is_set and are_read and is_deleted and _look_up() == "miss"


@step("describe the search cache")
def _() -> bool:
    search_cache.flush()
    status = services.describe_search_cache(minutes=5)
    return status.reachable and not status.statistics_unavailable and bool(status.last_hour)


@step("preview of a clear")
def _() -> str:
    return str(services.clear_search_cache(actor=ACTOR, dry_run=True))


@step("clear")
def _() -> str:
    return services.clear_search_cache(actor=ACTOR).message


@step("a miss after the clear")
def _() -> bool:
    return _look_up() == "miss"


@step("soft clear")
def _() -> str:
    return services.clear_search_cache(actor=ACTOR, mode="soft").message


@step("undo it")
def _() -> str:
    return services.undo_clear(actor=ACTOR).message


@step("clear by tags")
def _() -> str:
    return services.clear_search_cache(actor=ACTOR, tags=["products", "none"]).message


@step("sweep")
def _() -> str:
    return services.sweep_search_cache(actor=ACTOR).message


_browser = Client()
_token: list[str] = []


def _page(path: str) -> Callable[[], bool]:
    def read() -> bool:
        answer = _browser.get(f"/admin/analytics_admin/{path}" if path else "/admin/", follow=True)
        text = answer.content.decode()
        assert not any(words in text for words in UNUSABLE), path
        return answer.status_code == 200

    return read


for _path in PAGES:
    step(f"page {_path or 'of the admin'}")(_page(_path))


@step("log in over REST")
def _() -> bool:
    answer = _browser.post(
        "/api/v1/auth/token",
        json.dumps({"username": "root", "password": "pw"}),
        content_type="application/json",
    )
    _token.append(answer.json()["access"])
    return answer.status_code == 200


def _request(method: str, path: str, body: Any = None) -> Callable[[], bool]:
    def send() -> bool:
        options: dict[str, Any] = {"headers": {"authorization": f"Bearer {_token[0]}"}}
        if method == "POST":
            options |= {"data": json.dumps(body or {}), "content_type": "application/json"}
        answer = _browser.generic(method, f"/api/v1/analytics/{path}", **options)
        assert answer.status_code == 200, answer.content
        return True

    return send


for _method, _path, *_body in REQUESTS:
    step(f"{_method} {_path} {_body or ''}".strip())(_request(_method, _path, *_body))


def _command(*arguments: str) -> Callable[[], str]:
    def run() -> str:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            call_command(*arguments, stdout=said, stderr=said)
        return said.getvalue()

    return run


for _arguments in COMMANDS:
    step(f"command {_arguments[0]}")(_command(*_arguments))


def main() -> None:
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    call_command("migrate", verbosity=0)
    _browser.force_login(get_user_model().objects.create_superuser("root", "", "pw"))
    for name, function in _steps:
        try:
            told = function()
        except (Exception, SystemExit) as error:
            told, is_right = f"{type(error).__name__}: {error}", False
        else:
            is_right = told is not False
        line = {"step": name, "right": is_right, "told": str(told)[:500]}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
