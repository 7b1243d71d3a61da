"""The documentation is short, plain and connected: no dead link, no long sentences."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchor, outside_code

GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", outside_code(page.read_text()), re.MULTILINE)
    return {anchor(heading) for heading in headings}


def _sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence in paragraphs and lists; code counts as one word."""
    prose = re.sub(r"\]\([^)]*\)", "]", outside_code(text))
    prose = re.sub(r"`[^`]*`", "code", prose)
    prose = re.sub(r"^[#|].*$", "", prose, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", prose)
    sentences = [part for block in blocks for part in re.split(r"(?<=[.!?])\s+", block)]
    return [words for sentence in sentences if (words := re.findall(r"[\w'-]+", sentence))]


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code(page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, place = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not place or place in _anchors(there), target


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=_id)
def test_every_page_is_reached_from_the_index(page: Path) -> None:
    index = DOCS / "index.md"
    linked = re.findall(r"\]\(([^)#\s]+)", index.read_text())
    assert page == index or page in {(DOCS / target).resolve() for target in linked}


@pytest.mark.parametrize("page", GUIDES, ids=_id)
def test_sentences_are_short(page: Path) -> None:
    lengths = [len(words) for words in _sentences(page.read_text())]
    assert sum(lengths) / len(lengths) < 15
    assert max(lengths) <= 35
