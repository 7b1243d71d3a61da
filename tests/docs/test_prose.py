"""The documentation is short, plain and connected: no dead link, no long sentences."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchor, names, outside_code, read, rows


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


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_sentences_are_short(page: Path) -> None:
    lengths = [len(words) for words in _sentences(page.read_text())]
    assert sum(lengths) / len(lengths) < 15
    assert max(lengths) <= 35


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_what_it_shows_in_bold_is_what_the_console_says(page: Path) -> None:
    """Bold text is a label of the console, unless it ends in a stop: then it begins a paragraph."""
    app = ROOT / "analytics_admin"
    shown = "".join(path.read_text() for kind in ("py", "html") for path in app.rglob(f"*.{kind}"))
    bold = re.findall(r"\*\*([^*]+)\*\*", " ".join(outside_code(page.read_text()).split()))
    labels = [label for text in bold for label in text.split(" \u203a ")]
    known = shown.lower()
    assert [it for it in labels if it[-1] not in ".:" and it.lower() not in known] == []


@pytest.mark.parametrize("page", ["explanation/architecture.md", "contributing.md"])
def test_every_file_it_names_exists(page: str) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|\w+\.py)`", read(page))
    assert named
    places = [ROOT / "analytics_admin", ROOT, ROOT / "analytics_admin" / "breakers"]
    for name in named:
        if name in ("operations.py", "queries.py", "var/screenshots/"):
            continue
        assert any((place / name).exists() for place in places), name


def test_the_changelog_renames_what_was_to_what_is() -> None:
    app = ROOT / "analytics_admin"
    source = "".join(path.read_text() for path in app.rglob("*.py"))
    words = set(re.findall(r"\w+", source))
    changelog = (ROOT / "CHANGELOG.md").read_text()
    renamed, in_templates = rows(changelog, "old"), rows(changelog, "old in templates")
    assert len(renamed) > 10
    for _, new in [*renamed, *in_templates]:
        assert {name.split(".")[-1] for name in names(new)} <= words
    for old, _ in renamed:
        for name in names(old):
            exported = re.search(rf"\b(?:def|class) {name.split('.')[-1]}\b|\"{name}\",", source)
            assert not exported, name


def test_the_changelog_renames_what_was_in_the_html_to_what_is() -> None:
    folder = ROOT / "analytics_admin/templates/admin/analytics_admin"
    html = "".join(path.read_text() for path in folder.iterdir())
    files = {path.name for path in folder.iterdir()}

    def is_there(name: str) -> bool:
        if name.endswith(".html"):
            return name in files
        if name.startswith("aa-"):
            return bool(re.search(rf'[" ]{name}[" ]', html))
        return f"{{% block {name} %}}" in html

    renamed = rows((ROOT / "CHANGELOG.md").read_text(), "old in the console's HTML")
    new = {name for _, cell in renamed for name in names(cell)}
    assert {name for name in new if not is_there(name)} == set()
    assert {name for old, _ in renamed for name in names(old) if is_there(name)} <= new
