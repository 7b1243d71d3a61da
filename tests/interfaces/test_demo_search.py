"""The demonstration's search: what it answers, from where, and what a fault makes of it."""

import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin.breakers import CircuitBreaker, registry
from analytics_admin.services import Actor, clear_search_cache
from project import urls
from project.demo import faults, search
from project.demo.faults import FaultSwitch
from project.demo.traffic import visit
from tests.breakers import state_now

PATH = "/api/v1/search"


@pytest.fixture(autouse=True)
def catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[CircuitBreaker]:
    """The breakers of the demonstration, declared for the test alone."""
    monkeypatch.setattr(registry, "_breakers", {})
    monkeypatch.setattr(registry, "_options", {})
    yield search.catalog()
    search.catalog.cache_clear()
    search.recommendations.cache_clear()


@pytest.fixture
def fault(settings: Any, tmp_path: Path) -> Callable[[faults.Fault], None]:
    """The switch, which every test finds untouched."""
    settings.DEMO_FOLDER = tmp_path / "demo"
    return FaultSwitch(settings.DEMO_FOLDER).set


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are stale by the time that they are asked for again."""
    monkeypatch.setattr(search, "FRESH_FOR", 0.02)


def ask(query: str = "red kettle", **parameters: Any) -> Any:
    return Client().get(PATH, {"q": query, **parameters})


def clear() -> None:
    clear_search_cache(actor=Actor.system("test"))


class TestAnswer:
    def test_it_has_these_fields_and_no_others(self) -> None:
        answer = ask("Red kettle")
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/json"
        assert answer["Cache-Control"] == "no-store"
        body = answer.json()
        assert list(body) == ["query", "page", "pages", "count", "results"]
        assert (body["query"], body["page"]) == ("Red kettle", 1)
        assert body["pages"] == -(-body["count"] // 10)
        assert [list(each) for each in body["results"]] == [["id", "title", "snippet"]] * 10
        assert body["results"][0]["title"].endswith("kettle")

    def test_pages_follow_each_other_and_beyond_the_last_is_a_404(self) -> None:
        first, second = ask("kettle").json(), ask("kettle", page=2).json()
        assert (first["page"], second["page"]) == (1, 2)
        assert not {each["id"] for each in first["results"]} & {
            each["id"] for each in second["results"]
        }
        beyond = ask("kettle", page=first["pages"] + 1)
        assert (beyond.status_code, beyond.json()["code"]) == (404, "not_found")

    def test_nothing_found_is_one_empty_page(self) -> None:
        body = ask("spaceship").json()
        assert (body["pages"], body["count"], body["results"]) == (1, 0, [])

    def test_head_has_the_headers_and_no_body(self) -> None:
        answer = Client().head(PATH, {"q": "kettle"})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer["X-Cache"] == "miss"

    @pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
    def test_other_methods_are_a_405(self, method: str) -> None:
        client = Client(enforce_csrf_checks=True)
        answer = getattr(client, method)(f"{PATH}?q=kettle")
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
        assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=",
        "q=%20%09",
        f"q={'x' * 201}",
        "q=red%00kettle",
        "q=%00",
        "q=a&q=b",
        "page=1",
        "q=a&page=0",
        "q=a&page=-1",
        "q=a&page=",
        "q=a&page=abc",
        "q=a&page=1.0",
        "q=a&page=%2B1",
        "q=a&page=%D9%A1",
        "q=a&page=1001",
        f"q=a&page={'9' * 5000}",
        "q=a&page=1&page=2",
        "q=a&colour=red",
        "Q=a",
        "q=a&" + "&".join(f"p{number}=" for number in range(1500)),
    ],
)
def test_a_bad_request_is_a_400_that_says_why_and_asks_nobody(
    query: str, fault: Callable[[faults.Fault], None]
) -> None:
    fault("on")
    answer = Client().get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == ["detail", "code"]
    assert answer.json()["code"] == "invalid"
    assert len(answer.json()["detail"]) < 120


@pytest.mark.parametrize(
    "query",
    [
        '"',
        'a" OR "b',
        "title:red",
        "NEAR(a b)",
        "a AND",
        "NOT",
        "*",
        "(",
        "' OR 1=1 --",
        "\x01",
        "🫖",
        "x" * 200,
        "<script>",
    ],
)
def test_signs_of_a_query_language_are_searched_for_as_they_are(query: str) -> None:
    answer = ask(query)
    assert answer.status_code == 200
    assert answer.json()["query"] == query


def test_bytes_that_are_no_text_are_no_500() -> None:
    assert Client().get(f"{PATH}?q=%FF%FE").status_code == 200


class TestCache:
    def test_a_miss_is_followed_by_hits_however_it_is_spelt(self) -> None:
        seen = [ask(query) for query in ("red kettle", "red kettle", " Kettle,  RED ")]
        assert [answer["X-Cache"] for answer in seen] == ["miss", "hit", "hit"]
        assert [answer["Age"] for answer in seen] == ["0"] * 3
        assert seen[0].json()["results"] == seen[2].json()["results"]
        assert seen[2].json()["query"] == "Kettle,  RED"

    def test_other_words_and_other_pages_are_other_entries(self) -> None:
        ask("kettle")
        assert ask("kettle", page=2)["X-Cache"] == "miss"
        assert ask("red kettle")["X-Cache"] == "miss"

    @pytest.mark.django_db(transaction=True)
    def test_after_a_clear_the_next_is_a_miss(self) -> None:
        ask()
        assert ask()["X-Cache"] == "hit"
        clear()
        assert [ask()["X-Cache"], ask()["X-Cache"]] == ["miss", "hit"]

    def test_clearing_the_tag_ends_the_results(self) -> None:
        ask()
        search.search_cache.clear_tags(["products"])
        assert ask()["X-Cache"] == "miss"

    def test_age_is_in_whole_seconds(self) -> None:
        ask()
        time.sleep(1.05)
        answer = ask()
        assert (answer["X-Cache"], answer["Age"]) == ("hit", "1")

    def test_with_the_store_away_it_is_computed(self, settings: Any) -> None:
        gone = {**settings.CACHES["search"], "LOCATION": "redis://127.0.0.1:1/1"}
        settings.CACHES = {**settings.CACHES, "search": gone}
        assert [ask()["X-Cache"], ask()["X-Cache"]] == ["bypass", "bypass"]


class TestFault:
    def test_a_failing_backend_is_a_503_until_it_works_again(
        self, fault: Callable[[faults.Fault], None]
    ) -> None:
        fault("on")
        answer = ask()
        assert (answer.status_code, answer["Retry-After"]) == (503, "1")
        assert answer.json()["code"] == "search_unavailable"
        assert "X-Cache" not in answer
        fault("off")
        assert ask()["X-Cache"] == "miss"

    def test_what_is_cached_is_served_all_the_same(
        self, fault: Callable[[faults.Fault], None]
    ) -> None:
        fault("off")
        ask()
        fault("on")
        assert ask()["X-Cache"] == "hit"

    @pytest.mark.usefixtures("short_lives")
    def test_what_is_past_its_time_stands_in_for_it(
        self, fault: Callable[[faults.Fault], None]
    ) -> None:
        fault("off")
        first = ask()
        fault("on")
        time.sleep(0.05)
        answer = ask()
        assert (answer.status_code, answer["X-Cache"]) == (200, "stale")
        assert answer.json() == first.json()

    def test_five_failures_open_the_circuit(
        self, fault: Callable[[faults.Fault], None], catalog: CircuitBreaker
    ) -> None:
        fault("on")
        for number in range(5):
            assert ask(f"kettle {number}").status_code == 503
        assert state_now(catalog) == "open"
        fault("off")
        answer = ask()  # the backend works, and is not asked
        assert answer.status_code == 503
        assert 1 <= int(answer["Retry-After"]) <= 30
        assert "catalog" not in answer.content.decode()

    @pytest.mark.usefixtures("short_lives")
    def test_an_open_circuit_serves_what_is_past_its_time(
        self, fault: Callable[[faults.Fault], None], catalog: CircuitBreaker
    ) -> None:
        fault("off")
        ask()
        fault("on")
        for number in range(5):
            ask(f"kettle {number}")
        assert state_now(catalog) == "open"
        time.sleep(0.05)
        assert ask()["X-Cache"] == "stale"

    def test_a_slow_backend_is_given_up_and_opens_the_circuit(
        self,
        fault: Callable[[faults.Fault], None],
        catalog: CircuitBreaker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(faults, "TIME_LIMIT", 0.05)
        fault("slow")
        began = time.monotonic()
        for number in range(5):
            assert ask(f"kettle {number}").status_code == 503
        assert time.monotonic() - began >= 0.25
        assert state_now(catalog) == "open"

    def test_sometimes_is_healthy_at_first_and_down_at_the_end_of_each_period(
        self, fault: Callable[[faults.Fault], None], settings: Any, monkeypatch: pytest.MonkeyPatch
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
        self, fault: Callable[[faults.Fault], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in ([], ["on"], [], ["slow"], ["sometimes"], ["off"]):
            call_command("demo_fault", *arguments)
        said = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()]
        assert said == ["off", "on", "on", "slow", "sometimes", "off"]

    def test_another_word_is_refused(self) -> None:
        with pytest.raises(CommandError, match="invalid choice"):
            call_command("demo_fault", "maybe")

    def test_what_cannot_be_read_is_said(self, settings: Any, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        settings.DEMO_FOLDER = tmp_path / "file"
        with pytest.raises(CommandError, match="cannot be used"):
            call_command("demo_fault", "on")

    def test_without_the_search_there_is_nothing_to_switch(self, settings: Any) -> None:
        settings.DEMO_SEARCH = False
        with pytest.raises(CommandError, match="DEMO_SEARCH is off"):
            call_command("demo_fault", "on")


@pytest.mark.parametrize(("switch", "names"), [(True, ["search"]), (False, [])])
def test_it_is_served_only_where_the_setting_is_on(
    settings: Any, switch: bool, names: list[str]
) -> None:
    settings.DEMO_SEARCH = switch
    patterns = runpy.run_path(urls.__file__)["urlpatterns"]
    assert [each.name for each in patterns if getattr(each, "name", None) == "search"] == names


def test_a_visitor_asks_the_endpoint_and_takes_an_open_circuit_for_an_answer(
    fault: Callable[[faults.Fault], None],
) -> None:
    seen = [visit("red kettle"), visit("red kettle")]
    assert [answer and answer["X-Cache"] for answer in seen] == ["miss", "hit"]
    fault("on")
    answers = [visit(f"kettle {number}") for number in range(6)]
    assert [answer and answer.status_code for answer in answers] == [503] * 5 + [None]


def test_recommendations_have_a_breaker_of_their_own(
    fault: Callable[[faults.Fault], None], catalog: CircuitBreaker
) -> None:
    assert any("kettle" in title for title in search.recommend("red kettle"))
    fault("on")
    for _ in range(3):
        with pytest.raises(faults.BackendDown):
            search.recommend("red kettle")
    assert state_now(search.recommendations()) == "open"
    assert state_now(catalog) == "closed"
