"""How the tests of the documentation read its pages: sections, tables, code blocks, links."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])

_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    """Return the text of a page below ``docs``."""
    return (DOCS / name).read_text()


def sections(text: str) -> dict[str, str]:
    """Return the text below each heading, up to the next heading of any level, by heading."""
    parts = re.split(r"^#+ +(.+)$", outside_code(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def outside_code(text: str) -> str:
    """Return the text without its code blocks."""
    return _FENCE.sub("", text)


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def blocks_by_section(text: str, language: str) -> dict[str, list[str]]:
    """Return the code blocks of one language by the heading above them."""
    # A heading stands after an empty line; a comment in a shell block does not.
    parts = re.split(r"(?:\A|(?<=\n\n))#+ +(.+)$", text, flags=re.MULTILINE)
    found = zip(parts[1::2], parts[2::2], strict=True)
    return {heading: code_blocks(part, language) for heading, part in found}


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield each table as its rows of cells, the header first."""
    for lines in re.findall(r"(?:^\|.*\|\n?)+", outside_code(text), re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines.split("\n")
        ]
        yield [row for row in rows if row != [""] and not set("".join(row)) <= set("-| ")]


def rows(text: str, head: str) -> list[list[str]]:
    """Return the rows of every table whose first column is headed so."""
    return [row for table in tables(text) if table[0][0] == head for row in table[1:]]


def names(cell: str) -> list[str]:
    """Return what the cell has between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(text: str, head: str) -> list[str]:
    """Return the names in the first cells of these rows."""
    return [name for row in rows(text, head) for name in names(row[0])]


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def part(page: str, heading: str) -> str:
    """Return what stands below a heading of a page, code included."""
    return page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
