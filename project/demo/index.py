"""Full-text search over the products: one SQLite FTS5 file, whatever database the site uses.

The file is generated from code: it needs no migration, backup or server.
"""

import fcntl
import re
import sqlite3
import unicodedata
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project.demo.products import EDITION, products
from project.files import make_private_file, make_private_folder, open_private

PAGE_SIZE = 10
TITLE_WEIGHT = 5.0
"""Weight of a word in the title, relative to one in the text."""
_FIND = f"""
    SELECT rowid AS id, title, snippet(products, 1, '*', '*', '…', 12) AS snippet
    FROM products WHERE products MATCH ?
    ORDER BY bm25(products, {TITLE_WEIGHT}, 1.0), rowid LIMIT ? OFFSET ?
"""  # noqa: S608  a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """One page of matches, best first, and the total count."""

    count: int
    results: list[dict[str, Any]]


def terms_of(query: str) -> tuple[str, ...]:
    """Return the unique words of a query, sorted; punctuation only separates them."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", query).lower())
    return tuple(sorted(set(words)))


class Index:
    """The index in a folder; many processes may build and query it at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"products-{EDITION}.sqlite3"

    def build(self) -> bool:
        """Create the index if it is missing; return whether it was.

        Other processes wait meanwhile, and none sees a partial index.

        Raises:
            OSError, sqlite3.Error: the folder or the file cannot be created.
        """
        if self.path.exists():
            return False
        make_private_folder(self.path.parent)
        with open(self.path.with_suffix(".lock"), "a", opener=open_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                return False
            draft = self.path.with_suffix(".draft")
            draft.unlink(missing_ok=True)  # of a process that was killed
            make_private_file(draft)
            _write(draft)
            draft.replace(self.path)
        return True

    def search(self, terms: Iterable[str], *, page: int = 1, all_words: bool = True) -> SearchPage:
        """Return the page of products with all of the words, or with any of them.

        Raises:
            OSError, sqlite3.Error: the index cannot be read or built. A damaged one is deleted;
                the next call rebuilds it.
        """
        match = (" AND " if all_words else " OR ").join(f'"{term}"' for term in terms)
        if not match:
            return SearchPage(count=0, results=[])
        self.build()
        try:
            return self._query(match, page)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            with suppress(FileNotFoundError):
                self.path.unlink()
            raise

    def _query(self, match: str, page: int) -> SearchPage:
        address = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(_FIND, (match, PAGE_SIZE, (page - 1) * PAGE_SIZE)).fetchall()
            total = "SELECT count(*) FROM products WHERE products MATCH ?"
            count: int = database.execute(total, (match,)).fetchone()[0]
        return SearchPage(count=count, results=[dict(row) for row in rows])


def _write(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        # Porter's stemmer: "chairs" finds "chair".
        database.execute(
            "CREATE VIRTUAL TABLE products USING fts5(title, text, tokenize='porter unicode61')"
        )
        database.executemany(
            "INSERT INTO products (rowid, title, text) VALUES (?, ?, ?)", products()
        )
        database.execute("INSERT INTO products (products) VALUES ('optimize')")
