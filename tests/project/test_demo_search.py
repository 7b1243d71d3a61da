"""The demo search: results, rejected requests, and where a result comes from."""

import runpy
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from analytics_admin.services import Actor, clear_search_cache
from project import urls
from project.demo import search
from project.demo.faults import Fault

PATH = "/api/v1/search"
pytestmark = pytest.mark.usefixtures("demo_catalog")


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
        "q=a&color=red",
        "Q=a",
        "q=a&" + "&".join(f"p{number}=" for number in range(1500)),
    ],
)
def test_a_bad_request_is_a_400_that_says_why_and_asks_nobody(
    query: str, fault: Callable[[Fault], None]
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


@pytest.mark.parametrize(("switch", "names"), [(True, ["search"]), (False, [])])
def test_it_is_served_only_where_the_setting_is_on(
    settings: Any, switch: bool, names: list[str]
) -> None:
    settings.DEMO_SEARCH = switch
    patterns = runpy.run_path(urls.__file__)["urlpatterns"]
    assert [each.name for each in patterns if getattr(each, "name", None) == "search"] == names
