"""The demo's fault switch: what visitors get while the backend fails or hangs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin.breakers import CircuitBreaker
from project.demo import faults, search
from project.demo.faults import Fault
from project.demo.traffic import visit
from tests.support.breakers import state_now

pytestmark = pytest.mark.usefixtures("demo_catalog")


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are stale by the time that they are asked for again."""
    monkeypatch.setattr(search, "FRESH_FOR", 0.02)


def ask(query: str = "red kettle", **parameters: Any) -> Any:
    return Client().get("/api/v1/search", {"q": query, **parameters})


class TestFault:
    def test_a_failing_backend_is_a_503_until_it_works_again(
        self, fault: Callable[[Fault], None]
    ) -> None:
        fault("on")
        answer = ask()
        assert (answer.status_code, answer["Retry-After"]) == (503, "1")
        assert answer.json()["code"] == "search_unavailable"
        assert "X-Cache" not in answer
        fault("off")
        assert ask()["X-Cache"] == "miss"

    def test_what_is_cached_is_served_all_the_same(self, fault: Callable[[Fault], None]) -> None:
        fault("off")
        ask()
        fault("on")
        assert ask()["X-Cache"] == "hit"

    @pytest.mark.usefixtures("short_lives")
    def test_what_is_past_its_time_stands_in_for_it(self, fault: Callable[[Fault], None]) -> None:
        fault("off")
        first = ask()
        fault("on")
        time.sleep(0.05)
        answer = ask()
        assert (answer.status_code, answer["X-Cache"]) == (200, "stale")
        assert answer.json() == first.json()

    def test_five_failures_open_the_circuit(
        self, fault: Callable[[Fault], None], demo_catalog: CircuitBreaker
    ) -> None:
        fault("on")
        for number in range(5):
            assert ask(f"kettle {number}").status_code == 503
        assert state_now(demo_catalog) == "open"
        fault("off")
        answer = ask()  # the backend works, and is not asked
        assert answer.status_code == 503
        assert 1 <= int(answer["Retry-After"]) <= 30
        assert "catalog" not in answer.content.decode()

    @pytest.mark.usefixtures("short_lives")
    def test_an_open_circuit_serves_what_is_past_its_time(
        self, fault: Callable[[Fault], None], demo_catalog: CircuitBreaker
    ) -> None:
        fault("off")
        ask()
        fault("on")
        for number in range(5):
            ask(f"kettle {number}")
        assert state_now(demo_catalog) == "open"
        time.sleep(0.05)
        assert ask()["X-Cache"] == "stale"

    def test_a_slow_backend_is_given_up_and_opens_the_circuit(
        self,
        fault: Callable[[Fault], None],
        demo_catalog: CircuitBreaker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(faults, "TIME_LIMIT", 0.05)
        fault("slow")
        began = time.monotonic()
        for number in range(5):
            assert ask(f"kettle {number}").status_code == 503
        assert time.monotonic() - began >= 0.25
        assert state_now(demo_catalog) == "open"

    def test_sometimes_is_healthy_at_first_and_down_at_the_end_of_each_period(
        self, fault: Callable[[Fault], None], settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fault("sometimes")
        now = time.time()
        outcomes = {}
        for later in (0, 79, 81, 89, 91, 171, 181):
            monkeypatch.setattr(faults.time, "time", lambda later=later: now + later)
            outcomes[later] = ask(f"kettle {later}").status_code
        assert outcomes == {0: 200, 79: 200, 81: 503, 89: 503, 91: 200, 171: 503, 181: 200}

    def test_a_folder_that_cannot_be_made_is_a_503(self, settings: Any, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        settings.DEMO_FOLDER = tmp_path / "file" / "demo"
        assert ask().status_code == 503


class TestSwitch:
    def test_the_command_sets_it_and_says_how_it_stands(
        self, fault: Callable[[Fault], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in ([], ["on"], [], ["slow"], ["sometimes"], ["off"]):
            call_command("demo_fault", *arguments)
        values = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()]
        assert values == ["off", "on", "on", "slow", "sometimes", "off"]

    def test_another_word_is_refused(self) -> None:
        with pytest.raises(CommandError, match="invalid choice"):
            call_command("demo_fault", "maybe")

    def test_what_cannot_be_read_is_said(self, settings: Any, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        settings.DEMO_FOLDER = tmp_path / "file"
        with pytest.raises(CommandError, match="cannot access the fault switch"):
            call_command("demo_fault", "on")

    def test_without_the_search_there_is_nothing_to_switch(self, settings: Any) -> None:
        settings.DEMO_SEARCH = False
        with pytest.raises(CommandError, match="DEMO_SEARCH is off"):
            call_command("demo_fault", "on")


def test_a_visitor_asks_the_endpoint_and_takes_an_open_circuit_for_an_answer(
    fault: Callable[[Fault], None],
) -> None:
    seen = [visit("red kettle"), visit("red kettle")]
    assert [answer and answer["X-Cache"] for answer in seen] == ["miss", "hit"]
    fault("on")
    answers = [visit(f"kettle {number}") for number in range(6)]
    assert [answer and answer.status_code for answer in answers] == [503] * 5 + [None]


def test_recommendations_have_a_breaker_of_their_own(
    fault: Callable[[Fault], None], demo_catalog: CircuitBreaker
) -> None:
    assert any("kettle" in title for title in search.recommend("red kettle"))
    fault("on")
    for _ in range(3):
        with pytest.raises(faults.BackendDown):
            search.recommend("red kettle")
    assert state_now(search.recommendations) == "open"
    assert state_now(demo_catalog) == "closed"
