"""The guides to the breakers tell the truth: examples and recipes work as a site uses them."""

import asyncio
import json
import re
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import signals
from django.core.management import call_command
from rest_framework.test import APIRequestFactory

from analytics_admin.breakers import BreakerPolicy, CircuitOpenError, circuit_breaker
from analytics_admin.breakers.history import (
    MAX_FAILURES,
    MAX_PERIODS,
    MAX_TRANSITIONS,
    PERIOD_SECONDS,
    RETENTION_SECONDS,
)
from analytics_admin.breakers.judging import (
    ANSWER_SECONDS,
    SETTLE_SECONDS,
    SETTLING_INTERVALS,
)
from analytics_admin.breakers.outage import FIRST_RETRY_SECONDS
from analytics_admin.breakers.schedule import IDLE_AFTER_SECONDS
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.state_machine import LATE_SHARE
from analytics_admin.breakers.stores.base import MAX_NAMES
from analytics_admin.breakers.sync import REGISTRATION_RETRY_SECONDS
from analytics_admin.conf import AppSettings
from analytics_admin.services import Actor, set_breaker_control
from analytics_admin.stores.latency import MAX_WAIT_SECONDS
from analytics_admin.testing import SimulatedBreakers, simulated_breakers
from tests.docs.pages import blocks_by_section, read, sections
from tests.support.breakers import trip
from tests.support.separate_site import run_site

PROTECT = read("howto/protect-a-call.md")
POLICY = read("howto/choose-a-policy.md")
INCIDENT = read("howto/handle-an-incident.md")
TESTING = read("howto/test-your-code.md")
STATES = read("explanation/circuit-breakers.md")
IN_STEP = read("explanation/synchronization.md")
OUTAGES = read("explanation/outages.md")
BLOCKS = {
    heading: blocks
    for guide in (PROTECT, POLICY, INCIDENT, TESTING, STATES, IN_STEP, OUTAGES)
    for heading, blocks in blocks_by_section(guide, "python").items()
}


@cache
def example(heading: str) -> dict[str, Any]:
    """Run the section's only example, once like a module; return the names that it defines."""
    (block,) = BLOCKS[heading]
    return run(block, heading)


def run(block: str, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block, f"docs, {name}", "exec"), names)
    return names


@dataclass
class Backend:
    """A server on loopback; answers what it is told to."""

    url: str = ""
    status: int = 200
    answer: Any = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            backend.asked.append(urlsplit(self.path).path)
            body = json.dumps(backend.answer).encode()
            self.send_response(backend.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        backend.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield backend
        server.shutdown()
        thread.join()


@pytest.fixture
def breakers() -> Iterator[SimulatedBreakers]:
    with simulated_breakers() as simulated:
        yield simulated


def test_every_example_is_run_here() -> None:
    assert {heading for heading, blocks in BLOCKS.items() if blocks} == {
        "Protect a call",
        "Without a decorator",
        "Choose a rule",
        "Try a policy before it rejects calls",
        "Get paged",
        "Answer without the backend",
        "requests",
        "httpx",
        "Django REST framework",
        "Celery",
        "Test your own code",
        "Breakers",
        "A fleet of processes",
        "Cached searches",
        "Other test runners",
    }


@pytest.mark.parametrize("option", [item.name for item in fields(BreakerPolicy)])
def test_every_policy_option_is_explained(option: str) -> None:
    assert re.search(rf"^- .*`{option}`", POLICY, re.MULTILINE), option


@pytest.mark.parametrize("word", [*State, *Control])
def test_every_state_and_hold_is_drawn(word: str) -> None:
    drawn = STATES.split("```")[1]
    assert word in drawn or word in ("unknown", "automatic")


def test_their_numbers_are_the_engines() -> None:
    assert SETTLING_INTERVALS * AppSettings().sync_interval == 3
    assert "twelve intervals (3 s)" in IN_STEP
    assert SETTLING_INTERVALS * LATE_SHARE == 2
    assert "two intervals (0.5 s) late" in IN_STEP
    assert round(AppSettings().sync_interval + SETTLE_SECONDS, 3) == 0.3
    assert f"it counts after 0.3 s (`SYNC_INTERVAL` and {SETTLE_SECONDS} s)" in IN_STEP
    assert f"the run counts {ANSWER_SECONDS} s later" in IN_STEP
    outage = " ".join(sections(OUTAGES)["The breakers' store"].split())
    assert f"each {MAX_WAIT_SECONDS} s at most" in outage
    assert f"within `STORE_TIMEOUT` ({AppSettings().store_timeout:.0f} s)" in outage
    assert f"after {FIRST_RETRY_SECONDS} s" in outage
    assert IDLE_AFTER_SECONDS == 2
    assert "unused for two seconds" in IN_STEP
    assert (MAX_FAILURES, MAX_TRANSITIONS, RETENTION_SECONDS) == (10, 20, 7 * 86_400)
    assert "| failures | the last ten | seven days" in INCIDENT
    assert "| transitions | the last twenty | seven days" in INCIDENT
    assert (PERIOD_SECONDS, PERIOD_SECONDS * MAX_PERIODS) == (10, 300)
    assert "| calls | by ten seconds | five minutes |" in INCIDENT
    assert AppSettings().retire_breakers_after == timedelta(days=30)
    assert "for 30 days" in STATES
    assert f"At most {MAX_NAMES:,} names" in STATES
    assert REGISTRATION_RETRY_SECONDS == 60
    assert "asks again every minute" in STATES


@pytest.mark.django_db
@pytest.mark.parametrize("guide", [POLICY, INCIDENT], ids=["policy", "incident"])
def test_their_commands_work(guide: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^python manage.py (.+)$", guide, re.MULTILINE)
    assert len(lines) > 1
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    for line in lines:
        if line.startswith("allow_probe"):
            trip("catalog")
        call_command(*shlex.split(line))
    assert capsys.readouterr().err == ""


def test_the_forms_of_protection(breakers: SimulatedBreakers) -> None:
    first, with_permit = BLOCKS["Without a decorator"]
    declared = example("Protect a call")
    for names in (declared, run(first, "first"), run(with_permit, "with permit")):
        assert names["hits"] == {"results": ["lamp"]}
    breakers.trip("catalog")
    (block,) = BLOCKS["Protect a call"]
    assert 0 < run(block, "while open")["hits"]["retry_after"] <= 30


def test_the_receiver_of_what_would_have_opened(breakers: SimulatedBreakers, db: None) -> None:
    heard = example("Try a policy before it rejects calls")["too_strict"]
    tried = circuit_breaker("guide.tried", failure_threshold=2)
    tried.acquire().succeed()
    actor = Actor.system("root")
    set_breaker_control(name="guide.tried", control="metrics_only", actor=actor)
    for _ in range(4):
        tried.acquire().fail()
    assert heard == [("guide.tried", "consecutive_failures")]
    tried.acquire().succeed()


def test_the_rule_of_rates(breakers: SimulatedBreakers) -> None:
    search = example("Choose a rule")["search"]
    for number in range(50):
        permit = search.acquire()
        permit.fail() if number % 2 else permit.succeed()
    assert search.state == "open"
    breakers.advance(12)
    search.acquire().fail()
    breakers.advance(12)
    assert search.state == "open"  # 20 s the second time
    with pytest.raises(CircuitOpenError):
        search.acquire()


def test_the_receivers(breakers: SimulatedBreakers) -> None:
    names = example("Get paged")
    example("Choose a rule")
    breakers.trip("search")
    names["breaker_store_changed"].send(sender=None, reason="it is gone")
    names["breaker_store_changed"].send(sender=None, reason=None)
    assert names["pager"] == [
        "search has opened: consecutive_failures",
        "breakers' store is away: it is gone",
        "breakers' store is back",
    ]


def test_the_fallbacks(breakers: SimulatedBreakers) -> None:
    names = example("Answer without the backend")
    fetch, count = names["fetch_reviews"], names["count_reviews"]
    assert names["found"] == fetch("lamp") == ["lamp is fine"]
    assert asyncio.run(count("lamp")) == 1
    breakers.trip("reviews")
    assert (fetch("lamp"), fetch("chair")) == (["lamp is fine"], [])
    assert asyncio.run(count("lamp")) == 0


def test_the_recipe_for_requests(
    breakers: SimulatedBreakers, backend: Backend, settings: Any
) -> None:
    settings.STOCK_URL = backend.url
    names = example("requests")
    in_stock = names["in_stock"]
    backend.answer = {"number": 3}
    assert in_stock("lamp") == 3
    backend.status = 404
    assert [in_stock("no-such") for _ in range(6)] == [0] * 6
    assert names["stock"].state == "closed"
    backend.status = 503
    for _ in range(5):
        with pytest.raises(names["requests"].HTTPError):
            in_stock("lamp")
    asked = len(backend.asked)
    with pytest.raises(CircuitOpenError):
        in_stock("lamp")
    assert len(backend.asked) == asked
    breakers.advance(60)
    backend.status = 200
    assert in_stock("lamp") == 3


def test_the_recipe_for_httpx(breakers: SimulatedBreakers, backend: Backend, settings: Any) -> None:
    settings.PRICES_URL = backend.url
    names = example("httpx")
    ask_price, ask_prices = names["ask_price"], names["ask_prices"]
    backend.answer = {"price": 7}
    assert ask_price("lamp").json() == asyncio.run(ask_prices("lamp", "chair")).json()
    backend.status = 500
    for _ in range(4):
        assert ask_price("lamp").status_code == 500
    assert asyncio.run(ask_prices("lamp")).status_code == 500
    with pytest.raises(CircuitOpenError):
        ask_price("lamp")
    with pytest.raises(CircuitOpenError):
        asyncio.run(ask_prices("lamp"))


def test_the_recipe_for_httpx_sees_a_refused_connection(
    breakers: SimulatedBreakers, settings: Any
) -> None:
    settings.PRICES_URL = "http://127.0.0.1:1"
    names = example("httpx")
    for _ in range(5):
        with pytest.raises(names["httpx"].ConnectError):
            names["ask_price"]("lamp")
    assert names["prices"].state == "open"


def test_the_recipe_for_rest_framework(breakers: SimulatedBreakers, settings: Any) -> None:
    names = example("Django REST framework")
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": names["handle"]}
    view = names["SearchView"].as_view()
    request = APIRequestFactory().get("/search", {"q": "lamp"})
    assert view(request).data == {"results": ["lamp"]}
    breakers.trip("ranking")
    response = view(request)
    assert (response.status_code, response["Retry-After"]) == (503, "60")
    assert response.data == {"detail": "Temporarily unavailable; please try again later."}


def test_the_recipe_for_celery(
    breakers: SimulatedBreakers, backend: Backend, settings: Any
) -> None:
    settings.MAILER_URL = backend.url
    names = example("Celery")
    names["app"].conf.task_always_eager = True
    breakers.trip("mailer")
    waits = []

    def come_back_later(*, reason: Any, **_: object) -> None:
        waits.append(reason.when)
        breakers.advance(reason.when)

    signals.task_retry.connect(come_back_later)
    try:
        result = names["send_receipt"].delay("order-1")
    finally:
        signals.task_retry.disconnect(come_back_later)
    assert result.get() == "sent order-1"
    assert backend.asked == ["/receipts/order-1"]
    assert len(waits) == 1
    assert 59 < waits[0] <= 90


def test_the_recipes_for_tests(tmp_path: Path) -> None:
    conftest, shop = BLOCKS["Test your own code"]
    recipes = {
        f"test_{number}.py": block
        for number, heading in enumerate(
            ["Breakers", "A fleet of processes", "Cached searches", "Other test runners"]
        )
        for block in BLOCKS[heading]
    }
    assert len(recipes) == 4
    tests = sum(block.count("def test_") for block in recipes.values())
    site = {"conftest.py": conftest, "shop.py": shop, **recipes}
    told = run_site(tmp_path, site, "pytest", "-p", "no:cacheprovider", "-W", "error")
    assert f"{tests} passed" in told
