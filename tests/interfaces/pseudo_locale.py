"""A language that no program knows by heart: every translated text stands between ⟦ and ⟧.

What a page shows outside of such brackets was not translated, or is data.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from django.utils import translation
from django.utils.translation import trans_real

PSEUDO = "de"  # one that Django knows, whose own words are replaced for a while
READ_ALOUD = {"alt", "aria-description", "aria-label", "placeholder", "title"}
UNSEEN = {"script", "style", "template", "head"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class _Pseudo:
    """Stands where Django keeps a language's catalogue."""

    domain = "django"

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def gettext(self, message: str) -> str:
        return f"⟦{message.rsplit(chr(4), 1)[-1]}⟧" if message.strip() else message

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        return self.gettext(singular if number == 1 else plural)


@contextmanager
def pseudo_locale() -> Iterator[str]:
    """Let the language PSEUDO be the pseudo one; yields its code."""
    real = trans_real.translation(PSEUDO)
    trans_real._translations[PSEUDO] = _Pseudo(real)
    try:
        with translation.override(PSEUDO):
            yield PSEUDO
    finally:
        trans_real._translations[PSEUDO] = real


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._end_text(tag)
        for name, value in attributes:
            button = tag == "input" and ("type", "submit") in attributes and name == "value"
            if (name in READ_ALOUD or button or name.startswith("data-aa-over")) and value:
                self.found.append(value)
        if tag not in VOID:
            self._open.append((tag, any(name == "data-verbatim" for name, _ in attributes)))

    def handle_endtag(self, tag: str) -> None:
        self._end_text(tag)
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not any(tag in UNSEEN for tag, _ in self._open):
            self._text.append(data)

    def _end_text(self, tag: str) -> None:
        """Words go on within a line: a sentence may hold a link, a name or a number."""
        if tag not in {"a", "bdi", "code", "em", "q", "span", "strong", "time"}:
            self.found.append("".join(self._text))
            self._text = []


def untranslated(page: str) -> list[str]:
    """Return the texts of a page, seen or read aloud, that have letters outside of brackets."""
    parser = _Texts()
    parser.feed(page)
    parser.close()
    left = (_outside(text) for text in parser.found)
    return sorted({text for text in left if re.search(r"[^\W\d_]{2}", text)})


def _outside(text: str) -> str:
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
        text = shorter
    return " ".join(text.split())
