"""The demo's products are the same everywhere, and its search finds the right ones."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from project.demo.index import PAGE_SIZE, Index, terms_of
from project.demo.products import EDITION, products


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index(tmp_path_factory.mktemp("demo"))
    assert index.build()
    return index


def titles(index: Index, query: str, page: int = 1) -> list[str]:
    return [each["title"] for each in index.search(terms_of(query), page=page).results]


def test_the_goods_are_some_thousand_and_no_two_have_one_title() -> None:
    goods = list(products())
    assert len(goods) == len({each.title for each in goods}) == 4032
    assert [each.number for each in goods] == list(range(1, 4033))


def test_other_goods_are_another_edition() -> None:
    """Fails when words were changed: raise EDITION, and put the new digest here."""
    digest = hashlib.sha256(repr(list(products())).encode()).hexdigest()[:16]
    assert (EDITION, digest) == (1, "9a52112f0594c350")


def test_what_has_the_words_in_its_title_comes_first(index: Index) -> None:
    found = index.search(terms_of("red kettle"))
    assert found.count > 6
    top = [each["title"] for each in found.results[:6]]
    assert all(title.startswith("Red ") and title.endswith(" kettle") for title in top)
    assert found.results[0].keys() == {"id", "title", "snippet"}
    assert "*kettle*" in found.results[0]["snippet"]


def test_all_words_must_be_there_or_any_if_so_asked(index: Index) -> None:
    words = terms_of("oak kettle")
    assert index.search(words).count == 0
    assert index.search(words, all_words=False).count > 100


@pytest.mark.parametrize("query", ["chair", "chairs", "CHAIR", "chair chairs", "chair?!"])
def test_number_case_and_signs_make_no_difference(index: Index, query: str) -> None:
    assert titles(index, query) == titles(index, "chair") != []


def test_pages_do_not_overlap_and_end(index: Index) -> None:
    count = index.search(["kettle"]).count
    pages = [titles(index, "kettle", page) for page in range(1, count // PAGE_SIZE + 3)]
    seen = [title for page in pages for title in page]
    assert len(seen) == len(set(seen)) == count
    assert pages[-1] == []


@pytest.mark.parametrize(
    "query",
    [
        'red"kettle',
        "red AND kettle",
        "red NOT kettle",
        "NEAR(red kettle)",
        "title:red",
        "red*",
        "^red",
        "-red",
        "{red}:",
        "red + kettle",
        "' OR 1=1 --",
        "\x01\x7f",
        "\ufffd",
        "²",
        "ﬁ",
        "🫖",
        "\u0301",
        "_",
        "a" * 200,
        "a " * 100,
    ],
)
def test_nothing_in_a_query_is_an_operator(index: Index, query: str) -> None:
    found = index.search(terms_of(query))
    assert 0 <= found.count <= 4032


def test_a_word_that_looks_like_an_operator_is_searched_for(index: Index) -> None:
    assert index.search(terms_of("red NOT kettle")).count == 0
    assert index.search(terms_of("red AND kettle")).count > 0  # "and" is in each text


def test_the_order_and_the_number_of_words_do_not_matter() -> None:
    assert terms_of("Red  kettle") == terms_of("kettle, red red!") == ("kettle", "red")
    assert terms_of("*-_'") == ()


def test_it_is_built_once_and_again_when_it_is_gone_or_damaged(tmp_path: Path) -> None:
    index = Index(tmp_path / "new" / "demo")
    assert [index.build(), index.build()] == [True, False]
    index.path.unlink()
    assert index.search(["kettle"]).count > 0
    index.path.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        index.search(["kettle"])
    assert index.search(["kettle"]).count > 0


def test_what_a_killed_builder_left_is_no_obstacle(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.path.with_suffix(".draft").write_bytes(b"half of it")
    index.path.with_suffix(".lock").touch()
    assert index.build()
    assert index.search(["kettle"]).count > 0
